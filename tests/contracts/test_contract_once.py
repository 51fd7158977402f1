"""C1, C5b and C7 on hand-written histories."""

from __future__ import annotations


def test_one_effect_each_is_fine(past, good):
    """Three calls with one effect each break nothing, whether the requests name their calls or not."""
    assert good(past, "call_a", "call_b", "call_c").rest().broken() == []
    assert good(None, "call_a", "call_b", named=False).rest().broken() == []


def test_a_second_effect_of_a_call_breaks_c1(past):
    """The seed's story: the requires_action is told again, the call is dispatched again, two tickets are made."""
    past.turn().run().ask("call_a").told("call_a")
    first = past.did("call_a")
    past.submit({"call_a": first}).told("call_a", stale=True)
    second = past.did("call_a")
    (violation,) = past.judge("keyless").violations
    assert (violation.contract, violation.shape) == ("C1", "call")
    assert violation.effects == (first, second)
    assert violation.tool_call_id == "call_a"
    assert "2 effects (INC-55102, INC-55103, 1.800 s apart); at most one was expected" in violation.message


def test_a_second_effect_is_found_by_its_nonce_alone(past):
    """A coordinator that never passes an id on is attributed by the reference in the arguments."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a", named=False, lost=True)
    past.did("call_a", named=False)
    assert past.broken("keyless") == [("C1", "call")]


def test_a_retry_without_a_second_effect_is_fine(past):
    """Two requests and one effect: the key brought the first answer back."""
    past.turn().run().ask("call_a").told("call_a")
    made = past.did("call_a", key="k", lost=True)
    past.reply(past.request("call_a", key="k"), made, replayed=True)
    past.submit({"call_a": made}).ended().done().rest()
    assert past.broken() == []


def test_identical_calls_are_counted_as_a_multiset(past, good):
    """Two identical calls without ids may have two effects; three are one too many."""
    assert good(past, "call_a", "call_b", alike=True, named=False).rest().broken() == []
    past.did("call_a", named=False, by="coordinator-2")
    assert past.broken() == [("C1", "family")]


def test_identical_calls_with_ids_are_told_apart(past):
    """With tool_call_ids two effects of one of two identical calls are a duplicate, whatever the other has."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b", alike=True)
    past.did("call_a")
    past.did("call_a")
    assert ("C1", "call") in past.broken()


def test_regenerated_ids_break_c7_and_not_c1(past):
    """A step generated again under new ids is the same wish: two effects under two ids break C7."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a")
    past.ask("call_b", generation=2).told("call_b")
    past.did("call_b")
    assert past.broken() == [("C7", "intent")]


def test_regenerated_ids_without_names_break_c7(past):
    """The same without ids on the requests: the reference stays the same."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a", named=False)
    past.ask("call_b", generation=2).told("call_b")
    past.did("call_b", named=False)
    assert past.broken() == [("C7", "intent")]


def test_regenerated_ids_served_once_are_fine(past):
    """One effect, made under the first id and submitted under the second."""
    past.turn().run().ask("call_a").told("call_a")
    made = past.did("call_a")
    past.ask("call_b", generation=2).told("call_b").submit({"call_b": made}).ended().done().rest()
    assert past.broken() == []


def test_regenerated_same_ids_break_c1(past):
    """With the ids kept, the second dispatch is a second effect of the same call."""
    past.turn().run().ask("call_a").told("call_a")
    past.did("call_a")
    past.ask("call_a", generation=2).told("call_a")
    past.did("call_a")
    assert past.broken() == [("C1", "call")]


def test_a_second_run_of_one_turn_breaks_c7(past):
    """A resent turn that is executed again under a new run does everything twice."""
    past.turn().run("run_1").ask("call_a", run="run_1")
    past.did("call_a", named=False)
    past.sent("t1", 2).run("run_2").ask("call_b", run="run_2")
    past.did("call_b", named=False, run_sent=True)
    assert past.broken() == [("C7", "intent")]


def test_identical_calls_regenerated_are_counted_by_position(past):
    """Two identical positions, generated twice, served three times without ids: one too many for the customer."""
    past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b", alike=True)
    past.ask("call_c", "call_d", alike=True, generation=2)
    past.did("call_c", named=False)
    past.did("call_d", named=False)
    assert past.broken() == []
    past.did("call_d", named=False)
    assert past.broken() == [("C7", "family")]


def test_changed_arguments_are_not_satisfiable_here(past):
    """A step that came again with other arguments is another wish: noted, and no violation."""
    past.turn().run().ask("call_a")
    past.did("call_a")
    past.ask("call_b", generation=2, payload="other words")
    past.did("call_b")
    judgement = past.judge()
    assert judgement.violations == ()
    assert "not satisfiable at this layer" in judgement.result("C7").note


def test_a_changed_number_of_calls_is_not_satisfiable_here(past):
    """So is a step that came again with another number of calls."""
    past.turn().run().ask("call_a")
    past.did("call_a")
    past.ask("call_b", "call_c", generation=2)
    past.did("call_b")
    assert past.broken() == []


def test_an_invented_call_breaks_c5b(past, good):
    """An effect for an id that the API never issued, with nothing else that ties it to a call."""
    good(past).ask("call_x", run="run_t1", step=1)
    past.did("call_x", call_id_sent="call_of_my_own", nonce=False, payload="nobody asked for this")
    judgement = past.judge()
    assert [(v.contract, v.tool_call_id) for v in judgement.violations] == [("C5b", "call_of_my_own")]
    assert "a call that the API never issued" in judgement.violations[0].message


def test_own_ids_with_a_known_reference_are_no_invention(past):
    """A coordinator may make ids of its own: the reference still names the intent."""
    past.turn().run().ask("call_a").told("call_a")
    made = past.did("call_a", call_id_sent="job-17")
    past.submit({"call_a": made}).ended().done().rest()
    assert past.broken() == []
    past.did("call_a", call_id_sent="job-18")
    assert ("C1", "call") in past.broken()


def test_an_effect_that_names_nothing_is_unknown_and_not_a_failure(past, good):
    """No id, no reference, no known arguments: nobody can say, and nothing is green."""
    good(past).rest()
    past.did("call_t1", named=False, nonce=False, payload="unheard of")
    judgement = past.judge()
    assert judgement.violations == ()
    assert judgement.result("C1").status == "unknown"
    assert judgement.result("C5b").status == "unknown"
    assert judgement.counts["unattributed"] == 1
    assert judgement.exit_code == 3
