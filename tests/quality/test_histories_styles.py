"""Whole histories of coordinators in many styles: right ones are never blamed, wrong ones always for the right thing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.gateway.profile import PROFILES

ONE, TWO = "coordinator-1", "coordinator-2"
Write = Callable[[Any], Any]


def _empty() -> Any:
    """An empty history to be written by hand, with the builder of tests/contracts."""
    name = "contract_histories"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "contracts" / "histories.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].Past()


def _end(past: Any, run: str = "run_1", status: str = "done") -> Any:
    return past.told(run=run).ended(run).told(run=run, status="completed").done(status=status).rest()


# --- right ones, each with the gateways at which it is right ---------------------------------------------------------


def calm_with_ids(past: Any) -> Any:
    """Two steps, ids passed on, nothing goes wrong."""
    past.turn(plan="create_ticket,create_ticket/create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    past.submit({c: past.did(c) for c in ("call_a", "call_b")}).told().ask("call_c", step=1).told("call_c")
    return _end(past.submit({"call_c": past.did("call_c")}, step=1))


def calm_without_ids(past: Any) -> Any:
    """A synchronous helper that passes neither ids nor keys."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    return _end(past.submit({c: past.did(c, named=False) for c in ("call_a", "call_b")}))


def stale_polls_ignored(past: Any) -> Any:
    """Three stale answers after the accepted submit, and no second dispatch."""
    past.turn().run().ask("call_a").told("call_a").submit({"call_a": past.did("call_a")})
    for _ in range(3):
        past.told("call_a", stale=True)
    return _end(past)


def stateless_with_keys(past: Any) -> Any:
    """It dispatches whatever it is told, always under the same key, and takes a refused repeat for done."""
    past.turn().run().ask("call_a").told("call_a").fault("stale_status")
    made = past.did("call_a", key="run_1/0/0")
    past.submit({"call_a": made})
    for _ in range(3):
        past.told("call_a", stale=True)
        past.reply(past.request("call_a", key="run_1/0/0"), made, replayed=True)
        past.submit({"call_a": made}, refused=400)
    return _end(past)


def retry_after_timeout_with_key(past: Any) -> Any:
    """The answer was lost after the commit; the key brings it back."""
    past.turn().run().ask("call_a").told("call_a").fault("commit_then_lose_reply")
    made = past.did("call_a", key="k", lost=True)
    past.wait(0.5).reply(past.request("call_a", key="k"), made, replayed=True)
    return _end(past.submit({"call_a": made}))


def takeover_with_lookup(past: Any) -> Any:
    """Killed after the commit; the other instance looks the call up before it acts, and finds it."""
    from fakes.history import InstanceExited, LookupAnswered

    past.turn().run().ask("call_a").told("call_a")
    request = past.request("call_a")
    made = past.commit(request)
    past.fault("kill", None, heal=True)
    past.add(InstanceExited, instance=ONE, life=1, code=-9, expected=True)
    past.told("call_a", by=TWO).add(LookupAnswered, tool_call_id="call_a", found=(made,), instance=TWO)
    return _end(past.submit({"call_a": made}, by=TWO))


