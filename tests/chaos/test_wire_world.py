"""What the nemesis does on the wire, seen from outside: processes, ports, the store, and that all of it is healed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from chaos import builtin
from chaos.plan import parse
from chaos.quiesce import in_doubt
from chaos.turns import make
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.keeper import Keeper
from chaos.wire.process import Process
from chaos.wire.settings import Coordinator, Settings, by_name
from fakes import history as h
from fakes.gateway.profile import PROFILES

# Answers every turn at once, counts deliveries, and shows its process id: enough to see what is done to it.
PLAIN = """
import http.server, json, os, signal, sys
turns = {}

class Plain(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/pid":
            self.answer(200, {"pid": os.getpid()})
        elif self.path == "/healthz":
            self.answer(200, {"in_doubt": True})
        elif self.path == "/in-doubt":
            self.answer(200, {"calls": [{"tool_call_id": "call_1", "run_id": "run_1"}]})
        else:
            turn = self.path.rsplit("/", 1)[1]
            self.answer(200 if turn in turns else 404, {"status": "done", "detail": f"{turns.get(turn)} deliveries"})

    def do_POST(self):
        turn = json.loads(self.rfile.read(int(self.headers["content-length"])))["turn_id"]
        turns[turn] = turns.get(turn, 0) + 1
        self.answer(202, {})

    def log_message(self, *args):
        pass

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Plain).serve_forever()
"""

Story = Callable[[Chamber], Awaitable[None]]


def settings(tmp_path: Path, **more: Any) -> Settings:
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    return Settings(
        Coordinator("plain", (sys.executable, str(path))), PROFILES["keyless"],
        **{"instances": 2, "replicas": 1, "ready_timeout": 20.0, "quiesce_budget": 3.0, **more},
    )


def inside(tmp_path: Path, story: Story, **more: Any) -> Chamber:
    """Run a story in a chamber, and see that nothing is left of it afterwards."""

    async def main() -> Chamber:
        async with Chamber(settings(tmp_path, **more)) as chamber:
            await story(chamber)
        return chamber

    before = {p.pid for p in psutil.Process().children(recursive=True)}
    chamber = asyncio.run(main())
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert not chamber.folder.exists()
    assert not [e for e in chamber.history.events if isinstance(e, h.FaultFailed)]
    return chamber


async def pid(chamber: Chamber, number: int) -> int:
    async with chamber.http.get(f"{chamber.instances.all[number].url}/pid") as answer:
        return int((await answer.json(content_type=None))["pid"])


async def carry_out(chamber: Chamber, do: dict[str, Any]) -> None:
    """Let a rule fire now, at an event that coordinator-1 is the sender of."""
    chamber.nemesis.arm(parse({"name": do["fault"], "rules": [{"when": {"event": "turn_sent", "per": "all"}, "do": do}]}))
    await chamber.nemesis.at(chamber.history.record(h.TurnSent, turn_id="t", instance="coordinator-1", attempt=1))


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def seen(chamber: Chamber, kind: type[h.Event]) -> list[Any]:
    return [e for e in chamber.history.events if isinstance(e, kind)]


def test_kill_takes_the_sender_and_brings_another_life(tmp_path: Path) -> None:
    """The process is gone when the protocol point goes on; a new one answers on the same port, and only there."""

    async def story(chamber: Chamber) -> None:
        first, other = await pid(chamber, 0), await pid(chamber, 1)
        await carry_out(chamber, {"fault": "kill", "seconds": 0.05})
        assert not psutil.pid_exists(first)
        await until(lambda: chamber.instances.all[0].life == 2 and chamber.instances.all[0].ready.is_set())
        assert await pid(chamber, 0) != first
        assert await pid(chamber, 1) == other

    chamber = inside(tmp_path, story)
    killed = next(e for e in seen(chamber, h.InstanceExited) if e.life == 1 and e.instance == "coordinator-1")
    assert (killed.code, killed.expected) == (-9, True)


@pytest.mark.parametrize("fault", ["restart", "terminate"])
def test_restart_and_terminate_stop_gracefully(tmp_path: Path, fault: str) -> None:
    """SIGTERM is obeyed with exit code 0, and the instance comes back."""

    async def story(chamber: Chamber) -> None:
        await carry_out(chamber, {"fault": fault})
        await until(lambda: chamber.instances.all[0].life == 2 and chamber.instances.all[0].ready.is_set())

    chamber = inside(tmp_path, story)
    assert next(e for e in seen(chamber, h.InstanceExited) if e.life == 1 and e.instance == "coordinator-1").code == 0


def test_pause_stops_the_clock_of_the_process(tmp_path: Path) -> None:
    """A paused process is stopped, and running again when healed."""

    async def story(chamber: Chamber) -> None:
        process = psutil.Process(await pid(chamber, 0))
        await carry_out(chamber, {"fault": "pause", "seconds": 0.3})
        await until(lambda: process.status() == psutil.STATUS_STOPPED)
        await until(lambda: seen(chamber, h.FaultHealed))
        assert process.status() != psutil.STATUS_STOPPED

    inside(tmp_path, story)


def test_faults_are_healed_at_the_end_however_long_they_were_to_last(tmp_path: Path) -> None:
    """A pause of a minute, an edge that is down, a toxic and an outage do not outlive the run."""

    async def story(chamber: Chamber) -> None:
        for do in (
            {"fault": "pause", "seconds": 60},
            {"fault": "proxy_down", "seconds": 60},
            {"fault": "toxic", "proxy": "assistants", "attributes": {"latency": 5000}, "seconds": 60},
            {"fault": "store_outage", "seconds": 60},
        ):
            await carry_out(chamber, do)
        await chamber.quiesce()
        assert len(seen(chamber, h.FaultHealed)) == 4
        async with chamber.http.get(f"{chamber.addresses['coordinator-1']['TOOL_GATEWAY_URL']}/capabilities") as answer:
            assert answer.status == 200

    inside(tmp_path, story)


def test_proxy_down_refuses_one_edge_of_one_instance(tmp_path: Path) -> None:
    """With which = sender the other instance goes on."""

    async def story(chamber: Chamber) -> None:
        await carry_out(chamber, {"fault": "proxy_down", "which": "sender", "seconds": 0.3})
        mine, other = (chamber.addresses[f"coordinator-{n}"]["TOOL_GATEWAY_URL"] for n in (1, 2))
        with pytest.raises(aiohttp.ClientError):
            await chamber.http.get(f"{mine}/capabilities")
        async with chamber.http.get(f"{other}/capabilities") as answer:
            assert answer.status == 200
        await until(lambda: seen(chamber, h.FaultHealed))
        async with chamber.http.get(f"{mine}/capabilities") as answer:
            assert answer.status == 200

    inside(tmp_path, story)


def test_a_toxic_slows_an_edge_while_it_lasts(tmp_path: Path) -> None:
    """Latency is there while the toxic is, and gone afterwards."""

    async def story(chamber: Chamber) -> None:
        url = f"{chamber.addresses['coordinator-1']['ASSISTANTS_BASE_URL']}/assistants/{chamber.assistant_id}"
        await carry_out(chamber, {"fault": "toxic", "proxy": "assistants", "attributes": {"latency": 300}, "seconds": 0.6})
        start = time.monotonic()
        async with chamber.http.get(url) as answer:
            assert answer.status == 200
        assert time.monotonic() - start >= 0.3
        await until(lambda: seen(chamber, h.FaultHealed))

    inside(tmp_path, story)


def test_a_store_outage_refuses_writes(tmp_path: Path) -> None:
    """Every other writer of the SQLite file is told that it is locked, readers go on."""

    async def story(chamber: Chamber) -> None:
        url = chamber.addresses["coordinator-1"]["STORE_URL"]
        mine = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
        try:
            mine.execute("PRAGMA journal_mode=WAL")
            mine.execute("CREATE TABLE t (x)")
            await carry_out(chamber, {"fault": "store_outage", "seconds": 0.2})
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                mine.execute("INSERT INTO t VALUES (1)")
            assert mine.execute("SELECT count(*) FROM t").fetchone() == (0,)
            await until(lambda: seen(chamber, h.FaultHealed))
            mine.execute("INSERT INTO t VALUES (1)")
        finally:
            mine.close()

    inside(tmp_path, story)


def test_a_replica_is_killed_and_comes_back(tmp_path: Path) -> None:
    """target = replica: exit code 137, OOMKilled, healthy again."""

    async def story(chamber: Chamber) -> None:
        await carry_out(chamber, {"fault": "kill", "target": "replica", "which": "any"})
        await until(lambda: seen(chamber, h.FaultHealed))

    chamber = inside(tmp_path, story)
    (exited,) = seen(chamber, h.ReplicaExited)
    assert (exited.code, exited.reason) == (137, "OOMKilled")


def test_turns_are_delivered_again_when_asked_and_when_lost(tmp_path: Path) -> None:
    """resend_turn goes to the other instance; a killed instance that forgot its turn gets it again."""

    async def story(chamber: Chamber) -> None:
        plan = {
            "rules": [{"when": {"event": "turn_answered", "attempt": 1, "per": "all"}, "do": [{"fault": "resend_turn"}, {"fault": "kill"}]}]
        }
        chamber.nemesis.arm(parse(plan))
        await chamber.run([make(1, 1)])
        await chamber.quiesce()

    chamber = inside(tmp_path, story)
    sent = seen(chamber, h.TurnSent)
    assert [e.attempt for e in sent] == [1, 2, 3]
    assert sent[1].instance != sent[0].instance
    (ended,) = seen(chamber, h.TurnEnded)
    assert ended.status == "done"
    assert {(e.tool_call_id, e.run_id) for e in seen(chamber, h.InDoubtReported)} == {("call_1", "run_1")}


def test_an_instance_that_ends_by_itself_is_recorded_and_started_again(tmp_path: Path) -> None:
    """Nobody asked for it: not expected, and the run goes on with another life."""

    async def story(chamber: Chamber) -> None:
        os.kill(await pid(chamber, 0), 9)
        await until(lambda: chamber.instances.all[0].life == 2 and chamber.instances.all[0].ready.is_set())

    chamber = inside(tmp_path, story)
    crashed = next(e for e in seen(chamber, h.InstanceExited) if e.instance == "coordinator-1" and e.life == 1)
    assert not crashed.expected
    assert "coordinator-1 ended by itself with signal 9" in chamber.troubles[0]


SIDE = """
import http.server, os, pathlib
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
pathlib.Path(os.environ["STATE_DIR"], "side").write_text(f"{server.server_port} {os.getpid()}")
server.serve_forever()
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_servers_beside_the_coordinator(tmp_path: Path) -> None:
    """A setup that leaves a server in the background: it is there before the instances, and gone after them and the teardown."""
    (tmp_path / "side.py").write_text(SIDE)
    seen: list[int] = []

    async def story(chamber: Chamber) -> None:
        assert chamber.instances.all[0].ready.is_set()
        port, pid = (chamber.folder / "state" / "side").read_text().split()
        async with chamber.http.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 200
        seen.append(int(pid))

    chamber = inside(
        tmp_path, story, report_dir=tmp_path / "report",
        setup_command=f"{sys.executable} {tmp_path}/side.py & until [ -s $STATE_DIR/side ]; do sleep 0.05; done; echo up",
        teardown_command="cat $STATE_DIR/side; kill -0 $(cut -d' ' -f2 $STATE_DIR/side) && echo there; exit 3",
    )
    assert gone(seen[0])
    logs = tmp_path / "report" / "logs"
    assert "up" in (logs / "setup.log").read_text()
    assert (logs / "teardown.log").read_text().endswith("there\n")
    assert "the teardown command ended with exit code 3" in chamber.troubles[-1]


