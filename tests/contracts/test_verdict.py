"""The judgement as a whole: three verdicts, vacuity, broken checkers, what was reached, and verdict.json."""

from __future__ import annotations

import json

import pytest

from contracts import judge, to_json
from contracts.checks import CHECKS
from contracts.result import Violation
from fakes.gateway.profile import PROFILES
from fakes.history import FaultFailed, InstanceExited, InstanceReady, InstanceStarted, RunInterrupted, read
from fakes.history import to_json as event_to_json

KEYS = [
    "format_version", "verdict", "safe", "live", "honest", "exit_code", "seed", "coordinator", "gateway", "seconds",
    "counts", "contracts", "violations", "reached", "plans", "faults", "reproduce",
]


@pytest.mark.parametrize("gateway", PROFILES)
def test_a_good_history_passes_everywhere(past, good, gateway):
    """Nothing is wrong, and nothing is unknown."""
    judgement = good(past).rest().judge(gateway)
    assert (judgement.verdict, judgement.exit_code, judgement.reasons) == ("pass", 0, ())
    assert (judgement.safe, judgement.live, judgement.honest) == ("pass", "pass", "pass")


def test_an_empty_history_is_unknown():
    """Nothing happened, so nothing is green."""
    judgement = judge([], PROFILES["keyed"])
    assert (judgement.verdict, judgement.exit_code) == ("unknown", 3)
    assert judgement.reasons[0] == "vacuous: the history is empty"


def test_a_history_without_effects_is_vacuous(past):
    """Turns were delivered, and nothing was done."""
    past.turn(plan="").run().ended().done().rest()
    judgement = past.judge()
    assert judgement.verdict == "unknown"
    assert "vacuous: no tool call was issued" in judgement.reasons
    assert "vacuous: no effect was committed" in judgement.reasons


def test_a_history_without_an_ended_turn_is_vacuous(past):
    """Nobody answered anything; that is a failure of C2 as well."""
    past.turn().done(status="unanswered").rest()
    judgement = past.judge()
    assert judgement.verdict == "fail"
    assert "vacuous: no turn came to its end" in judgement.reasons


def test_a_rule_that_never_fired_is_vacuous(past, good):
    """Unless it is optional; a fault that took no effect says so."""
    good(past.fault("slow", rule="plan/1")).rest()
    rules = [("plan/1", False), ("plan/2", True)]
    assert past.judge(expected_rules=rules).verdict == "pass"
    judgement = past.judge(expected_rules=[*rules, ("plan/3", False)])
    assert (judgement.verdict, judgement.exit_code) == ("unknown", 3)
    assert judgement.reasons == ("vacuous: rule plan/3 never fired: the event that it waits for never happened",)
    assert judgement.fired == {"plan/1": 1, "plan/2": 0, "plan/3": 0}


def test_a_violation_stays_one_in_a_vacuous_run(past):
    """What was seen was seen."""
    past.turn().run().ask("call_a")
    past.did("call_a")
    past.did("call_a")
    judgement = past.judge(expected_rules=[("plan/1", False)])
    assert (judgement.verdict, judgement.safe, judgement.live) == ("fail", "fail", "unknown")


def test_a_crashed_checker_is_unknown(past, good, monkeypatch):
    """Never green; the others are judged all the same."""

    def broken(index, terms):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setitem(CHECKS, "C1", broken)
    judgement = good(past).rest().judge()
    assert (judgement.safe, judgement.live, judgement.verdict, judgement.exit_code) == ("unknown", "pass", "unknown", 3)
    assert judgement.result("C1").note.startswith("the checker crashed: ZeroDivisionError: no such luck (broken, line ")
    assert judgement.reasons[0].startswith("C1 at_most_one_effect: the checker crashed")


