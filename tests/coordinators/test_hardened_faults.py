"""The hardened coordinator under each fault of the fakes, against each gateway profile."""

from __future__ import annotations

from typing import Any

import pytest

from coordinators.hardened import create_app

PROFILES = ("keyless", "keyed", "lookup", "fenced")
DECIDABLE = ("keyed", "lookup", "fenced")
TWO_STEPS = (("create_ticket", "send_email"), ("refund_payment",))

HARMLESS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stale_status": ("submit_accepted", "stale_status", {"n": 3}),
    "stale_submit_reply": ("submit_accepted", "stale_submit_reply", {}),
    "lose_submit_reply": ("submit_accepted", "lose_submit_reply", {}),
    "error_after_submit": ("submit_accepted", "error_after_submit", {"status": 500}),
    "refuse_submit": ("submit_received", "refuse_submit", {"status": 503}),
    "lose_submit": ("submit_received", "lose_submit", {}),
    "regenerated_same_ids": ("action_required", "regenerate_step", {"ids": "same"}),
    "regenerated_new_ids": ("action_required", "regenerate_step", {"ids": "new"}),
    "regenerated_later_same_ids": ("action_required", "regenerate_step", {"ids": "same", "after": 0.06}),
    "regenerated_later_new_ids": ("action_required", "regenerate_step", {"ids": "new", "after": 0.06}),
    "regenerated_when_told": ("run_told", "regenerate_step", {"ids": "new"}),
    "duplicate_submit": ("submit_received", "duplicate_delivery", {}),
    "duplicate_message": ("message_added", "duplicate_delivery", {}),
    "duplicate_run": ("run_created", "duplicate_delivery", {}),
    "slow_before": ("tool_requested", "slow", {"seconds": 1.0, "where": "before"}),
    "slow_after": ("tool_requested", "slow", {"seconds": 1.0, "where": "after"}),
    "poison_result": ("tool_requested", "poison_result", {}),
    "commit_then_lose_reply": ("tool_requested", "commit_then_lose_reply", {}),
    "commit_then_500": ("tool_requested", "commit_then_500", {}),
    "duplicate_callback": ("callback_due", "duplicate_callback", {"n": 3}),
    "late_callback": ("callback_due", "late_callback", {"seconds": 1.5}),
    "reorder_callbacks": ("callback_due", "reorder_callbacks", {}),
}
"""Faults that every profile can bear: one effect for each intent, and its result told."""


@pytest.mark.parametrize("profile", PROFILES)
def test_calm(chamber: Any, asking: Any, profile: str) -> None:
    """Without faults: one effect and one request for each call, one submit for each step, no request too many."""
    c = chamber(create_app, profile)
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert (c.requests(), c.submits()) == (3, 2)
    assert c.outputs_hold_effects()
    assert c.doubts == []


@pytest.mark.parametrize("profile", PROFILES)
def test_one_effect_for_each_intent(chamber: Any, rule: Any, asking: Any, profile: str) -> None:
    """Whatever repeats, every intent has one effect, its result is told, and nothing is in doubt. A conversation per fault."""
    turns = {name: asking(*TWO_STEPS, name=name) for name in HARMLESS}
    rules = [
        rule(kind, fault, args, when=lambda e, c=turns[name].conversation_id: e.conversation == c)
        for name, (kind, fault, args) in HARMLESS.items()
    ]
    c = chamber(create_app, profile, *rules)
    assert c.run(*turns.values()) == dict.fromkeys(turns, "done")
    assert {name: c.effects(of=turn) for name, turn in turns.items()} == {name: [1, 1, 1] for name in turns}
    assert c.outputs_hold_effects()
    assert c.doubts == []


@pytest.mark.parametrize("profile", ["keyless", "fenced"])
@pytest.mark.parametrize("fault", ["stale_status", "lose_submit_reply", "slow_after", "poison_result", "late_callback"])
def test_one_effect_although_it_happens_each_time(chamber: Any, rule: Any, asking: Any, fault: str, profile: str) -> None:
    """The same at every step and every call."""
    kind, name, args = HARMLESS[fault]
    c = chamber(create_app, profile, rule(kind, name, args, nth=0))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.outputs_hold_effects()
    assert c.doubts == []


@pytest.mark.parametrize("fault", ["lose_request", "unavailable"])
@pytest.mark.parametrize("profile", DECIDABLE)
def test_lost_requests_are_sent_again(chamber: Any, rule: Any, asking: Any, fault: str, profile: str) -> None:
    """A request that never arrived is sent again where the gateway makes that safe."""
    c = chamber(create_app, profile, rule("tool_requested", fault))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.outputs_hold_effects()
    assert c.requests() == 4


@pytest.mark.parametrize("fault", ["lose_request", "unavailable"])
def test_keyless_lost_requests_are_in_doubt(chamber: Any, rule: Any, asking: Any, fault: str) -> None:
    """Without any way to know, a call is never sent twice; it is reported, and the model is told neither yes nor no."""
    c = chamber(create_app, "keyless", rule("tool_requested", fault))
    assert c.run(asking(("create_ticket", "send_email"))) == {"turn_1": "done"}
    assert c.effects() == [1]
    assert c.requests() == 2
    assert len(c.doubts) == 1
    assert '"status":"unknown"' in c.outputs()[c.doubts[0]]


@pytest.mark.parametrize("profile", PROFILES)
def test_permanent_failure_is_told_once(chamber: Any, rule: Any, asking: Any, profile: str) -> None:
    """A definite error becomes one error output with the tool's own words; the call is not repeated."""
    c = chamber(create_app, profile, rule("tool_requested", "permanent_failure"))
    assert c.run(asking(("create_ticket", "send_email"))) == {"turn_1": "done"}
    assert c.effects() == [1]
    assert c.requests() == 2
    assert sum("ERR-" in text and "error" in text for text in c.outputs().values()) == 1
    assert c.doubts == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("kind", "fault"), [("action_required", "cancel_run"), ("run_told", "expire_run")])
def test_ended_run(chamber: Any, rule: Any, asking: Any, kind: str, fault: str, profile: str) -> None:
    """A run that somebody else ended fails its turn, and nothing is sent after this instance was told."""
    c = chamber(create_app, profile, rule(kind, fault))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "failed"}
    assert c.requests() == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_identical_calls_both_happen(chamber: Any, asking: Any, profile: str) -> None:
    """Two calls that ask for exactly the same, reference included, have an effect each."""
    turn = asking(("refund_payment", "refund_payment"))
    for call in turn.steps[0]:
        call.arguments["reference"] = "Cturn1_same"
    c = chamber(create_app, profile)
    assert c.run(turn) == {"turn_1": "done"}
    assert c.effects() == [2]
    assert c.outputs_hold_effects()
