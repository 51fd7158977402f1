"""The fault words in the simulation: what each one does, seen in the history and in the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.plan import Plan, parse
from chaos.simulation import Settings, Simulation, jsonl, simulate
from chaos.simulation.clients import NoAnswer
from chaos.turns import make
from chaos.vocabulary import FAULTS, TOXICS
from chaos.wire.world import WireWorld
from fakes import history as h
from fakes.gateway.profile import PROFILES

Rule = Callable[..., Plan]
Run = Callable[..., "list[Any]"]
Kinds = Callable[..., "list[Any]"]
ASKED = {"event": "tool_requested", "per": "all"}


def gap(events: list[Any], first: str, then: str) -> float:
    """Seconds from the first event of one kind to the first of another after it."""
    start = next(e for e in events if e.kind == first)
    return float(next(e for e in events if e.kind == then and e.seq > start.seq).t - start.t)


def test_a_calm_day(run: Run, kinds: Kinds, plain: Any) -> None:
    """Three calls, three effects, one run; the whole of it settles."""
    events = run()
    assert len(kinds(events, "effect_committed")) == 3
    assert [e.status for e in kinds(events, "turn_ended")] == ["done"]
    assert kinds(events, "quiesce_ended")[0].settled
    assert plain.log == ["coordinator-1: finally"]


def test_kill_is_a_crash(run: Run, rule: Rule, kinds: Kinds, plain: Any) -> None:
    """It never runs again, no `finally` either; its memory is gone; it comes back and the turn is delivered again."""
    events = run(rule({"event": "effect_committed", "per": "all"}, {"fault": "kill", "seconds": 0.4}), instances=1)
    exited = kinds(events, "instance_exited")
    assert [(e.code, e.expected) for e in exited] == [(-9, True)]
    assert [e.life for e in kinds(events, "instance_started")] == [1, 2]
    assert kinds(events, "instance_started")[1].t - exited[0].t == pytest.approx(0.4)
    assert [e.http_status for e in kinds(events, "turn_answered")] == [202, 202]
    assert len(kinds(events, "effect_committed")) == 1 + 3  # what it had in hand is done again
    assert plain.log == ["coordinator-1: finally"]  # of the second life only


def test_what_is_on_its_way_to_a_dead_instance_is_lost(run: Run, rule: Rule, kinds: Kinds, plain: Any) -> None:
    """The fake goes on with the request of an instance that died; nobody hears of the answer."""
    slow = parse({"name": "p", "rules": [
        {"when": {**ASKED}, "do": [{"fault": "slow", "seconds": 0.2}, {"fault": "kill", "seconds": 3}]},
    ]})
    events = run(slow, instances=1, tool_timeout=5)
    assert gap(events, "instance_exited", "effect_committed") == pytest.approx(0.2, abs=0.02)
    assert kinds(events, "tool_replied")[0].delivered
    assert plain.log == ["coordinator-1: finally"]


@pytest.mark.parametrize("seconds", [0.5, 2.0, 12.0])
def test_pause_holds_everything_back(run: Run, rule: Rule, kinds: Kinds, plain: Any, seconds: float) -> None:
    """Nothing of the instance runs meanwhile; then it goes on where it was, in the same life."""
    events = run(rule({"event": "effect_committed", "per": "all"}, {"fault": "pause", "seconds": seconds}), tool_timeout=20)
    injected = kinds(events, "fault_injected")[0].t
    asked = [e.t for e in kinds(events, "tool_requested")]
    assert asked[1] >= injected + seconds
    assert len(kinds(events, "instance_started")) == 2
    assert kinds(events, "turn_ended")[0].status == "done"
    assert len(kinds(events, "effect_committed")) == 3


def test_a_timeout_that_ran_out_in_a_pause_comes_when_it_is_over(run: Run, rule: Rule, plain: Any) -> None:
    """The clock goes on while an instance stands still."""
    run(rule({**ASKED}, {"fault": "slow", "seconds": 9}, {"fault": "pause", "seconds": 2}))
    assert plain.log[0].startswith("coordinator-1: TimedOut")


@pytest.mark.parametrize(("fault", "away"), [("restart", 0.0), ("terminate", 1.0)])
def test_a_graceful_stop_is_asked_for(run: Run, rule: Rule, kinds: Kinds, plain: Any, fault: str, away: float) -> None:
    """The coordinator's own stop runs first; then it is gone, and comes back."""
    events = run(rule({"event": "run_created", "per": "all"}, {"fault": fault}), instances=1)
    assert plain.log[0] == "coordinator-1: stop"
    assert [(e.code, e.expected) for e in kinds(events, "instance_exited")] == [(0, True)]
    assert gap(events, "instance_exited", "instance_started") == pytest.approx(away, abs=0.01)


