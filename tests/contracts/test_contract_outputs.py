"""C3 and the wording of errors on hand-written histories."""

from __future__ import annotations

import pytest

from contracts.checks.common import quotes
from contracts.checks.wording import tells_error


def _turn(past, *ids, **ask):
    plan = ",".join("create_ticket" for _ in ids)
    return past.turn(plan=plan).run().ask(*ids, **ask).told(*ids)


def _end(past):
    return past.ended().done().rest()


@pytest.mark.parametrize("form", ["{}", '{{"ticket_id": "{}"}}', '"{{\\"a\\": \\"{}\\"}}"', "done:\\n{}\\n(ok)", "Ticket {}."])
def test_any_format_that_quotes_the_external_id_passes(past, form):
    """The gateway's text as it is, wrapped in JSON once or twice, or in words."""
    _turn(past, "call_a")
    made = past.did("call_a")
    _end(past.submit({"call_a": form.format(made)}))
    assert past.broken() == []


def test_swapped_outputs_break_c3(past):
    """Each call was answered with the other's ticket."""
    _turn(past, "call_a", "call_b")
    a, b = past.did("call_a"), past.did("call_b")
    _end(past.submit({"call_a": b, "call_b": a}))
    assert past.broken() == [("C3", "foreign"), ("C3", "foreign")]
    assert f"quotes {b}, the effect of call_b; its own is {a}" in past.judge().violations[0].message


def test_a_failure_told_although_committed_breaks_c3(past):
    """The timeout came after the commit, and the model was told that the refund failed."""
    _turn(past, "call_a")
    past.did("call_a", lost=True)
    _end(past.submit({"call_a": '{"error": "timeout"}'}))
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C3", "denied")]
    assert "tells the model that it failed, but INC-55102 was committed" in judgement.violations[0].message


def test_an_effect_that_lands_after_the_output_is_said_to_be_late(past):
    """The request was slow and landed after the model had been told of a failure."""
    _turn(past, "call_a")
    request = past.request("call_a")
    past.submit({"call_a": '{"error": "timeout"}'})
    past.commit(request)
    _end(past)
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C3", "denied_late")]
    assert "0.300 s after this was told" in judgement.violations[0].message