def in_doubt_at_keyless(past: Any) -> Any:
    """The answer was lost; it does not try again, tells the model that it does not know, and reports it."""
    past.turn().run().ask("call_a").told("call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    past.submit({"call_a": "It is not known whether this was done."}).doubt("call_a")
    return _end(past)


def in_doubt_and_run_left_alone(past: Any) -> Any:
    """The request was lost; the call is reported, and the turn is called failed."""
    past.turn().run().ask("call_a").told("call_a").fault("lose_request").request("call_a")
    return past.doubt("call_a").done(status="failed").rest()


def in_doubt_under_load(past: Any) -> Any:
    """No fault at all, but the tool took longer than the time-out: that cannot be known either."""
    past.turn().run().ask("call_a").told("call_a").request("call_a")
    return past.doubt("call_a").done(status="failed").rest()


def regenerated_new_ids(past: Any) -> Any:
    """One dispatch for both generations; the first submit is refused, since its ids are gone."""
    past.turn().run().ask("call_a").told("call_a").fault("regenerate_step")
    request = past.request("call_a", key="run_1/0/0")
    past.ask("call_b", generation=2)
    made = past.commit(request)
    past.reply(request, made).submit({"call_a": made}, refused=400).told("call_b")
    return _end(past.submit({"call_b": made}))


def resent_turn_joins_the_first_run(past: Any) -> Any:
    """The turn comes twice; a second run was begun, and both are answered with the same effect."""
    past.turn(sends=2).run("run_1").ask("call_a", run="run_1").told("call_a", run="run_1")
    past.run("run_2").ask("call_b", run="run_2").told("call_b", run="run_2", by=TWO)
    made = past.did("call_a", key="t1/0/0")
    past.submit({"call_a": made}, run="run_1").submit({"call_b": made}, run="run_2", by=TWO)
    past.ended("run_2")
    return _end(past)


def two_instances_submit_the_same(past: Any) -> Any:
    """Both were told, one dispatched, both submit: the second is refused and nothing follows."""
    past.turn().run().ask("call_a").told("call_a").told("call_a", by=TWO)
    made = past.did("call_a")
    past.submit({"call_a": made}).submit({"call_a": made}, refused=400, by=TWO)
    return _end(past)


def lost_submit_answer(past: Any) -> Any:
    """The submit was accepted and its answer cut; the SDK sends it again, and the run has moved to the next step."""
    past.turn(plan="create_ticket/create_ticket").run().ask("call_a").told("call_a").fault("lose_submit_reply")
    made = past.did("call_a")
    past.submit({"call_a": made}).ask("call_b", step=1).submit({"call_a": made}, refused=400).told("call_b")
    return _end(past.submit({"call_b": past.did("call_b")}, step=1))


def identical_calls(past: Any) -> Any:
    """Two calls that are alike, two effects, no ids on the requests."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b", alike=True).told("call_a", "call_b")
    return _end(past.submit({c: past.did(c, named=False) for c in ("call_b", "call_a")}))


def cancelled_before_dispatch(past: Any) -> Any:
    """The run is cancelled between the look and the request; one conversation beside it goes well."""
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_z", run="run_2").told("call_z", run="run_2")
    past.submit({"call_z": past.did("call_z")}, run="run_2").ended("run_2").done("t2")
    past.turn().run().ask("call_a").told("call_a").fault("cancel_run").ended(status="cancelled")
    past.did("call_a")
    return past.told(status="cancelled").done(status="failed").rest()


def tool_fails_for_good(past: Any) -> Any:
    """One call fails for good, and that is told; the other one works."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    past.fault("permanent_failure").failed("call_a")
    return _end(past.submit({"call_a": '{"error": "refused (ERR-10001)"}', "call_b": past.did("call_b")}))


def late_and_double_callbacks(past: Any) -> Any:
    """An asynchronous result comes late, and twice; it is taken once."""
    from fakes.history import CallbackPosted

    past.turn().run().ask("call_a").told("call_a").fault("late_callback").fault("duplicate_callback", rule="plan/2")
    request = past.request("call_a")
    past.reply(request, status=202)
    made = past.commit(request)
    past.wait(1.5)
    for copy in (1, 2):
        past.add(
            CallbackPosted, conversation="C1", request_id=request, tool="create_ticket", attempt=1, copy=copy, http_status=200,
            tool_call_id="call_a", external_id=made,
        )
    return _end(past.submit({"call_a": made}))


def shared_queue(past: Any) -> Any:
    """One instance polls, the other dispatches and submits; the poller goes on polling."""
    past.turn().run().ask("call_a").told("call_a")
    made = past.did("call_a", by=TWO)
    past.told("call_a").submit({"call_a": made}, by=TWO)
    return _end(past)


EVERYWHERE = tuple(PROFILES)
EXACTLY_ONCE = ("keyed", "lookup", "fenced")
NOT_POSSIBLE = tuple(name for name in PROFILES if name not in EXACTLY_ONCE)
RIGHT: list[tuple[Write, tuple[str, ...]]] = [
    (calm_with_ids, EVERYWHERE),
    (calm_without_ids, EVERYWHERE),
    (stale_polls_ignored, EVERYWHERE),
    (stateless_with_keys, ("keyed",)),
    (retry_after_timeout_with_key, ("keyed",)),
    (takeover_with_lookup, ("lookup", "fenced")),
    (in_doubt_at_keyless, NOT_POSSIBLE),
    (in_doubt_and_run_left_alone, NOT_POSSIBLE),
    (in_doubt_under_load, NOT_POSSIBLE),
    (regenerated_new_ids, EVERYWHERE),
    (resent_turn_joins_the_first_run, EVERYWHERE),
    (two_instances_submit_the_same, EVERYWHERE),
    (lost_submit_answer, EVERYWHERE),
    (identical_calls, EVERYWHERE),
    (cancelled_before_dispatch, EVERYWHERE),
    (tool_fails_for_good, EVERYWHERE),
    (late_and_double_callbacks, EVERYWHERE),
    (shared_queue, EVERYWHERE),
]


@pytest.mark.parametrize(
    ("write", "gateway"), [pytest.param(w, g, id=f"{w.__name__}-{g}") for w, gateways in RIGHT for g in gateways]
)
def test_a_right_coordinator_is_never_blamed(write, gateway):
    """No violation, and everything could be decided, but for histories in which nothing was done on purpose."""
    judgement = write(_empty()).judge(gateway)
    assert judgement.violations == ()
    assert all(reason == "vacuous: no effect was committed" for reason in judgement.reasons)


# --- wrong ones, with what they are blamed for -----------------------------------------------------------------------


def no_dispatch_dedup(past: Any) -> Any:
    """The seed: told again, dispatched again; submission is deduplicated, effects are not."""
    past.turn().run().ask("call_a").told("call_a").submit({"call_a": past.did("call_a")}).told("call_a", stale=True)
    past.did("call_a")
    return _end(past)


def two_instances_at_once(past: Any) -> Any:
    """Check-then-set: both were told, both dispatched."""
    past.turn().run().ask("call_a").told("call_a").told("call_a", by=TWO)
    made = past.did("call_a")
    past.did("call_a", by=TWO)
    return _end(past.submit({"call_a": made}))


def new_key_per_attempt(past: Any) -> Any:
    """The answer was lost; the repeat has another key."""
    past.turn().run().ask("call_a").told("call_a").fault("commit_then_lose_reply")
    past.did("call_a", key="1", lost=True)
    return _end(past.submit({"call_a": past.did("call_a", key="2")}))


def payload_hash_key(past: Any) -> Any:
    """Two wishes that are alike get one effect."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b", alike=True).told("call_a", "call_b")
    made = past.did("call_a", key="hash")
    past.reply(past.request("call_b", key="hash"), made, replayed=True)
    return _end(past.submit({"call_a": made, "call_b": made}))


def record_before_submit_then_crash(past: Any) -> Any:
    """The dedup record says done, the submit never happened, nobody takes over."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a")
    return past.done(status="unanswered").rest()