def test_a_stop_that_does_not_end_becomes_a_crash(run: Run, rule: Rule, kinds: Kinds, plain: Any) -> None:
    """After five seconds."""
    class Stubborn(plain):  # type: ignore[misc]
        async def stop(self) -> None:
            await asyncio.Event().wait()

    events = run(rule({"event": "run_created", "per": "all"}, {"fault": "restart"}), coordinator=Stubborn, instances=1)
    assert [e.code for e in kinds(events, "instance_exited")] == [-9]
    assert gap(events, "fault_injected", "instance_exited") == pytest.approx(5.0)


def test_proxy_down_refuses_and_breaks(run: Run, rule: Rule, kinds: Kinds, plain: Any) -> None:
    """What is under way is lost, a new request is not sent; after a while it is up again."""
    class Again(plain):  # type: ignore[misc]
        async def tool(self, call: Any, run_id: str) -> str:
            try:
                return str(await super().tool(call, run_id))
            except NoAnswer as error:
                self.note(f"{type(error).__name__}: {error}")
                return str(await super().tool(call, run_id))

    events = run(rule({**ASKED}, {"fault": "slow"}, {"fault": "proxy_down", "seconds": 0.5}), coordinator=Again, instances=1)
    assert "NoAnswer: the connection over tool-gateway-coordinator-1 was reset" in plain.log[0]
    assert "NotSent: tool-gateway-coordinator-1 refuses connections" in plain.log[1]
    assert kinds(events, "fault_healed")[0].detail == "tool-gateway-coordinator-1 up again"


TOXIC: dict[str, tuple[dict[str, Any], str]] = {
    "latency": ({"type": "latency", "attributes": {"latency": 700}}, "TimedOut: no answer within 0.5 s"),
    "bandwidth": ({"type": "bandwidth", "attributes": {"rate": 0}}, "TimedOut"),
    "timeout": ({"type": "timeout", "attributes": {"timeout": 100}}, "NoAnswer: the connection over .* was reset"),
    "timeout 0": ({"type": "timeout", "attributes": {"timeout": 0}, "seconds": 0.2}, "NoAnswer: the connection over .* was closed"),
    "reset_peer": ({"type": "reset_peer", "attributes": {"timeout": 0}}, "NoAnswer: the connection over .* was reset"),
    "limit_data": ({"type": "limit_data", "attributes": {"bytes": 10}}, "NoAnswer"),
    "slicer": ({"type": "slicer", "attributes": {"average_size": 1, "delay": 2000}}, "TimedOut"),
}


@pytest.mark.parametrize("stream", ["downstream", "upstream"])
@pytest.mark.parametrize("name", TOXIC)
def test_toxics(run: Run, rule: Rule, kinds: Kinds, plain: Any, name: str, stream: str) -> None:
    """Downstream the request arrives and the answer suffers; upstream the next request does."""
    args, seen = TOXIC[name]
    point = {**ASKED} if stream == "downstream" else {"event": "run_told", "status": "requires_action", "per": "all"}
    events = run(rule(point, {"fault": "toxic", "stream": stream, "seconds": 2.0, **args}), turns=1)
    assert plain.log
    assert re.search(seen, plain.log[0]), plain.log
    arrived = len(kinds(events, "effect_committed"))
    assert arrived == (1 if stream == "downstream" or name in ("latency", "slicer") else 0)
    assert kinds(events, "fault_healed")