def test_in_doubt_and_without_any_id_is_honest(past):
    """Nobody knows, and that was reported."""
    _turn(past, "call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    _end(past.submit({"call_a": "It is not known whether this worked."}).doubt("call_a"))
    assert past.broken("keyless") == []


@pytest.mark.parametrize("text", ["It is not known whether this worked.", '{"status": "unknown"}', '{"error": "may have been sent"}'])
def test_in_doubt_and_told_as_unknown_is_honest_in_any_words(past, text):
    """A text may speak of an error as long as it leaves open what happened."""
    _turn(past, "call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    _end(past.submit({"call_a": text}).doubt("call_a"))
    assert past.broken("keyless") == []


def test_in_doubt_does_not_excuse_a_failure_that_was_none(past):
    """The report says that nobody knows, and the model was told that it failed; the effect is there."""
    _turn(past, "call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    _end(past.submit({"call_a": '{"error": "timeout"}'}).doubt("call_a"))
    assert past.broken("keyless") == [("C3", "denied")]


def test_a_report_in_doubt_of_what_was_answered_breaks_c3(past):
    """No fault, and the gateway's answer was there at once: there was nothing to be in doubt about."""
    _turn(past, "call_a")
    past.did("call_a")
    _end(past.submit({"call_a": "It is not known whether this worked."}).doubt("call_a"))
    assert past.broken("keyless") == [("C3", "denied")]


def test_a_report_in_doubt_excuses_nothing_where_it_can_be_known(past):
    """A key that the gateway honours makes repeating harmless, so nobody has to stay in doubt."""
    _turn(past, "call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    _end(past.submit({"call_a": "It is not known whether this worked."}).doubt("call_a"))
    assert past.broken("keyed") == [("C3", "denied")]


def test_in_doubt_does_not_excuse_another_calls_id(past):
    """A report in doubt does not allow to quote somebody else's effect."""
    _turn(past, "call_a", "call_b")
    past.did("call_a", lost=True)
    b = past.did("call_b")
    _end(past.submit({"call_a": b, "call_b": b}).doubt("call_a"))
    assert past.broken("keyless") == [("C3", "foreign")]


def test_a_made_up_result_breaks_c3(past):
    """No effect, no definite error: the model was told what the gateway never said."""
    _turn(past, "call_a").request("call_a")
    _end(past.submit({"call_a": '{"error": "timeout"}'}))
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C2", "no_effect"), ("C3", "made_up")]
    assert "the gateway never said anything for good about it" in judgement.violations[1].message


def test_a_result_of_a_tool_that_was_never_asked_breaks_c3(past):
    """Not even a request was sent."""
    _turn(past, "call_a")
    _end(past.submit({"call_a": '{"status": "created"}'}))
    assert "the gateway was never asked" in past.judge().violations[1].message


def test_a_definite_error_may_be_told(past):
    """The gateway refused it for good, and that is what the model hears."""
    _turn(past, "call_a").failed("call_a")
    _end(past.submit({"call_a": "could not be done, ERR-10001"}))
    assert past.broken() == []


def test_an_output_that_says_nothing_breaks_c3(past):
    """`ok` is not the result of an effect: nothing ties it to the ticket."""
    _turn(past, "call_a")
    past.did("call_a")
    _end(past.submit({"call_a": "ok"}))
    assert past.broken() == [("C3", "denied")]
    assert "says nothing of the result" in past.judge().violations[0].message


def test_a_poisoned_result_may_be_told_as_unreadable(past):
    """What cannot be read cannot be quoted."""
    _turn(past, "call_a").fault("poison_result")
    past.did("call_a")
    _end(past.submit({"call_a": "the tool's answer could not be read"}))
    assert past.broken() == []


def test_regenerated_calls_share_their_effect(past):
    """The output of the second id quotes the effect made under the first."""
    _turn(past, "call_a")
    made = past.did("call_a")
    _end(past.ask("call_b", generation=2).submit({"call_b": made}))
    assert past.broken() == []


def test_two_runs_of_a_turn_share_their_effect(past):
    """Both runs are answered with the one ticket that there is."""
    past.turn(sends=2).run("run_1").ask("call_a", run="run_1").run("run_2").ask("call_b", run="run_2")
    made = past.did("call_a")
    past.submit({"call_a": made}, run="run_1").submit({"call_b": made}, run="run_2")
    past.ended("run_1").ended("run_2").done().rest()
    assert past.broken() == []


def test_identical_calls_may_not_share_an_effect(past):
    """Both quote the first of two tickets."""
    _turn(past, "call_a", "call_b", alike=True)
    made = past.did("call_a", named=False)
    past.did("call_b", named=False)
    _end(past.submit({"call_a": made, "call_b": made}))
    assert past.broken() == [("C3", "shared")]


def test_identical_calls_without_ids_may_quote_either_way_round(past):
    """Nobody can say whose ticket is whose."""
    _turn(past, "call_a", "call_b", alike=True)
    a, b = past.did("call_a", named=False), past.did("call_b", named=False)
    _end(past.submit({"call_a": b, "call_b": a}))
    assert past.broken() == []


def test_a_duplicate_may_be_quoted_by_either_id(past):
    """Two effects of one call break C1 alone: the output quotes one of them."""
    _turn(past, "call_a")
    past.did("call_a", lost=True)
    second = past.did("call_a")
    _end(past.submit({"call_a": second}))
    assert past.broken() == [("C1", "call")]


def test_a_longer_id_is_not_the_same_id():
    """INC-5510 is not quoted by INC-55102; the escape of a line's end before or after it does not matter."""
    assert not quotes("see INC-55102", "INC-5510")
    assert quotes("INC-55102 and INC-5510", "INC-5510")
    assert quotes("a\\nINC-5510\\nb", "INC-5510")


@pytest.mark.parametrize(
    "text",
    [
        "ERR-10001", "The refund failed.", '{"error": "x"}', '{"error": {"code": 1}}', '{"status": "failed"}', '{"ok": false}',
        '{"success": false, "id": null}', '{"is_error": true}', '{"output": "{\\"error\\": \\"no\\"}"}', '"It was declined"',
        '[{"status": "error"}]', '{"status": 422}', "Could not create the ticket", "Sorry, we couldn't do that",
        '{"message": "rejected"}',
    ],
)
def test_texts_that_tell_an_error(text):
    """Ids, flags, statuses, and words."""
    assert tells_error(text)


@pytest.mark.parametrize(
    "text",
    [
        "ok", '{"status": "created"}', '{"error": null, "ok": true}', '{"errors": []}', "done without errors", "", "{}", "[]",
        "17", '{"status": 200}', "Completed with no error", '"refunded"', "{not json",
    ],
)
def test_texts_that_claim_success(text):
    """Nothing in them says that it failed."""
    assert not tells_error(text)


def test_deeply_nested_json_does_not_break_the_check():
    """A hostile output is judged by its words."""
    assert not tells_error("[" * 100_000)
