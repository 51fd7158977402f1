"""C4 and C6 on hand-written histories."""

from __future__ import annotations


def _two_steps(past):
    """Step 0 is done, and the instance was told of step 1; returns the first outputs."""
    past.turn(plan="create_ticket,send_email/refund_payment").run().ask("call_a", "call_b").told("call_a", "call_b")
    outputs = {"call_a": past.did("call_a"), "call_b": past.did("call_b")}
    past.submit(outputs).ask("call_c", step=1).told("call_c")
    return outputs


def test_two_steps_in_order_are_fine(past):
    """Each step's outputs in a submit of their own."""
    _two_steps(past)
    past.submit({"call_c": past.did("call_c")}, step=1).ended().done().rest()
    assert past.broken() == []


def test_mixing_two_steps_breaks_c4(past):
    """All outputs so far are submitted together; the batch is wrong too."""
    outputs = _two_steps(past)
    past.submit({**outputs, "call_c": past.did("call_c")}, refused=400)
    assert past.broken() == [("C4", "mixed"), ("C6", "foreign")]
    assert "mixes calls of steps 0 and 1" in past.judge().violations[0].message


def test_an_earlier_step_submitted_again_with_other_outputs_breaks_c4(past):
    """The instance knew that the run waits for step 1."""
    _two_steps(past)
    past.submit({"call_a": "x", "call_b": "y"}, refused=400)
    assert ("C4", "earlier") in past.broken()


def test_an_unchanged_repeat_of_an_earlier_step_is_information(past):
    """A submit whose answer was lost is sent again; by then the run has moved on."""
    outputs = _two_steps(past)
    past.submit(outputs, refused=400)
    past.submit({"call_c": past.did("call_c")}, step=1).ended().done().rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert "1 submits repeated an earlier step unchanged" in judgement.result("C4").note


def test_an_instance_that_was_not_told_of_the_later_step_is_excused(past):
    """Another instance knew; C8 alone speaks of the other outputs."""
    _two_steps(past)
    past.submit({"call_a": "x", "call_b": "y"}, refused=400, by="coordinator-2")
    assert {contract for contract, _ in past.broken()} == {"C8"}


def test_an_answer_that_a_fault_may_have_held_up_excuses(past):
    """While messages are held up their order proves nothing."""
    past.fault("toxic", None)
    _two_steps(past)
    past.submit({"call_a": "x", "call_b": "y"}, refused=400)
    assert not any(contract == "C4" for contract, _ in past.broken())


def test_accepted_outputs_that_go_backwards_break_c4(past):
    """Step 0 is accepted after step 1."""
    outputs = _two_steps(past)
    past.submit({"call_c": past.did("call_c")}, step=1)
    past.submit(outputs, step=0)
    assert past.broken() == [("C4", "backwards")]


def test_a_partial_batch_breaks_c6(past):
    """One of two outputs."""
    past.turn().run().ask("call_a", "call_b")
    past.submit({"call_a": past.did("call_a")}, refused=400)
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C6", "incomplete")]
    assert "carries 1 of 2 outputs and lacks call_b; expected: call_a, call_b" in judgement.violations[0].message


def test_an_empty_batch_breaks_c6(past):
    """No outputs at all."""
    past.turn().run().ask("call_a").submit({}, refused=400)
    assert past.broken() == [("C6", "incomplete")]


def test_a_foreign_call_breaks_c6(past):
    """An output for a call of another run."""
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_z", run="run_2")
    past.turn().run().ask("call_a").submit({"call_a": past.did("call_a"), "call_z": "x"}, refused=400)
    assert past.broken() == [("C6", "foreign")]


def test_a_submit_before_anything_was_asked_breaks_c6(past):
    """Nothing was asked for yet."""
    past.turn().run().submit({"call_a": "x"}, refused=400)
    assert past.broken() == [("C6", "foreign")]
    assert "expected: no outputs yet" in past.judge().violations[0].message


def test_a_duplicate_output_breaks_c6(past):
    """The same call twice in one submit."""
    from fakes.history import Output, SubmitReceived

    past.turn().run().ask("call_a")
    twice = (Output(tool_call_id="call_a", output="x"), Output(tool_call_id="call_a", output="x"))
    past.add(SubmitReceived, run_id="run_1", submit_id="s", outputs=twice)
    assert past.broken() == [("C6", "duplicate")]


def test_ids_that_were_generated_away_are_no_violation(past):
    """The complete batch of an earlier generation: the ids changed behind the sender's back."""
    past.turn().run().ask("call_a", "call_b").told("call_a", "call_b")
    a, b = past.did("call_a"), past.did("call_b")
    past.ask("call_c", "call_d", generation=2).submit({"call_a": a, "call_b": b}, refused=400)
    past.told("call_c", "call_d").submit({"call_c": a, "call_d": b}).ended().done().rest()
    assert past.broken() == []


def test_a_mixture_of_generations_breaks_c6(past):
    """Half of the old ids, half of the new: complete in neither."""
    past.turn().run().ask("call_a", "call_b").ask("call_c", "call_d", generation=2)
    past.submit({"call_a": "x", "call_d": "y"}, refused=400)
    assert past.broken() == [("C6", "foreign")]


def test_the_order_within_a_batch_does_not_matter(past):
    """Outputs may come in any order."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b")
    a, b = past.did("call_a"), past.did("call_b")
    past.submit({"call_b": b, "call_a": a}).ended().done().rest()
    assert past.broken() == []