def test_a_failed_setup_is_torn_down_all_the_same(tmp_path: Path) -> None:
    """What it had started is ended; the error is that of the setup."""

    async def story(chamber: Chamber) -> None:
        raise AssertionError("it is not to start")

    failing = f"sleep 60 & echo $! > {tmp_path}/pid; echo no database; exit 5"
    with pytest.raises(WireError, match=r"the setup command ended with exit code 5(.|\n)*no database"):
        inside(tmp_path, story, setup_command=failing, teardown_command=f"touch {tmp_path}/torn")
    assert (tmp_path / "torn").exists()
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_slow_start_is_told_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for, how long already, and which option gives more time; the run then goes on as usual."""
    monkeypatch.setattr("chaos.wire.instances.PROGRESS", 0.5)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1.3)\n" + PLAIN)

    async def main() -> list[str]:
        told: list[str] = []
        command = (sys.executable, str(tmp_path / "slow.py"))
        slow = Settings(Coordinator("slow", command), PROFILES["keyless"], instances=1, replicas=1, ready_timeout=30.0)
        async with Chamber(slow, say=told.append):
            return told

    told = asyncio.run(main())
    assert len(told) >= 2
    assert told[0].startswith("coordinator-1 is not ready yet after ")
    assert "of 30 s (--ready-timeout); last seen: GET /healthz: ClientConnectorError" in told[0]


def test_grandchildren_die_with_their_group(tmp_path: Path) -> None:
    """A start script that does not exec leaves a grandchild, which the kill of the group takes too."""

    async def main() -> None:
        keeper = Keeper()
        try:
            script = f"{sys.executable} -c 'import time; time.sleep(60)' & wait"
            process = Process("script", ["sh", "-c", script], dict(os.environ), tmp_path, keeper)
            await process.start()
            assert process.pid is not None
            await until(lambda: psutil.Process(process.pid).children())
            (grandchild,) = psutil.Process(process.pid).children()
            await process.kill()
            await until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
        finally:
            keeper.close()

    asyncio.run(main())


def test_a_chamber_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    """The first error is raised, everything that was up is down again."""

    async def main() -> None:
        broken = Settings(Coordinator("false", (sys.executable, "-c", "raise SystemExit(3)")), PROFILES["keyless"], replicas=1)
        async with Chamber(broken):
            raise AssertionError("it is not to start")

    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with pytest.raises(WireError, match="ended with exit code 3 before it was ready"):
        asyncio.run(main())
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("data", "calls"),
    [
        (["call_1"], [("call_1", None)]),
        ({"calls": [{"tool_call_id": "call_1", "run_id": "run_1"}]}, [("call_1", "run_1")]),
        ({"in_doubt": ["call_1", 7]}, [("call_1", None)]),
        ([{"id": "call_1"}], [("call_1", None)]),
        ({}, []),
        ("nonsense", []),
    ],
)
def test_in_doubt_is_read_in_every_sensible_shape(data: Any, calls: list[Any]) -> None:
    """A list, or an object that holds one, of ids or of objects."""
    assert in_doubt(data) == calls


def test_a_run_whose_events_are_not_kept(tmp_path: Path) -> None:
    """Faults find their targets and instances come back as in any run; the file alone has the history."""
    asked = Settings(
        by_name("hardened"), PROFILES["keyed"], replicas=1, report_dir=tmp_path, keep_events=False, quiesce_budget=10.0
    )

    async def main() -> None:
        async with Chamber(asked) as chamber:
            chamber.nemesis.arm(builtin.find("kill-after-commit"))
            await chamber.run([make(5, number) for number in range(8)])
            await chamber.quiesce()
            with pytest.raises(h.NotKept):
                _ = chamber.history.events

    asyncio.run(main())
    _, events, _ = h.read(tmp_path / "history.jsonl")
    sender = {e.request_id: e.instance for e in h.of_kind(events, h.ToolRequested)}
    kills = list(h.of_kind(events, h.FaultIntended))
    ends = [e for e in h.of_kind(events, h.InstanceExited) if e.code == -9]
    commits = [events[kill.cause - 1] for kill in kills if kill.cause is not None]
    assert {e.instance for e in ends} == {sender[e.request_id] for e in commits if isinstance(e, h.EffectCommitted)}
    assert 0 < len(ends) <= len(kills) == len(commits)
    assert max(e.life for e in h.of_kind(events, h.InstanceReady)) > 1
    assert all(e.status == "done" for e in h.of_kind(events, h.TurnEnded))


def test_events_that_are_neither_kept_nor_written(tmp_path: Path) -> None:
    """Nobody could judge such a run."""
    with pytest.raises(WireError, match="needs a report_dir"):
        settings(tmp_path, keep_events=False)