def partial_batch(past: Any) -> Any:
    """Each result is submitted as it comes."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    a = past.did("call_a")
    past.submit({"call_a": a}, refused=400)
    return _end(past.submit({"call_a": a, "call_b": past.did("call_b")}))


def outputs_of_all_steps(past: Any) -> Any:
    """The outputs map is never emptied: step 1 is submitted with step 0's outputs."""
    past.turn(plan="create_ticket/create_ticket").run().ask("call_a").told("call_a")
    a = past.did("call_a")
    past.submit({"call_a": a}).ask("call_b", step=1).told("call_b")
    b = past.did("call_b")
    past.submit({"call_a": a, "call_b": b}, refused=400)
    return _end(past.submit({"call_b": b}, step=1))


def outputs_swapped(past: Any) -> Any:
    """Results are matched by order, and come in another."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    a, b = past.did("call_a"), past.did("call_b")
    return _end(past.submit({"call_a": b, "call_b": a}))


def error_turned_into_success(past: Any) -> Any:
    """The tool failed for good, and the model is told that it worked."""
    past.turn().run().ask("call_a").told("call_a").failed("call_a")
    return _end(past.submit({"call_a": '{"ok": true}'}))


def timeout_told_as_failure(past: Any) -> Any:
    """The effect is there; the model hears of a time-out."""
    past.turn().run().ask("call_a").told("call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    return _end(past.submit({"call_a": '{"error": "timed out"}'}))


def cancelled_run_dispatched(past: Any) -> Any:
    """It was told of the cancel before it sent anything."""
    past.turn().run().ask("call_a").told("call_a").ended(status="cancelled").told(status="cancelled")
    past.did("call_a")
    return past.done(status="failed").rest()


def dispatch_by_new_id(past: Any) -> Any:
    """The step comes again under new ids, and is done again."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a")
    past.ask("call_b", generation=2).told("call_b")
    return _end(past.submit({"call_b": past.did("call_b")}))


