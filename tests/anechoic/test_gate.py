"""The gate from the command line to the exit code, on the wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]

VERDICT_KEYS = {
    "format_version", "verdict", "safe", "live", "honest", "exit_code", "seed", "coordinator", "gateway", "counts", "contracts",
    "violations", "reached", "faults", "reproduce",
}
PATIENT = ("--env", "TOOL_TIMEOUT=10", "--env", "CLIENT_TIMEOUT=10")
"""For a coordinator that takes a slow machine for a lost answer."""
COUNTS = {"turns", "tool_calls", "effects", "duplicates", "lost", "unattributed"}


def verdict(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "report" / "verdict.json").read_text())
    return data


def test_a_calm_day_passes(anechoic: Run, tmp_path: Path) -> None:
    """Without faults the design as deployed does everything exactly once, and the report directory is complete."""
    done = anechoic(
        "gate", "--coordinator", "as_deployed", "--plan", "none", "--turns", "12", "--seed", "1", "--report-dir", "report",
        *PATIENT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = verdict(tmp_path)
    assert set(data) >= VERDICT_KEYS
    assert set(data["counts"]) == COUNTS
    assert (data["verdict"], data["safe"], data["live"], data["honest"], data["exit_code"]) == ("pass", "pass", "pass", "pass", 0)
    assert data["counts"]["effects"] == data["counts"]["tool_calls"] > 12
    assert data["reproduce"] in done.stdout
    assert {p.name for p in (tmp_path / "report").iterdir()} == {
        "history.jsonl", "verdict.json", "plan.json", "junit.xml", "report.html", "logs",
    }
    assert {"coordinator-1.out", "coordinator-3.err", "llm-serve.log", "tool-gw.log"} <= {
        p.name for p in (tmp_path / "report" / "logs").iterdir()
    }
    again = anechoic("check", "report/history.jsonl", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["contracts"] == data["contracts"]


def test_stale_polls_break_the_design_as_deployed_and_the_story_is_told(anechoic: Run, tmp_path: Path) -> None:
    """SAFE fails, each violation names the call, its effects (one for each poll that was stale) and the events; the same seed has the same turns."""
    done = anechoic(
        "gate", "--coordinator", "as_deployed", "--plan", "stale-polls", "--turns", "6", "--seed", "2", "--report-dir", "report"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    data = verdict(tmp_path)
    assert (data["verdict"], data["safe"]) == ("fail", "fail")
    violation = next(v for v in data["violations"] if v["contract"] == "C1")
    assert len(violation["effects"]) >= 2
    assert violation["run_id"].startswith("run_")
    assert violation["tool_call_id"].startswith("call_")
    assert violation["events"] == sorted(violation["events"])
    assert data["faults"] == [{"rule": "stale-polls/1", "fired": data["faults"][0]["fired"]}]
    assert data["faults"][0]["fired"] > 0
    assert f"committed {violation['effects'][0]}" in done.stdout
    assert "reproduce: anechoic gate --coordinator as_deployed" in done.stdout


@pytest.mark.parametrize("gateway", ["keyless", "keyed", "lookup", "fenced"])
def test_the_hardened_design_holds(anechoic: Run, tmp_path: Path, gateway: str) -> None:
    """The faults of the incident, and a crash at the worst moment, one after the other."""
    plans = ["stale-polls", "commit-then-lose-reply", "kill-after-commit", "regenerated-new-ids", "lost-submit-reply", "resend-turn"]
    words = [word for plan in plans for word in ("--plan", plan)]
    done = anechoic(
        "gate", "--coordinator", "hardened", "--gateway", gateway, *words, "--turns", "18", "--seed", "3", "--report-dir", "report"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict(tmp_path)["counts"]["duplicates"] == 0


def test_a_plan_that_never_fires_is_vacuous(anechoic: Run, tmp_path: Path) -> None:
    """Nothing is green when the thing that the plan is about did not happen: exit code 3."""
    (tmp_path / "never.toml").write_text(
        '[[rules]]\nwhen = { event = "tool_requested", tool = "no_such_tool" }\ndo = { fault = "slow" }\n'
    )
    done = anechoic("gate", "--coordinator", "hardened", "--gateway", "keyed", "--plan", "never.toml", "--turns", "3")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "vacuous: rule never/1 never fired" in done.stdout


def test_a_turn_that_is_never_answered_is_a_failure(anechoic: Run, tmp_path: Path) -> None:
    """A coordinator that takes turns and does nothing is not LIVE."""
    (tmp_path / "deaf.py").write_text(DEAF)
    done = anechoic(
        "gate", "--command", f"{sys.executable} deaf.py", "--plan", "none", "--turns", "2", "--turn-budget", "2", "--quiesce", "2", "--instances", "1",
        "--report-dir", "report",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdict(tmp_path)["live"] == "fail"
    assert "never answered" in done.stdout
    assert "answered 200 {'status': 'running'}" in done.stdout


DEAF = """
import http.server, json, os

