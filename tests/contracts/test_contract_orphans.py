"""C5 on hand-written histories."""

from __future__ import annotations

import pytest

from fakes.history import InstanceExited, InstanceStarted

TWO = "coordinator-2"


def _cancelled(past):
    """The instance was told of call_a, then that the run is cancelled."""
    return past.turn().run().ask("call_a").told("call_a").ended(status="cancelled").told(status="cancelled")


def _orphans(past, gateway="keyless"):
    return [shape for contract, shape in past.broken(gateway) if contract == "C5"]


@pytest.mark.parametrize("status", ["cancelled", "expired", "cancelling"])
def test_a_request_after_the_end_was_told_breaks_c5(past, status):
    """The tool of a run that was called off is dispatched all the same."""
    past.turn().run().ask("call_a").told("call_a").told(status=status)
    made = past.did("call_a")
    (violation,) = [v for v in past.judge("keyless").violations if v.contract == "C5"]
    assert violation.shape == status
    assert violation.effects == (made,)
    assert f"0.300 s after it was told that run_1 is {status} and does not wait for it" in violation.message


def test_a_request_before_the_end_was_told_is_fine(past):
    """The cancel landed between its look and its request."""
    past.turn().run().ask("call_a").told("call_a").ended(status="cancelled").did("call_a")
    past.told(status="cancelled")
    assert _orphans(past) == []


def test_what_another_instance_was_told_does_not_count(past):
    """Knowledge is one's own."""
    _cancelled(past).told("call_a", by=TWO)
    past.did("call_a", by=TWO)
    assert _orphans(past) == []


def test_an_instance_that_never_knew_the_call_is_not_judged(past):
    """It took the call from a shared queue: nothing it was told speaks of that call."""
    past.turn().run().told(status="queued", by=TWO).ask("call_a").told("call_a").told(status="in_progress", by=TWO)
    past.did("call_a", by=TWO)
    assert _orphans(past) == []


def test_an_unknown_sender_is_not_judged(past):
    """A request without an instance, as in a production log."""
    _cancelled(past).did("call_a", by=None)
    assert _orphans(past) == []


def test_a_stale_answer_excuses(past):
    """Its latest knowledge is that the run waits again; that it was stale it could not know."""
    past.turn().run().ask("call_a").told("call_a")
    past.submit({"call_a": past.did("call_a")}).told(status="in_progress").told("call_a", stale=True).did("call_a")
    assert _orphans(past) == []


def test_a_request_after_the_run_moved_on_breaks_c5(past):
    """The outputs were accepted, it was told so, and it calls the tool once more."""
    past.turn().run().ask("call_a").told("call_a")
    past.submit({"call_a": past.did("call_a")}).told(status="in_progress").did("call_a")
    assert _orphans(past) == ["moved_on"]


def test_a_step_that_is_generated_again_is_not_over(past):
    """in_progress before the outputs were accepted: the same calls may come back."""
    past.turn().run().ask("call_a").told("call_a").told(status="in_progress").did("call_a")
    assert _orphans(past) == []


def test_a_lost_step_that_then_ended_is_over(past):
    """In between it was told in_progress; that the run expired it was told in the end."""
    past.turn().run().ask("call_a").told("call_a").told(status="in_progress").told(status="expired").did("call_a")
    assert _orphans(past) == ["expired"]


def test_an_intent_that_is_wanted_under_another_id_is_fine(past):
    """A retry under the first id while the run waits for the second: the wish is the same."""
    past.turn().run().ask("call_a").told("call_a").ask("call_b", generation=2).told("call_b").did("call_a")
    assert _orphans(past) == []


def test_a_request_without_ids_is_judged_when_all_its_calls_are_over(past):
    """Only the reference names it, and each call it can be for is over."""
    _cancelled(past).did("call_a", named=False)
    assert _orphans(past) == ["cancelled"]


def test_a_request_that_crosses_the_answer_is_not_judged(past):
    """Both within the race window."""
    _cancelled(past)
    past.step = 0.02
    past.did("call_a")
    assert _orphans(past) == []


def test_messages_that_a_fault_held_up_are_not_judged(past):
    """While a toxic is on, or a barrier holds answers, their order proves nothing."""
    past.fault("toxic", None)
    _cancelled(past).did("call_a")
    assert _orphans(past) == []


def test_a_barrier_holds_up_its_own_conversation_only(past):
    """The barrier of C1 excuses C1, and not C2."""
    past.fault("barrier", "C1", seconds=5.0)
    _cancelled(past).did("call_a")
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2").told("call_b", run="run_2")
    past.told(run="run_2", status="expired").did("call_b")
    assert _orphans(past) == ["expired"]


def test_a_healed_fault_stops_excusing_after_a_while(past):
    """Long after it was healed, order proves something again."""
    past.fault("kill", None, heal=True).wait(5)
    _cancelled(past).did("call_a")
    assert _orphans(past) == ["cancelled"]


def test_a_restarted_instance_knows_nothing(past):
    """What its former life was told went with it."""
    _cancelled(past)
    past.add(InstanceExited, instance="coordinator-1", life=1, code=-9, expected=True)
    past.add(InstanceStarted, instance="coordinator-1", life=2)
    past.did("call_a")
    assert _orphans(past) == []


def test_a_retry_under_its_key_is_fine_where_keys_are_honoured(past):
    """The first attempt was in flight when the end was told; the repeat cannot make a second effect."""
    past.turn().run().ask("call_a").told("call_a").request("call_a", key="k")
    past.told(status="cancelled").request("call_a", key="k")
    assert _orphans(past, "keyed") == []
    assert _orphans(past, "keyless") == ["cancelled"]
