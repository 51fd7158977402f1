"""C2, C2' and C10 on hand-written histories."""

from __future__ import annotations

import pytest

IMPOSSIBLE = ("keyless", "keyed-short-ttl", "lookup-unbounded", "fence-only")


def test_without_quiesce_nothing_is_said_about_the_end(past, good):
    """A history that was cut off cannot show what is missing."""
    judgement = good(past).judge()
    assert judgement.result("C2").status == "unknown"
    assert (judgement.safe, judgement.live) == ("pass", "unknown")


def test_a_lost_call_breaks_c2(past):
    """No effect, no output, and nothing excuses it."""
    past.turn().run().ask("call_a").told("call_a").done(status="failed").rest()
    judgement = past.judge()
    assert [(v.contract, v.shape) for v in judgement.violations] == [("C2", "no_effect")]
    assert "no effect was committed and no output was accepted" in judgement.violations[0].message
    assert judgement.counts["lost"] == 1


def test_an_effect_without_output_breaks_c2(past):
    """The ticket is there, and the model never heard of it."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a")
    past.done(status="failed").rest()
    assert past.broken() == [("C2", "no_output")]
    assert past.judge().counts["lost"] == 0


def test_an_unanswered_turn_breaks_c2_by_itself(past):
    """The budget ran out, or the turn was sent and never ended."""
    past.turn("t1").done("t1", status="unanswered", detail="not done after 20 s").turn("t2", conversation="C2").rest()
    assert past.broken() == [("C2", "unanswered"), ("C2", "unanswered")]
    assert "was never answered (not done after 20 s)" in past.judge().violations[0].message


def test_a_turn_that_was_never_delivered_is_nobodys_fault(past, good):
    """Planned, and then the harness gave up."""
    assert good(past).turn("t2", conversation="C2", sends=0).rest().broken() == []


def test_a_turn_without_a_run_breaks_c2(past):
    """Called done, though no run was ever created for its script."""
    past.turn().done().rest()
    assert past.broken() == [("C2", "no_run")]


def test_a_run_without_its_turn_is_not_taken_for_none(past, good):
    """A run whose message lost its script in the same conversation: not counted as missing."""
    good(past, turn="t2", conversation="C2").turn().run("run_x", None, conversation="C1").done().rest()
    assert past.broken() == []


def test_a_turn_without_script_needs_no_run(past, good):
    """Nothing says what it should have done."""
    good(past, turn="t2", conversation="C2").turn(plan="").done().rest()
    assert past.broken() == []


def test_walking_away_from_a_run_breaks_c2(past):
    """Done was said after the first of two steps; the second was never reached."""
    past.turn(plan="create_ticket/send_email").run().ask("call_a")
    past.submit({"call_a": past.did("call_a")}).done().rest()
    assert past.broken() == [("C2", "walked_away")]


def test_a_failed_turn_with_all_calls_done_is_only_noted(past):
    """The customer got everything; the turn's word about it is not C2's business."""
    past.turn().run().ask("call_a")
    past.submit({"call_a": past.did("call_a")}).ended().done(status="failed").rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert "1 turns were called failed although all their calls were done" in judgement.result("C2").note


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_run_that_was_called_off_is_exempt(past, good, status):
    """Nobody waits for its calls any more."""
    good(past, turn="t2", conversation="C2").turn().run().ask("call_a").ended(status=status).done(status="failed").rest()
    assert past.broken() == []


def test_a_definite_error_is_exempt(past):
    """A tool that fails for good has no effect to wait for."""
    past.turn().run().ask("call_a").failed("call_a").submit({"call_a": "ERR-10001"}).ended().done().rest()
    assert past.broken() == []


def test_a_key_used_with_other_arguments_is_no_definite_error(past):
    """400 for a reused key is the coordinator's own mistake: the call is lost all the same."""
    past.turn().run().ask("call_a").failed("call_a", status=400, error="key 'k' was used with other arguments")
    past.submit({"call_a": "error: key was used"}).ended().done().rest()
    assert past.broken() == [("C2", "no_effect")]


def test_a_poisoned_result_is_exempt_in_its_conversation(past, good):
    """The result cannot be read; what the coordinator makes of it is not C2's business."""
    good(past, turn="t2", conversation="C2").turn().run().ask("call_a").told("call_a").fault("poison_result")
    past.did("call_a")
    past.done(status="failed").rest()
    assert past.broken() == []


def test_a_superseded_call_is_satisfied_by_its_successor(past):
    """The first generation's id never gets an output of its own."""
    past.turn().run().ask("call_a").ask("call_b", generation=2)
    past.submit({"call_b": past.did("call_b")}).ended().done().rest()
    assert past.broken() == []


def test_an_abandoned_run_is_satisfied_by_the_other_run(past):
    """The turn was delivered twice; one run does the work, the other is left alone."""
    past.turn(sends=2).run("run_1").ask("call_a", run="run_1").run("run_2").ask("call_b", run="run_2")
    past.submit({"call_b": past.did("call_b")}, run="run_2").ended("run_2").done().rest()
    assert past.broken() == []


