"""Coordinators that nobody here wrote come as they are: however they start, however much they print, and as many as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Run = Callable[..., "Any"]
EXAMPLE = Path(__file__).parents[2] / "coordinators" / "examples" / "openai_python" / "coordinator.py"

# Prints what is no text before it starts, all the while, and at every turn; takes its time; and leaves its start script behind.
SCRIPT = f"""#!/bin/sh
head -c 300000 /dev/urandom
echo 'listening on http://0.0.0.0:1 {{"status": "done"}}'
sleep 1.5
(while echo noise; do sleep 0.02; done) &
'{sys.executable}' -W ignore '{EXAMPLE}'
echo 'the coordinator has ended'
"""


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "report" / "history.jsonl").read_text().splitlines()[1:]]


def test_a_noisy_start_script_that_does_not_exec(anechoic: Run, tmp_path: Path) -> None:
    """A slow start, noise without end, and grandchildren: kills take all of them, and the next life has the port again."""
    script = tmp_path / "start.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    done = anechoic(
        "gate", "--command", "sh start.sh", "--instances", "2", "--plan", "none", "--plan", "kill-before-submit", "--turns", "4",
        "--seed", "3", "--in-flight", "1", "--report-dir", "report",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    seen = events(tmp_path)
    exits = [e for e in seen if e["kind"] == "instance_exited" and e["expected"]]
    assert [e["code"] for e in exits[:2]] == [-9, -9]
    assert {e["life"] for e in seen if e["kind"] == "instance_ready"} >= {1, 2}
    assert [e["status"] for e in seen if e["kind"] == "turn_ended"] == ["done"] * 4
    assert not [e for e in seen if e["kind"] == "fault_failed"]
    assert sum(path.stat().st_size for path in (tmp_path / "report" / "logs").glob("coordinator-*.out")) > 600_000
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(EXAMPLE) in (p.info["cmdline"] or [])]


def test_one_process_is_enough(anechoic: Run, tmp_path: Path) -> None:
    """Plans that want another instance make do with the only one: nothing is invalid, and the barrier says who came."""
    done = anechoic(
        "gate", "--command", f"{sys.executable} {EXAMPLE}", "--instances", "1", "--plan", "resend-turn", "--plan", "aligned-polls",
        "--turns", "4", "--seed", "3", "--report-dir", "report",
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    seen = events(tmp_path)
    assert {e["instance"] for e in seen if "instance" in e} == {"coordinator-1"}
    held = [e["detail"] for e in seen if e["kind"] == "fault_injected" and e["fault"] == "barrier"]
    assert held
    assert all("1 of 2 instances came" in detail for detail in held)


def test_streams_pass_a_real_toxiproxy(anechoic: Run, tmp_path: Path, real_toxiproxy: str) -> None:
    """Piece by piece, as through the embedded one: a calm turn is done, and a stream that is cut ends its turn."""
    streaming = EXAMPLE.parents[1] / "openai_python_streaming" / EXAMPLE.name
    done = anechoic(
        "gate", "--command", f"{sys.executable} {streaming}", "--instances", "1", "--plan", "none", "--plan", "cut-stream",
        "--turns", "4", "--seed", "3", "--report-dir", "report", TOXIPROXY_URL=real_toxiproxy,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = events(tmp_path)
    assert {e["via"] for e in seen if e["kind"] == "run_told"} == {"stream"}
    plans = {e["conversation"]: e["plans"][0] for e in seen if e["kind"] == "turn_planned"}
    ended = sorted((plans[e["conversation"]], e["status"]) for e in seen if e["kind"] == "turn_ended")
    assert ended == [("cut-stream", "failed")] * 2 + [("none", "done")] * 2
    assert {e["detail"] for e in seen if e["kind"] == "turn_ended" and e["status"] == "failed"} == {
        "peer closed connection without sending complete message body (incomplete chunked read)"
    }