def test_a_history_that_cannot_be_indexed_is_unknown(past, good):
    """What is no event at all does not end in a traceback."""
    events = [*good(past).events, object()]
    judgement = judge(events, PROFILES["keyed"])
    assert (judgement.verdict, judgement.index) == ("unknown", None)
    assert "could not be indexed" in judgement.reasons[0]
    assert to_json(judgement, {}, "")["verdict"] == "unknown"


def test_a_fault_that_failed_makes_the_run_invalid(past, good):
    """The plan was not carried out: exit code 2."""
    good(past).add(FaultFailed, rule="plan/1", fault="kill", reason="no such process")
    judgement = past.rest().judge()
    assert (judgement.verdict, judgement.safe, judgement.exit_code) == ("invalid", "invalid", 2)
    assert judgement.reasons == ("fault kill of rule plan/1 failed: no such process",)


def test_an_invalid_run_can_still_show_a_violation_of_safety(past):
    """Two effects are two effects; what is missing proves nothing."""
    past.turn().run().ask("call_a", "call_b")
    past.did("call_a")
    past.did("call_a")
    past.done(status="failed").add(FaultFailed, rule="plan/1", fault="toxic", reason="not healed")
    judgement = past.rest().judge()
    assert (judgement.verdict, judgement.safe, judgement.live, judgement.exit_code) == ("fail", "fail", "invalid", 1)
    assert {v.contract for v in judgement.violations} == {"C1"}
    assert "what is missing proves nothing" in judgement.result("C2").note


def test_an_instance_that_never_got_ready_makes_the_run_invalid(past, good):
    """It was started, and that was all."""
    past.add(InstanceStarted, instance="coordinator-1", life=1)
    past.add(InstanceStarted, instance="coordinator-2", life=1)
    past.add(InstanceReady, instance="coordinator-1", life=1)
    judgement = good(past).rest().judge()
    assert judgement.reasons == ("coordinator-2 was started and never got ready",)
    assert judgement.verdict == "invalid"


def test_an_interrupted_run_is_130(past, good):
    """It was stopped from outside: unknown, unless a violation had been seen."""
    good(past).turn("t2", conversation="C2").add(RunInterrupted, reason="Ctrl-C")
    judgement = past.judge()
    assert (judgement.verdict, judgement.exit_code) == ("unknown", 130)
    assert judgement.reasons[0] == "interrupted: Ctrl-C"
    past.did("call_t1", by="coordinator-2")
    assert (past.judge().verdict, past.judge().exit_code) == ("fail", 130)


def test_a_file_that_was_cut_off_is_judged_as_far_as_it_goes(past, good, tmp_path):
    """kill -9 of the harness: the last line is damaged, and what is missing cannot be held against anybody."""
    good(past).rest()
    path = tmp_path / "history.jsonl"
    lines = [json.dumps({"format_version": 1, "seed": 7}), *(json.dumps(event_to_json(event)) for event in past.events)]
    text = "\n".join(lines)
    path.write_text(text[: text.index("quiesce_started") + 5])
    header, events, warning = read(path)
    judgement = judge(events, PROFILES["keyed"])
    assert warning is not None
    assert (judgement.safe, judgement.live, judgement.honest, judgement.exit_code) == ("pass", "unknown", "pass", 3)
    assert to_json(judgement, header, "")["seed"] == 7


def test_only_what_is_wanted_is_judged(past):
    """The others are not demanded."""
    past.turn().run().ask("call_a")
    past.did("call_a")
    past.did("call_a")
    judgement = past.judge(wanted=["step_order"])
    assert judgement.result("C1").status == "not_demanded"
    assert judgement.result("C4").status == "pass"


def test_the_substitute_is_not_judged_where_c2_is(past, good):
    """C2' at a gateway that makes C2 possible says that C2 is demanded."""
    result = good(past).rest().judge().result("C2'")
    assert (result.status, result.note) == ("not_demanded", "C2 is demanded of every call at this gateway")