def test_toxicity_is_drawn_for_each_request(run: Run, rule: Rule, plain: Any) -> None:
    """Some requests are hit and some are not, and the seed decides."""
    toxic = {"fault": "toxic", "type": "timeout", "attributes": {"timeout": 0}, "toxicity": 0.3, "seconds": 5.0}
    run(rule({"at": 0}, toxic), turns=20)
    assert 2 <= sum("NoAnswer" in line or "TimedOut" in line for line in plain.log) <= 18


def test_every_toxic_is_known_or_refused() -> None:
    """A new word of the vocabulary would be missed here."""
    assert {args["type"] for args, _ in TOXIC.values()} | {"slow_close"} == set(TOXICS)


@pytest.mark.parametrize(
    ("what", "requests", "seen"),
    [
        ("lose_request", 0, "NoAnswer: the connection over tool-gateway-coordinator-1 was lost"),
        ("lose_reply", 1, "NoAnswer: the connection over tool-gateway-coordinator-1 was lost"),
        ("delay", 1, "TimedOut"),
        ("no_connect", 0, "finally"),
    ],
)
def test_network_mischief(run: Run, rule: Rule, kinds: Kinds, plain: Any, what: str, requests: int, seen: str) -> None:
    """One message on one edge."""
    events = run(rule(
        {"event": "run_told", "status": "requires_action", "per": "all"},
        {"fault": "network", "what": what, "delay": 0.6 if what == "delay" else 0.1, "which": "sender"},
    ))
    assert seen in plain.log[0]
    if what != "no_connect":
        assert len(kinds(events, "tool_requested")) == requests
    assert kinds(events, "fault_healed")[0].detail.endswith("met 1 messages")


def test_a_request_delivered_twice(run: Run, rule: Rule, kinds: Kinds) -> None:
    """Behind a keyless gateway that is two effects, and the client hears of one."""
    events = run(rule(
        {"event": "run_told", "status": "requires_action", "per": "all"},
        {"fault": "network", "what": "duplicate", "delay": 0.01, "which": "sender"},
    ))
    assert [e.tool for e in kinds(events, "effect_committed")].count("create_ticket") == 2
    assert kinds(events, "turn_ended")[0].status == "done"


def test_a_request_overtaken_by_the_next(run: Run, rule: Rule, kinds: Kinds) -> None:
    """The first request waits until the second has passed."""
    events = run(rule(
        {"event": "message_added", "per": "all", "role": "user"},
        {"fault": "network", "proxy": "assistants", "what": "reorder", "delay": 1.0},
    ), turns=2, instances=1)
    created = [e.conversation for e in kinds(events, "run_created")]
    assert created == list(reversed([e.conversation for e in kinds(events, "turn_sent")]))