def test_an_effect_under_one_id_and_an_output_under_another_count(past):
    """Killed after the commit in run 1, answered in run 2 by what run 1 had done."""
    past.turn(sends=2).run("run_1").ask("call_a", run="run_1")
    made = past.did("call_a")
    past.run("run_2").ask("call_b", run="run_2").submit({"call_b": made}, run="run_2").ended("run_2").done().rest()
    assert past.broken() == []


@pytest.mark.parametrize("gateway", IMPOSSIBLE)
def test_an_untouched_call_is_demanded_everywhere(past, gateway):
    """No fault anywhere: losing a call is a failure at every gateway, and a silent one."""
    past.turn().run().ask("call_a").told("call_a").done(status="failed").rest()
    assert past.broken(gateway) == [("C2", "no_effect"), ("C2'", "no_effect")]


@pytest.mark.parametrize("gateway", IMPOSSIBLE)
def test_a_touched_call_may_be_lost_but_not_silently(past, gateway):
    """The request was lost; whether it had its effect cannot be known there, and has to be said."""
    past.turn().run().ask("call_a").told("call_a").fault("lose_request").request("call_a")
    past.done(status="failed").rest()
    assert past.broken(gateway) == [("C2'", "no_effect")]
    past.doubt("call_a")
    assert past.broken(gateway) == []


def test_a_touched_call_is_demanded_where_it_is_possible(past):
    """The same at a gateway that honours keys is a failure, in doubt or not."""
    past.turn().run().ask("call_a").told("call_a").fault("lose_request").request("call_a")
    past.done(status="failed").doubt("call_a").rest()
    assert past.broken("keyed") == [("C2", "no_effect")]


def test_a_doubt_without_a_request_is_no_excuse(past):
    """Reporting in doubt what was never sent does not help."""
    past.turn().run().ask("call_a").told("call_a").done(status="failed").doubt("call_a").rest()
    assert past.broken("keyless") == [("C2", "no_effect")]


def test_a_doubt_under_an_earlier_id_counts(past):
    """C2' is kept by a report that names any id of the intent."""
    past.turn().run().ask("call_a").fault("lose_request").request("call_a")
    past.ask("call_b", generation=2).done(status="failed").doubt("call_a").rest()
    assert past.broken("keyless") == []


def test_a_global_fault_outside_the_turn_excuses_nothing(past):
    """A kill that was healed long before the turn began cannot have touched it; one within the turn may have."""
    past.fault("kill", None, heal=True).wait(10).turn("t1").run().ask("call_a").done("t1", status="failed")
    past.wait(10).turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2").fault("kill", None, heal=True)
    past.done("t2", status="failed").rest()
    assert past.broken("keyless") == [("C2", "no_effect"), ("C2'", "no_effect"), ("C2'", "no_effect")]
    assert [v.tool_call_id for v in past.judge("keyless").violations] == ["call_a", "call_a", "call_b"]


def test_c2_alone_is_demanded_in_full(past):
    """At a keyless gateway C2 without C1 is possible, so a touched call is demanded too."""
    past.turn().run().ask("call_a").fault("lose_request").request("call_a")
    past.done(status="failed").doubt("call_a").rest()
    assert past.broken("keyless", wanted=["C2"]) == [("C2", "no_effect")]


def test_an_unattributed_effect_may_be_the_missing_one(past):
    """Then C2 is unknown, not failed."""
    past.turn().run().ask("call_a")
    made = past.did("call_a", named=False, nonce=False, payload="?")
    past.submit({"call_a": made}).ended().done().rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert (judgement.safe, judgement.live, judgement.honest) == ("unknown", "unknown", "unknown")


@pytest.mark.parametrize("fault", ["poison_result", "permanent_failure"])
def test_a_poisoned_call_must_not_stop_the_others(past, fault):
    """Conversation C2 stands still behind a poisoned call of C1: C2 and C10 are both broken."""
    past.turn("t1").run().ask("call_a").fault(fault).failed("call_a").submit({"call_a": "ERR-10001"}).ended().done("t1")
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2").done("t2", status="unanswered").rest()
    assert set(past.broken()) == {
        ("C2", "unanswered"), ("C2", "no_effect"), ("C10", "unanswered"), ("C10", "no_effect"),
    }


def test_isolation_is_not_judged_where_another_fault_was(past):
    """What a fault of its own or a global one touched is C2's business alone."""
    past.turn("t1").run().ask("call_a").fault("permanent_failure").failed("call_a")
    past.submit({"call_a": "ERR-1"}).ended().done("t1")
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2").fault("slow", "C2")
    past.done("t2", status="failed").rest()
    assert past.broken() == [("C2", "no_effect")]


def test_isolation_without_a_poisoned_call_says_so(past, good):
    """It passes with nothing checked, and the note tells why."""
    result = good(past).rest().judge().result("C10")
    assert (result.status, result.checked) == ("pass", 0)
    assert result.note == "no call was poisoned or failed for good in this history"
