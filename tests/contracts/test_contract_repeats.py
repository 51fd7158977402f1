"""C8 on hand-written histories."""

from __future__ import annotations


def _accepted(past):
    """One call, done and accepted; returns its output."""
    past.turn().run().ask("call_a").told("call_a")
    made = past.did("call_a")
    past.submit({"call_a": made})
    return made


def test_a_refused_repeat_is_information(past):
    """The same outputs again, refused, understood as done."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400).ended().done().rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert judgement.result("C8").checked == 1
    assert "1 repeats were refused, which is information and no failure" in judgement.result("C8").note
    assert judgement.reached["submits refused 4xx"] == 1


def test_a_repeat_with_another_output_breaks_c8(past):
    """Whether it is refused or not."""
    _accepted(past)
    past.submit({"call_a": "something else"}, refused=400).ended().done().rest()
    assert past.broken() == [("C8", "other_output")]


def test_the_same_json_in_another_layout_is_the_same(past):
    """Spaces and the order of keys do not matter."""
    past.turn().run().ask("call_a")
    made = past.did("call_a")
    past.submit({"call_a": f'{{"id": "{made}", "ok": true}}'})
    past.submit({"call_a": f'{{"ok":true,"id":"{made}"}}'}, repeat=True).ended().done().rest()
    assert past.broken() == []


def test_a_repeat_under_new_ids_is_a_repeat_too(past):
    """The step came again under new ids after its outputs had been accepted."""
    made = _accepted(past)
    past.ask("call_b", generation=2).submit({"call_b": "other"}, refused=400)
    assert past.broken() == [("C8", "other_output")]
    assert made


def test_a_turn_that_fails_for_a_refused_repeat_breaks_c8(past):
    """The run completed, and the customer is told that it failed."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400).ended().done(status="failed").rest()
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C8", "failed_turn")]
    assert judgement.honest == "fail"
    assert judgement.live == "pass"


def test_a_turn_that_fails_for_another_reason_is_fine(past):
    """A tool failed for good; the refused repeat is beside the point."""
    past.turn().run().ask("call_a").failed("call_a").submit({"call_a": "ERR-10001"})
    past.submit({"call_a": "ERR-10001"}, refused=400).ended().done(status="failed").rest()
    assert past.broken() == []


def test_a_turn_that_failed_with_its_run_is_fine(past):
    """The run itself failed."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400).ended(status="failed").done(status="failed").rest()
    assert past.broken() == []


def test_a_new_dispatch_after_a_refused_repeat_breaks_c8(past):
    """The refusal was taken for a reason to call the tool again."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400)
    past.request("call_a")
    assert past.broken() == [("C8", "new_dispatch")]


def test_a_new_dispatch_that_an_answer_asked_for_is_not_c8s(past):
    """It was told that the run waits for the call: that is a stale answer's doing, and C1's business."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400).told("call_a", stale=True).request("call_a")
    assert past.broken() == []


def test_a_dispatch_by_another_instance_is_not_c8s(past):
    """Only who was refused is judged."""
    made = _accepted(past)
    past.submit({"call_a": made}, refused=400)
    past.request("call_a", by="coordinator-2")
    assert past.broken() == []


def test_a_repeated_key_is_no_new_dispatch_where_keys_are_honoured(past):
    """It brings the first answer back."""
    past.turn().run().ask("call_a")
    made = past.did("call_a", key="k")
    past.submit({"call_a": made}).submit({"call_a": made}, refused=400).request("call_a", key="k")
    assert past.broken("keyed") == []
    assert past.broken("keyless") == [("C8", "new_dispatch")]


def test_a_server_error_is_no_refusal(past):
    """After a 503 nothing was accepted: submitting other words later is no repeat."""
    past.turn().run().ask("call_a")
    made = past.did("call_a")
    past.submit({"call_a": made}, refused=503).submit({"call_a": made}).ended().done().rest()
    assert past.broken() == []
    assert past.judge().result("C8").checked == 0
