"""C9 and C12 on hand-written histories."""

from __future__ import annotations

import pytest

from contracts import RetryBudget


def _failed(past):
    return past.turn().run().ask("call_a").told("call_a").failed("call_a")


def test_an_error_that_is_told_is_honest(past):
    """One error output for a tool that failed for good."""
    _failed(past).submit({"call_a": '{"error": "ERR-10001"}'}).ended().done().rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert judgement.result("C9").checked == 1


def test_an_error_turned_into_success_breaks_c9(past):
    """The model is told that it worked."""
    _failed(past).submit({"call_a": '{"status": "created"}'}).ended().done().rest()
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C9", "success")]
    assert "an output that says that it failed was expected" in judgement.violations[0].message


def test_silence_about_a_definite_error_breaks_c9(past):
    """No output at all, by the end."""
    _failed(past).done(status="failed").rest()
    assert past.broken() == [("C9", "silence")]


def test_silence_cannot_be_judged_before_the_end(past):
    """Without quiesce it may still come."""
    assert _failed(past).judge().result("C9").status == "unknown"


def test_silence_is_fine_when_the_run_was_called_off(past):
    """Nobody waits for the output."""
    assert _failed(past).ended(status="expired").done(status="failed").rest().broken() == []


def test_an_asynchronous_error_counts(past):
    """The definite error came in a callback."""
    from fakes.history import CallbackPosted

    past.turn().run().ask("call_a").told("call_a")
    past.reply(past.request("call_a"), status=202)
    past.add(
        CallbackPosted, conversation="C1", request_id="req_1", tool="create_ticket", attempt=1, http_status=200,
        tool_call_id="call_a", error="refused (error ERR-5)", definite=True,
    )
    past.submit({"call_a": "all is well"}).ended().done().rest()
    assert past.broken() == [("C9", "success")]


def test_an_effect_after_all_leaves_it_to_c3(past):
    """A second attempt worked: the output quotes the effect."""
    past.turn().run().ask("call_a").failed("call_a")
    past.submit({"call_a": past.did("call_a")}).ended().done().rest()
    assert past.broken() == []


def test_a_declared_number_of_attempts_is_held_to(past):
    """Three requests where two were declared."""
    past.turn().run().ask("call_a")
    for _ in range(3):
        past.reply(past.request("call_a"), status=503, error="unavailable")
    assert ("C12", "attempts") in past.broken(retry_budget=RetryBudget(max_attempts=2))
    assert past.broken(retry_budget=RetryBudget(max_attempts=3)) == []


def test_a_declared_backoff_is_held_to(past):
    """0.6 s apart where 1 s was declared."""
    past.turn().run().ask("call_a")
    for _ in range(2):
        past.reply(past.request("call_a"), status=503, error="unavailable")
    (violation,) = past.judge(retry_budget=RetryBudget(min_backoff=1.0)).violations
    assert (violation.contract, violation.shape) == ("C12", "backoff")
    assert "was sent again 0.600 s later; at least 1 s were declared" in violation.message
    assert past.broken(retry_budget=RetryBudget(min_backoff=0.1)) == []


@pytest.mark.parametrize("budget", [None])
def test_without_a_budget_c12_is_not_demanded(past, good, budget):
    """It is optional."""
    assert good(past).judge(retry_budget=budget).result("C12").status == "not_demanded"