def test_store_outage(run: Run, rule: Rule, plain: Any) -> None:
    """Writes are refused at once, reads go on, and afterwards writes are taken again; nobody waits in real time."""
    class Storing(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            db = sqlite3.connect(self.environ["STORE_URL"].removeprefix("sqlite:///"), timeout=30, isolation_level=None)
            db.execute("CREATE TABLE IF NOT EXISTS t (x)")
            for number in range(8):
                with contextlib.suppress(sqlite3.OperationalError):
                    db.execute("INSERT INTO t VALUES (?)", (number,))
                self.note(str([x for (x,) in db.execute("SELECT x FROM t")]))
                await asyncio.sleep(0.25)

    run(rule({"at": 0.3}, {"fault": "store_outage", "seconds": 1.0}), coordinator=Storing, instances=1)
    assert plain.log[-2] == "coordinator-1: [0, 1, 6, 7]"


def test_a_crash_commits_nothing_and_holds_no_lock(run: Run, rule: Rule, plain: Any) -> None:
    """A transaction that was open when the instance died never was; another instance can write at once."""
    class Storing(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            db = sqlite3.connect(self.environ["STORE_URL"].removeprefix("sqlite:///"), isolation_level=None)
            db.execute("CREATE TABLE IF NOT EXISTS t (x)")
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO t VALUES (?)", (self.environ["INSTANCE_ID"],))
            self.note(str(db.execute("SELECT * FROM t").fetchall()))
            await asyncio.sleep(0.5)
            db.execute("COMMIT")

    run(rule({"at": 0.2}, {"fault": "kill"}), coordinator=Storing, instances=1)
    assert [line for line in plain.log if "finally" not in line] == ["coordinator-1: [('coordinator-1',)]"] * 2


def test_resend_turn(run: Run, rule: Rule, kinds: Kinds) -> None:
    """The turn is delivered to another instance once more."""
    events = run(rule({"event": "turn_answered", "attempt": 1}, {"fault": "resend_turn", "after": 0.1}))
    assert [(e.instance, e.attempt) for e in kinds(events, "turn_sent")] == [("coordinator-1", 1), ("coordinator-2", 2)]


def test_a_replica_that_is_killed_loses_its_generation(run: Run, rule: Rule, kinds: Kinds) -> None:
    """The router repeats it on another one; the replica comes back."""
    events = run(rule(
        {"event": "generation_started", "per": "all"}, {"fault": "kill", "target": "replica", "which": "sender"}
    ))
    first, second = kinds(events, "generation_started")[:2]
    assert (first.request_id, first.attempt, second.attempt) == (second.request_id, 1, 2)
    assert first.replica != second.replica
    assert kinds(events, "generation_ended")[0].outcome == "lost"
    assert [(e.replica, e.code, e.reason) for e in kinds(events, "replica_exited")] == [(first.replica, 137, "OOMKilled")]
    assert [e.life for e in kinds(events, "replica_started") if e.replica == first.replica] == [1, 2]


def test_a_lost_generation_is_done_again(run: Run, rule: Rule, kinds: Kinds) -> None:
    """As on the wire, the answer is thrown away and another replica is asked."""
    events = run(rule({"event": "generation_started", "per": "all"}, {"fault": "lose_generation"}))
    assert [e.outcome for e in kinds(events, "generation_ended")][:2] == ["lost", "ok"]


@pytest.mark.parametrize("fault", ["pause", "restart", "terminate"])
def test_replicas_pause_and_restart(run: Run, rule: Rule, kinds: Kinds, fault: str) -> None:
    """A pause delays the generation; a restart loses it."""
    events = run(rule({"event": "generation_started", "per": "all"}, {"fault": fault, "target": "replica", "which": "sender"}))
    assert kinds(events, "turn_ended")[0].status == "done"
    if fault == "pause":
        assert gap(events, "generation_started", "generation_ended") >= 0.5
    else:
        assert kinds(events, "replica_exited")[0].reason == "Completed"


def test_the_serving_layer_may_be_unreachable(run: Run, rule: Rule, kinds: Kinds) -> None:
    """The fake Assistants API tries again, as over HTTP."""
    events = run(rule({"event": "run_created", "per": "all"}, {"fault": "proxy_down", "proxy": "llm", "seconds": 0.3}))
    assert gap(events, "run_created", "generation_started") > 0.2
    assert kinds(events, "turn_ended")[0].status == "done"


def test_a_clock_jump_makes_keys_old(run: Run, rule: Rule, kinds: Kinds, plain: Any) -> None:
    """A day passes for everybody in no time: the gateway has forgotten the key, though only moments went by."""
    class Twice(plain):  # type: ignore[misc]
        async def tool(self, call: Any, run_id: str) -> str:
            for pause in (0.2, 0.0):
                done = await self.tools.call(call["function"]["name"], {"reference": call["id"]}, key=call["id"])
                await asyncio.sleep(pause)
            return str(done["output"])

    plan = rule({"event": "effect_committed", "per": "all"}, {"fault": "clock_jump", "seconds": 90_000})
    common = {"coordinator": Twice, "gateway": PROFILES["keyed"]}
    assert len(kinds(run(**common), "effect_committed")) == 3
    jumped = run(plan, **common)
    assert len(kinds(jumped, "effect_committed")) == 4
    assert jumped[-1].t < 60


def test_one_clock_may_jump_and_all_may_be_off(run: Run, rule: Rule, plain: Any) -> None:
    """Skew is drawn from the seed for each instance; a jump of one instance concerns no other."""
    class Telling(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            await asyncio.sleep(1)
            self.note(f"{self.clock():.3f}")

    plan = rule({"at": 0.5}, {"fault": "clock_jump", "which": "any", "seconds": 100, "back": "yes"})
    run(plan, coordinator=Telling, clock_skew=0.0, turns=2)
    told = {line.split(": ")[0]: float(line.split(": ")[1]) for line in plain.log if "finally" not in line}
    assert told["coordinator-2"] - told["coordinator-1"] == pytest.approx(100, abs=0.01)
    plain.log.clear()
    run(coordinator=Telling, clock_skew=5.0, turns=2)
    told = {line.split(": ")[0]: float(line.split(": ")[1]) for line in plain.log if "finally" not in line}
    assert 0.01 < abs(told["coordinator-2"] - told["coordinator-1"]) < 10


def test_a_read_replica_of_the_store_lags(run: Run, plain: Any) -> None:
    """What was written is not there yet, and then it is; the replica outlives nothing."""
    class Reading(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            write, read = (
                sqlite3.connect(self.environ[name].removeprefix("sqlite:///"), isolation_level=None)
                for name in ("STORE_URL", "STORE_READ_URL")
            )
            write.execute("CREATE TABLE t (x)")
            await asyncio.sleep(1)
            write.execute("INSERT INTO t VALUES (1)")
            for _ in range(3):
                self.note(str(read.execute("SELECT count(*) FROM t").fetchone()[0]))
                await asyncio.sleep(0.19)

    run(coordinator=Reading, instances=1, replica_lag=0.2)
    assert [line[-1] for line in plain.log if "finally" not in line] == ["0", "0", "1"]


def test_faults_can_be_armed_step_by_step(settings: Callable[..., Settings], rule: Rule, kinds: Kinds) -> None:
    """A state machine can drive a simulation: arm, deliver, advance, quiesce."""
    with Simulation(settings()) as simulation:
        simulation.deliver([make(1, 0)], wait=False)
        simulation.advance(0.01)
        simulation.arm(rule({"at": 0}, {"fault": "kill", "which": "any"}))
        simulation.advance(0.1)
        assert len(kinds(simulation.history.events, "instance_exited")) == 1
        assert simulation.quiesce()
        assert simulation.now < 10
    assert kinds(simulation.history.events, "turn_ended")[0].status == "done"


@pytest.mark.parametrize("fault", ["network", "clock_jump"])
def test_words_of_the_simulation_are_refused_on_the_wire(fault: str) -> None:
    """There the run becomes invalid, with the reason."""
    args = {name: param.default for name, param in FAULTS[fault].params.items()}
    with pytest.raises(OSError, match="no meaning on the wire"):
        asyncio.run(WireWorld(h.History()).carry_out(fault, args, None))


def test_the_history_is_written_as_it_grows(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    """The file holds the same bytes as `jsonl` gives."""
    history = simulate(settings(), [make(1, 0)], path=tmp_path / "history.jsonl", header={"plans": []})
    assert (tmp_path / "history.jsonl").read_bytes() == jsonl(history)
    header, events, warning = h.read(tmp_path / "history.jsonl")
    assert (header["world"], len(events), warning) == ("simulation", len(history.events), None)