class Deaf(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200, {"status": "running"})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(202, {})

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Deaf).serve_forever()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*words)` runs the command in the background; whatever is left at the end is killed."""
    made: list[subprocess.Popen[str]] = []

    def begin(*words: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "anechoic", *words], cwd=tmp_path, env={**os.environ, **environ}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        made.append(process)
        return process

    yield begin
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def in_full_swing(folder: Path) -> bool:
    history = folder / "report" / "history.jsonl"
    return history.exists() and history.read_text().count("effect_committed") > 5


def test_an_interrupted_gate_leaves_nothing_but_a_readable_history(start: Start, anechoic: Run, tmp_path: Path) -> None:
    """Ctrl-C in full swing: exit code 130, no process, and `check` reads what there is."""
    process = start("gate", "--coordinator", "hardened", "--plan", "kill-after-commit", "--turns", "500", "--report-dir", "report")
    wait_for(lambda: in_full_swing(tmp_path))
    children = family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    done = anechoic("check", "report/history.jsonl")
    assert done.returncode == 130, done.stdout + done.stderr
    assert "interrupted" in done.stdout


def test_a_background_job_can_be_interrupted_too(tmp_path: Path) -> None:
    """A shell that does not do job control starts background jobs with SIGINT ignored; the command takes it all the same."""
    command = f"{sys.executable} -m anechoic serve --port 0 > out.txt & job=$!; while ! grep -q ADMIN_TOKEN out.txt; do sleep 0.1; done; kill -INT $job; wait $job"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0


def test_kill_9_of_the_command_leaves_no_process_after_five_seconds(start: Start, anechoic: Run, tmp_path: Path) -> None:
    """The keeper ends coordinators and replicas, and the next run is not disturbed."""
    process = start("gate", "--coordinator", "hardened", "--plan", "none", "--turns", "500", "--report-dir", "report")
    wait_for(lambda: in_full_swing(tmp_path))
    children = family(process.pid)
    assert len(children) >= 7
    process.kill()
    process.wait()
    wait_for(lambda: not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE], 5.0)
    assert anechoic("check", "report/history.jsonl").returncode == 3
    again = anechoic("gate", "--coordinator", "hardened", "--gateway", "keyed", "--plan", "none", "--turns", "3")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_coordinator_that_runs_already_is_gated_by_its_url(start: Start, tmp_path: Path) -> None:
    """The gate prints where its fakes are, waits for the coordinator, and says that nothing was killed."""
    port = free_port()
    base = free_port()
    gate = start(
        "gate", "--url", f"http://127.0.0.1:{port}", "--base-port", str(base), "--plan", "none", "--turns", "3",
        "--report-dir", "report",
    )
    assert gate.stdout is not None
    environ: dict[str, str] = {}
    while "CLIENT_TIMEOUT" not in environ:
        line = gate.stdout.readline()
        assert line, gate.communicate()[1]
        key, equals, value = line.strip().partition("=")
        if equals:
            environ[key] = value
    assert environ["ASSISTANTS_BASE_URL"] == f"http://127.0.0.1:{base}/v1"
    coordinator = subprocess.Popen(
        [sys.executable, "-m", "coordinators.hardened"], env={**os.environ, **environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        out, err = gate.communicate(timeout=60)
        assert gate.returncode == 0, out + err
        assert coordinator.poll() is None
    finally:
        coordinator.terminate()
        coordinator.wait(timeout=20)


def test_serve_prints_addresses_that_work(start: Start, tmp_path: Path) -> None:
    """KEY=VALUE lines under the names of the coordinator protocol; Ctrl-C is the way to end it."""
    import urllib.error
    import urllib.request

    process = start("serve", "--port", "0", "--plan", "stale-polls")
    assert process.stdout is not None
    told: dict[str, str] = {}
    while "ADMIN_TOKEN" not in told:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        key, _, value = line.strip().partition("=")
        told[key] = value
    assert told["ASSISTANTS_BASE_URL"].endswith("/v1")
    request = urllib.request.Request(f"{told['TOOL_GATEWAY_URL']}/tools/create_ticket", data=b'{"arguments": {"user_id": "U1"}}')
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["external_id"].startswith("INC-")
    with urllib.request.urlopen(f"{told['ASSISTANTS_BASE_URL']}/assistants/{told['ASSISTANT_ID']}") as answer:
        assert json.load(answer)["id"] == told["ASSISTANT_ID"]
    events = urllib.request.Request(
        f"{told['TOOL_GATEWAY_URL']}/admin/events", headers={"authorization": f"Bearer {told['ADMIN_TOKEN']}"}
    )
    with urllib.request.urlopen(events) as answer:
        assert b"effect_committed" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{told['TOOL_GATEWAY_URL']}/admin/events")
    assert refused.value.code == 401
    refused.value.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


def free_port() -> int:
    from chaos.wire import ports

    return ports.free_port(set())


def test_a_real_toxiproxy_takes_the_place_of_the_embedded_one(anechoic: Run, real_toxiproxy: str) -> None:
    """The same plans with the same verdict, found by TOXIPROXY_URL; another's proxy on that server is not touched."""
    import urllib.request

    foreign = json.dumps({"name": "theirs", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{real_toxiproxy}/proxies", data=foreign, method="POST")):
        pass
    plans = ["latency-spike", "connection-reset", "gateway-down"]
    words = [word for plan in plans for word in ("--plan", plan)]
    done = anechoic(
        "gate", "--coordinator", "hardened", "--gateway", "keyed", *words, "--turns", "12", "--seed", "6",
        TOXIPROXY_URL=real_toxiproxy,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"{real_toxiproxy}/proxies") as answer:
        assert list(json.load(answer)) == ["theirs"]