def turn_executed_again(past: Any) -> Any:
    """A resent turn gets a run of its own, and everything is done twice."""
    past.turn(sends=2).run("run_1").ask("call_a", run="run_1").told("call_a", run="run_1")
    past.did("call_a", named=False)
    past.run("run_2").ask("call_b", run="run_2").told("call_b", run="run_2")
    return _end(past.submit({"call_b": past.did("call_b", named=False)}, run="run_2"), "run_2")


def first_call_only(past: Any) -> Any:
    """The batch is truncated: the second call is never dispatched, and a word is made up for it."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b").told("call_a", "call_b")
    return _end(past.submit({"call_a": past.did("call_a"), "call_b": "skipped"}))


def refused_repeat_fails_the_turn(past: Any) -> Any:
    """The SDK's repeat of an accepted submit is refused, and the turn is called failed."""
    past.turn().run().ask("call_a").told("call_a").fault("lose_submit_reply")
    made = past.did("call_a")
    past.submit({"call_a": made}).submit({"call_a": made}, refused=400)
    return _end(past, status="failed")


WRONG: list[tuple[Write, set[str], set[str]]] = [
    (no_dispatch_dedup, {"C1"}, {"C1"}),
    (two_instances_at_once, {"C1"}, {"C1"}),
    (new_key_per_attempt, {"C1"}, {"C1"}),
    (payload_hash_key, {"C2", "C3", "C11"}, {"C2", "C2'", "C3", "C11"}),
    (record_before_submit_then_crash, {"C2"}, {"C2", "C2'"}),
    (partial_batch, {"C6"}, {"C6"}),
    (outputs_of_all_steps, {"C4", "C6"}, {"C4", "C6"}),
    (outputs_swapped, {"C3"}, {"C3"}),
    (error_turned_into_success, {"C9"}, {"C9"}),
    (timeout_told_as_failure, {"C3"}, {"C3"}),
    (cancelled_run_dispatched, {"C5"}, {"C5"}),
    (dispatch_by_new_id, {"C7"}, {"C7"}),
    (turn_executed_again, {"C7"}, {"C7"}),
    (first_call_only, {"C2", "C3"}, {"C2", "C2'", "C3"}),
    (refused_repeat_fails_the_turn, {"C8"}, {"C8"}),
]


@pytest.mark.parametrize(("write", "keyed", "keyless"), [pytest.param(*row, id=row[0].__name__) for row in WRONG])
def test_a_wrong_coordinator_is_blamed_for_the_right_thing(write, keyed, keyless):
    """Exactly these contracts are broken at a keyed and at a keyless gateway."""
    past = write(_empty())
    for gateway, expected in (("keyed", keyed), ("keyless", keyless)):
        judgement = past.judge(gateway)
        assert {violation.contract for violation in judgement.violations} == expected
        assert (judgement.verdict, judgement.exit_code) == ("fail", 1)