def test_counts_tell_duplicates_and_losses(past):
    """Three effects for two of three intents: one duplicate, one lost."""
    past.turn(plan="create_ticket,create_ticket,create_ticket").run().ask("call_a", "call_b", "call_c")
    past.did("call_a")
    past.did("call_a")
    past.did("call_b")
    past.done(status="failed").rest()
    assert past.judge().counts == {
        "turns": 1, "tool_calls": 3, "effects": 3, "duplicates": 1, "lost": 1, "unattributed": 0,
    }


def test_what_was_reached_is_counted_in_words(past):
    """Faults by tool, and the paths that were walked."""
    past.turn(sends=2).run().ask("call_a", tool="refund_payment").told("call_a")
    request = past.request("call_a", key="k")
    past.fault("commit_then_lose_reply")
    made = past.commit(request)
    past.reply(request, made, delivered=False)
    past.reply(past.request("call_a", key="k"), made, replayed=True)
    past.submit({"call_a": made}).told("call_a", stale=True).submit({"call_a": made}, refused=400)
    past.add(InstanceExited, instance="coordinator-1", life=1, code=-9, expected=True)
    assert past.judge().reached == {
        "commit_then_lose_reply on refund_payment": 1,
        "gateway answers brought back by a key": 1,
        "gateway answers lost": 1,
        "instances ended by a fault": 1,
        "requests retried": 1,
        "requires_action told again after accepted submit": 1,
        "stale answers": 1,
        "submits refused 4xx": 1,
        "turns delivered again": 1,
    }


def test_verdict_json_has_its_fields(past):
    """The fields of the report, in order, as plain JSON; reasons only where there are some."""
    past.turn(under=("plan",)).run().ask("call_a").told("call_a")
    past.did("call_a")
    past.did("call_a")
    past.ended(status="cancelled").done(status="failed").rest()
    judgement = past.judge(expected_rules=[("plan/1", True)])
    plan = {"name": "plan", "rules": [{"id": "plan/1"}]}
    header = {"seed": 42, "coordinator": "as_deployed", "gateway": "keyed", "plans": [plan]}
    data = json.loads(json.dumps(to_json(judgement, header, "anechoic gate --seed 42")))
    assert list(data) == KEYS
    assert (data["format_version"], data["verdict"], data["exit_code"], data["seed"]) == (1, "fail", 1, 42)
    assert (data["coordinator"], data["gateway"], data["reproduce"]) == ("as_deployed", "keyed", "anechoic gate --seed 42")
    (violation,) = data["violations"]
    assert list(violation) == [
        "contract", "shape", "message", "conversation", "plans", "run_id", "tool_call_id", "effects", "events",
    ]
    assert (violation["shape"], violation["conversation"], violation["plans"]) == ("call", "C1", ["plan"])
    assert (violation["contract"], violation["run_id"], violation["tool_call_id"]) == ("C1", "run_1", "call_a")
    assert violation["effects"] == ["INC-55102", "INC-55103"]
    assert data["faults"] == [{"rule": "plan/1", "fired": 0}]
    assert data["contracts"][0] == {
        "id": "C1", "name": "at_most_one_effect", "class": "safety", "status": "fail", "checked": 1, "violations": 1,
        "note": "",
    }
    assert data["plans"] == [{"name": "plan", "turns": 1, "rules": ["plan/1"], "fired": 0}]
    empty = to_json(judge([], PROFILES["keyed"]), header, "")
    assert list(empty) == [*KEYS, "reasons", "unsound"]
    assert empty["unsound"] == ["vacuous: the history is empty"]


def test_violations_are_equal_by_contract_and_shape():
    """So that shrinking keeps to one failure while ids change."""
    one = Violation("C1", "call", "first words", run_id="run_1", effects=("INC-1",))
    assert one == Violation("C1", "call", "other words", run_id="run_2")
    assert one != Violation("C1", "family", "first words")
    assert len({one, Violation("C1", "call", "x")}) == 1
