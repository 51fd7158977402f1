"""What a fault can have touched, and for how long."""

from __future__ import annotations

from contracts.disturbances import Disturbances
from fakes.history import FaultHealed, FaultInjected, FaultIntended


def _faults(*events):
    faults = Disturbances()
    for event in events:
        add = {FaultIntended: faults.intended, FaultInjected: faults.injected, FaultHealed: faults.healed}[type(event)]
        add(event)
    faults.close()
    return faults


def _fault(cls, t, name, conversation=None, **fields):
    return cls(seq=int(t * 10), t=t, rule="r", fault=name, conversation=conversation, **fields)


def test_a_fault_of_a_fake_touches_its_conversation_only():
    """At any time: what it set off may come later."""
    faults = _faults(_fault(FaultIntended, 1, "lose_request", "C1"), _fault(FaultInjected, 1.1, "lose_request", "C1"))
    assert faults.touched("C1", 50, 60)
    assert not faults.touched("C2", 0, 60)
    assert faults.fired() == {"r": 1}
    assert faults.conversations("lose_request") == {"C1"}


def test_a_fault_of_the_world_touches_everybody_until_healed():
    """From its intent until a second after it was healed."""
    faults = _faults(_fault(FaultIntended, 5, "kill"), _fault(FaultInjected, 5.1, "kill"), _fault(FaultHealed, 6, "kill"))
    assert not faults.touched("C1", 0, 4.9)
    assert faults.touched("C1", 4, 5)
    assert faults.touched("C1", 6.9, 7.5)
    assert not faults.touched("C1", 7.1, 60)


def test_a_fault_that_was_never_healed_lasts_until_the_end():
    """Nobody said that it is over."""
    faults = _faults(_fault(FaultInjected, 5, "toxic"))
    assert faults.touched("C1", 1000, 1001)
    assert faults.held_up("C1", 1000, 1001)


def test_a_resent_turn_breaks_nothing_and_is_never_healed():
    """It touches its moment only."""
    faults = _faults(_fault(FaultIntended, 5, "resend_turn"), _fault(FaultInjected, 5, "resend_turn"))
    assert not faults.touched("C1", 7, 9)


def test_a_nuisance_touches_nothing_and_may_still_hold_messages_up():
    """Stale polls hide nothing about a tool; nor does a barrier, though it holds answers back."""
    names = ("stale_status", "barrier", "lose_submit_reply", "regenerate_step", "duplicate_callback")
    faults = _faults(*(_fault(FaultIntended, 5, name, "C1") for name in names))
    assert not faults.touched("C1", 0, 60)
    assert faults.held_up("C1", 4, 6)
    assert not faults.held_up("C2", 4, 6)


def test_a_hit_on_the_serving_layer_is_behind_the_api():
    """The coordinator never talks to a replica; a killed instance is another matter."""
    replica = _faults(_fault(FaultIntended, 5, "kill", args={"target": "replica"}), _fault(FaultInjected, 5, "kill"))
    assert not replica.touched("C1", 4, 60)
    assert not replica.held_up("C1", 4, 60)
    instance = _faults(_fault(FaultIntended, 5, "kill", args={"target": "coordinator"}), _fault(FaultInjected, 5, "kill"))
    assert instance.touched("C1", 4, 60)


def test_pruned_keys_touch_every_conversation():
    """The gateway forgets the keys of all."""
    faults = _faults(_fault(FaultIntended, 5, "prune_keys", "C1"), _fault(FaultInjected, 5, "prune_keys", "C1"))
    assert faults.touched("C2", 4, 6)


def test_a_moot_fault_never_was():
    """The process was down already."""
    faults = _faults(_fault(FaultIntended, 5, "kill"), _fault(FaultHealed, 5, "kill", detail="moot: it is down already"))
    assert not faults.touched("C1", 0, 60)
    assert faults.fired() == {"r": 0}


def test_a_fault_that_was_intended_touches_its_conversation_already():
    """Between intent and effect nobody knows; in doubt it counts."""
    assert _faults(_fault(FaultIntended, 1, "slow", "C1")).touched("C1", 0, 0.5)


def test_two_firings_of_one_rule_are_kept_apart():
    """Each heals by itself, in the order in which they began."""
    faults = _faults(
        _fault(FaultIntended, 1, "pause"), _fault(FaultInjected, 1, "pause"), _fault(FaultHealed, 2, "pause"),
        _fault(FaultIntended, 8, "pause"), _fault(FaultInjected, 8, "pause"), _fault(FaultHealed, 9, "pause"),
    )
    assert not faults.touched("C1", 4, 7)
    assert faults.fired() == {"r": 2}
