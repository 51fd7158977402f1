"""A history judged in parts is judged as the whole is: every verdict, result, violation, count, reason and story."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos import builtin
from chaos.simulation import simulate
from chaos.simulation.settings import Settings
from chaos.turns import make
from contracts import Judgement, RetryBudget, judge, story, to_json
from contracts.partition import dealt_out, judge_file
from fakes import history as h
from fakes.gateway.profile import PROFILES
from tests.contracts.histories import Past, good

RULES = [("plan/1", False), ("plan/2", False), ("plan/3", True)]


def everything(judgement: Judgement) -> dict[str, Any]:
    """All that a judgement says, in the order in which it says it."""
    assert judgement.index is not None
    return {
        "document": json.dumps(to_json(judgement, {"plans": []}, "again")),
        "results": [dataclasses.asdict(result) for result in judgement.results],
        "flaws": judgement.flaws,
        "rest": [
            (key, list(value.items()) if isinstance(value, dict) else value)
            for key in ("counts", "reached", "fired", "turns_under", "together", "seconds", "reasons", "budget_ended")
            for value in (getattr(judgement, key),)
        ],
        "stories": [story(judgement.index, violation) for violation in judgement.violations],
    }


def same(path: Path, events: Sequence[h.Event], gateway: str = "keyed", parts: Sequence[int] = range(1, 8), **how: Any) -> Judgement:
    """Judge the events whole and in parts, and see that nothing differs."""
    h.save(path, {}, events)
    profile = PROFILES[gateway]
    how = {"expected_rules": RULES, **how}
    whole = judge(events, profile, **how)
    if whole.index is None:
        assert judge_file(path, profile, parts=3, **how) == whole
        return whole
    expected = everything(whole)
    for number in parts:
        with dealt_out(h.HistoryFile(path), parts=number) as dealt:
            assert len(dealt) == number
            found = everything(dealt.judge(profile, **how))
        assert found == expected, f"in {number} parts"
    return whole


# --- what coordinators do -------------------------------------------------------------------------------------------

PLANS = (
    "kill-after-commit", "regenerated-new-ids", "commit-then-lose-reply", "poison-result", "duplicate-callback", "cancelled-run",
    "failing-tool", "lose-tool-request",
)


def simulated(name: str, gateway: str, plans: Sequence[str], turns: int = 14, **more: Any) -> list[h.Event]:
    """What a coordinator did with some turns, all of them bound to the plans in turn."""
    chosen = [builtin.find(plan) for plan in plans]
    made = [
        dataclasses.replace(make(7, number), plans=(chosen[number % len(chosen)].name,)) for number in range(turns)
    ]
    asked = Settings(coordinator=name, gateway=PROFILES[gateway], seed=7, **more)
    return simulate(asked, made, chosen).events


@pytest.mark.parametrize(
    ("name", "gateway"),
    [
        ("hardened", "keyed"), ("hardened", "lookup"), ("as_deployed", "keyless"), ("as_deployed", "keyed"),
        ("as_deployed", "fenced"), ("keys:payload_hash_key", "keyed"), ("errors:timeout_told_as_failure", "keyless"),
        ("claims:new_ids_dispatched_again", "keyed"), ("submissions:outputs_swapped", "keyed"),
        ("submissions:poison_blocks_queue", "keyed"), ("results:error_turned_into_success", "keyed"),
    ],
)
def test_what_coordinators_do(tmp_path: Path, name: str, gateway: str) -> None:
    """Good ones and bad ones, at several gateways, under faults of one conversation and of everybody."""
    events = simulated(f"coordinators.mutants.{name}" if ":" in name else name, gateway, PLANS)
    judgement = same(tmp_path / "h.jsonl", events, gateway, (1, 2, 3, 5, 7), retry_budget=RetryBudget(2, 0.5))
    assert judgement.counts["turns"] == 14
    broken = {violation.contract for violation in judgement.violations} - {"C12"}
    assert bool(broken) == (name != "hardened"), broken


# --- what crosses conversations -------------------------------------------------------------------------------------


def many(count: int = 9) -> Past:
    """Turns of many conversations, well done."""
    past = Past()
    for number in range(count):
        good(past, f"call_{number}", turn=f"t{number}", conversation=f"C{number}")
    return past


def foreign_id(past: Past) -> None:
    past.turn("x", conversation="CX").run("run_x", "x").ask("call_x", run="run_x").did("call_x")
    past.submit({"call_x": "see INC-55103"}, run="run_x").done("x")


def one_key(past: Past) -> None:
    for number in range(4):
        past.turn(f"k{number}", conversation=f"K{number}").run(f"run_k{number}", f"k{number}")
        past.ask(f"call_k{number}", run=f"run_k{number}").told(f"call_k{number}", run=f"run_k{number}")
        past.did(f"call_k{number}", key="the only key", named=False, nonce=False)
        past.told(run=f"run_k{number}", status="cancelled").did(f"call_k{number}", key="the only key")


def no_conversation(past: Past) -> None:
    past.did("call_3", conversation=False, named=False)
    past.did("call_5", conversation=False, named=False, nonce=False)


def equal_arguments(past: Past) -> None:
    for number in range(5):
        past.turn(f"p{number}", conversation=f"P{number}").run(f"run_p{number}", f"p{number}")
        past.ask(f"call_p{number}", run=f"run_p{number}", nonce=False, payload="the same")
        past.did(f"call_p{number}", named=False, nonce=False, conversation=number > 0)


def nameless(past: Past) -> None:
    past.did("call_2", conversation=False, named=False, nonce=False, payload="nobody's")
    for number in range(5):
        past.did(f"call_{number}", named=False, nonce=False, payload=f"unknown {number}")
    past.turn("lost", conversation="L").run("run_lost", "lost").ask("call_lost", run="run_lost").done("lost")


def stray_run(past: Past) -> None:
    past.add(h.RunCreated, run_id="run_stray", thread_id="t")
    past.add(h.TurnPlanned, turn_id="turn_stray", calls=(("send_email",),))
    past.add(h.TurnSent, turn_id="turn_stray", instance="coordinator-1", attempt=1)
    past.add(h.TurnEnded, turn_id="turn_stray", status="done")


def faults(past: Past) -> None:
    past.fault("poison_result", "C1").fault("commit_then_lose_reply", "C2", rule="plan/2").fault("kill", None, heal=True)
    past.fault("lose_request", "C4", rule="plan/4").fault("lose_request", "C5", rule="plan/4", heal=True)
    past.add(h.FaultIntended, rule="plan/9", fault="kill", cause=5)
    past.add(h.FaultHealed, rule="plan/9", fault="kill", detail="moot: nobody is there")
    past.add(h.InstanceExited, instance="coordinator-1", life=1, code=-9, expected=False)
    past.turn("f", conversation="C9").run("run_f", "f").ask("call_f", run="run_f").done("f")


def invented(past: Past) -> None:
    past.did("call_1", call_id_sent="call_nobody", nonce=False, payload="?", run_sent=True)
    past.did("call_1", call_id_sent="call_4", nonce=False)
    past.submit({"call_4": "not my run"}, run="run_t2").submit({"call_2": "late"}, run="run_t2", refused=400)


def broken_off(past: Past) -> None:
    past.add(h.FaultFailed, rule="plan/2", fault="kill", reason="no such process")
    past.add(h.RunInterrupted, reason="stopped")
    past.turn("open", conversation="C8").run("run_open", "open").ask("call_open", run="run_open")


@pytest.mark.parametrize("rest", [True, False], ids=["at rest", "cut off"])
@pytest.mark.parametrize(
    "more",
    [foreign_id, one_key, no_conversation, equal_arguments, nameless, stray_run, faults, invented, broken_off],
    ids=lambda more: more.__name__,
)
def test_what_crosses_conversations(tmp_path: Path, more: Callable[[Past], None], rest: bool) -> None:
    """Ids, keys, quotes and arguments that conversations share, and what belongs to none of them."""
    past = many()
    more(past)
    if rest:
        past.rest()
    for gateway in ("keyed", "keyless"):
        same(tmp_path / "h.jsonl", past.events, gateway)


# --- anything at all ------------------------------------------------------------------------------------------------

_VALUES: dict[str, Any] = {
    "conversation": [None, "", "C1", "C2", "C3", "C4"], "turn_id": ["t1", "t2", "t3", "t4", None], "plans": [(), ("a",), ("a", "b")],
    "calls": None, "instance": [None, "i1", "i2"], "attempt": [1, 2], "status": ["done", "failed", "unanswered", "cancelled",
    "requires_action", "in_progress", "completed"], "life": [1], "code": [0, None], "expected": [True, False],
    "rule": ["plan/1", "plan/2", "plan/4"], "fault": ["kill", "poison_result", "commit_then_lose_reply", "prune_keys", "barrier"],
    "cause": [None, 1, 5, 20], "args": [{}, {"seconds": 1}], "detail": [None, "moot: gone"], "budget": [9.0], "settled": [True],
    "reason": ["because"], "tool_call_id": [None, "c1", "c2", "c3", "c4"], "run_id": ["r1", "r2", "r3", "r4"], "thread_id": ["th"],
    "step_id": ["s"], "ordinal": [0, 1], "generation": [1, 2], "via": ["poll"], "waiting_for": [(), ("c1",), ("c2", "c3")],
    "stale": [False, True], "submit_id": ["s1", "s2", "s3"], "outputs": None, "repeat": [False, False, True],
    "http_status": [200, 400, 422], "message": ["no"], "request_id": ["q1", "q2", "q3", "q4"], "tool": ["a", "b"],
    "payload_hash": ["p1", "p2", "p3"], "nonce": [None, "n1", "n2", "n3"], "key": [None, "k1", "c1"], "effect_id": ["e"],
    "external_id": ["INC-1", "INC-2", "INC-3", "INC-4"], "delivered": [True, False], "latency_ms": [5.0, 500.0],
    "error": [None, "ERR-1"], "definite": [False, True], "replayed": [False],
}
_TEXTS = ["INC-1", "INC-2 done", "see INC-3", "it failed", "whatever"]
_KINDS = [
    h.TurnPlanned, h.TurnSent, h.TurnEnded, h.RunCreated, h.RunCreated, h.ActionRequired, h.ActionRequired, h.ActionRequired,
    h.RunTold, h.RunTold, h.SubmitReceived, h.SubmitAccepted, h.SubmitAccepted, h.SubmitRefused, h.RunEnded, h.ToolRequested,
    h.ToolRequested, h.EffectCommitted, h.EffectCommitted, h.ToolReplied, h.CallbackPosted, h.InDoubtReported, h.FaultIntended,
    h.FaultInjected, h.FaultHealed, h.InstanceStarted, h.InstanceExited, h.InstanceReady, h.QuiesceEnded, h.CallbackDue,
]


def needed(kind: type[h.Event], name: str) -> bool:
    """Whether a field may not be None."""
    return "None" not in str(kind.__annotations__.get(name, "None"))


def anything(seed: int, size: int) -> list[h.Event]:
    """Events in which ids turn up wherever they can, in any order."""
    rng = random.Random(seed)

    def value(kind: type[h.Event], name: str) -> Any:
        if name == "outputs":
            return tuple(h.Output(tool_call_id=f"c{rng.randint(1, 4)}", output=rng.choice(_TEXTS)) for _ in range(rng.randint(0, 2)))
        if name != "calls":
            return rng.choice([v for v in _VALUES[name] if v is not None or not needed(kind, name)])
        if kind is h.TurnPlanned:
            return rng.choice([(), (("a",),), (("a", "b"),)])
        return tuple(
            h.Call(
                tool_call_id=f"c{rng.randint(1, 6)}", tool=rng.choice("ab"), position=n, nonce=rng.choice([None, "n1", "n2"]),
                payload_hash=f"p{rng.randint(1, 3)}",
            )
            for n in range(rng.randint(1, 2))
        )

    events: list[h.Event] = []
    for seq in range(1, size + 1):
        kind = rng.choice(_KINDS)
        names = [f.name for f in dataclasses.fields(kind) if f.name in _VALUES]
        fields = {name: value(kind, name) for name in names}
        events.append(kind(seq=seq, t=seq * 0.15, **fields))
    return events


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32), size=st.integers(1, 150), gateway=st.sampled_from(["keyed", "keyless", "lookup"]),
    parts=st.integers(1, 7),
)
def test_anything_at_all(tmp_path: Path, seed: int, size: int, gateway: str, parts: int) -> None:
    """Whatever ids events share, in whatever order they come."""
    same(tmp_path / "h.jsonl", anything(seed, size), gateway, [parts], retry_budget=RetryBudget(1, 1.0))


def test_conversations_are_dealt_out(tmp_path: Path) -> None:
    """Where nothing is shared, no part has more than its share; what is shared by all is in all of them."""
    past = many(60).rest()
    h.save(tmp_path / "h.jsonl", {}, past.events)
    with dealt_out(h.HistoryFile(tmp_path / "h.jsonl"), parts=4) as dealt:
        sizes = [sum(1 for _ in part.seek(0) or part) for part in dealt._parts]
    assert sum(sizes) == len(past.events) + 2 * 3
    assert max(sizes) < 0.6 * len(past.events)


def test_how_it_goes_is_told(tmp_path: Path) -> None:
    """Reading, dealing out and judging, each from its beginning on; and every event is shown once."""
    events = list(itertools.chain.from_iterable(itertools.repeat(many(1).events, 700)))
    events = [dataclasses.replace(event, seq=number) for number, event in enumerate(events, start=1)]
    h.save(tmp_path / "h.jsonl", {}, events)
    told: list[tuple[str, float]] = []
    seen: list[h.Event] = []
    file = h.HistoryFile(tmp_path / "h.jsonl")
    with dealt_out(file, parts=2, watch=seen.append, tell=lambda *what: told.append(what)) as dealt:
        dealt.judge(PROFILES["keyed"])
    assert seen == events
    assert list(dict.fromkeys(what for what, _ in told)) == ["reading", "dealing out", "judging"]
    assert all(0 <= share <= 1 for _, share in told)


def test_damage_is_told_as_ever(tmp_path: Path) -> None:
    """The line is named; nothing is judged."""
    h.save(tmp_path / "h.jsonl", {}, many(2).events)
    with (tmp_path / "h.jsonl").open("a") as file:
        file.write('{"seq":1,"t":0,"kind":"party"}\n')
    with pytest.raises(h.HistoryError, match="unknown kind of event 'party'"):
        judge_file(tmp_path / "h.jsonl", PROFILES["keyed"])


def test_something_else_in_the_place_of_an_id(tmp_path: Path) -> None:
    """A history that cannot even be indexed is unknown for the same reason."""
    events = many(3).events
    events.append(h.RunEnded(seq=len(events) + 1, t=99.0, run_id={}, status="completed"))  # type: ignore[arg-type]
    judgement = same(tmp_path / "h.jsonl", events)
    assert judgement.verdict == "unknown"
    assert "could not be indexed" in judgement.reasons[0]


def test_an_empty_history(tmp_path: Path) -> None:
    """It is vacuous, in however many parts."""
    assert same(tmp_path / "h.jsonl", []).reasons[0] == "vacuous: the history is empty"
