"""C11 on hand-written histories."""

from __future__ import annotations

import pytest


def _alike(past):
    return past.turn(plan="create_ticket,create_ticket").run().ask("call_a", "call_b", alike=True).told("call_a", "call_b")


@pytest.mark.parametrize("named", [True, False])
def test_each_identical_call_with_its_own_effect_is_fine(past, good, named):
    """Two wishes, two tickets."""
    assert good(past, "call_a", "call_b", alike=True, named=named).rest().broken() == []


@pytest.mark.parametrize("named", [True, False])
def test_one_effect_for_two_identical_calls_breaks_c11(past, named):
    """A payload-hash key makes one ticket of two wishes and answers both with it."""
    _alike(past)
    made = past.did("call_a", named=named, key="hash")
    past.reply(past.request("call_b", named=named, key="hash"), made, replayed=True)
    past.submit({"call_a": made, "call_b": made}).ended().done().rest()
    broken = past.broken()
    assert ("C11", "merged") in broken
    assert not any(contract in ("C1", "C7") for contract, _ in broken)


def test_merging_is_seen_at_a_keyless_gateway_in_spite_of_faults(past):
    """Two answers that quote one effect show it, whatever a fault may have touched."""
    _alike(past).fault("kill", None)
    made = past.did("call_a")
    past.submit({"call_a": made, "call_b": made}).ended().done().rest()
    assert ("C11", "merged") in past.broken("keyless")


def test_a_lost_identical_call_at_a_keyless_gateway_is_not_a_merge(past):
    """A reply was lost, the call is in doubt: the missing effect cannot be helped there."""
    _alike(past)
    made = past.did("call_a")
    past.fault("lose_request").request("call_b")
    past.submit({"call_a": made, "call_b": "unknown whether it worked"}).ended().done().doubt("call_b").rest()
    assert past.broken("keyless") == []


def test_a_group_still_under_way_is_not_judged(past):
    """One effect so far, no answers, and the turn goes on."""
    _alike(past)
    past.did("call_a")
    assert past.broken() == []


def test_a_definite_error_excuses_its_call(past):
    """One of two identical calls failed for good."""
    _alike(past)
    made = past.did("call_a")
    past.failed("call_b").submit({"call_a": made, "call_b": "failed: ERR-10001"}).ended().done().rest()
    assert past.broken() == []


def test_an_unattributed_effect_makes_it_unknown(past):
    """The missing effect may be the one that names nothing."""
    _alike(past)
    made = past.did("call_a")
    other = past.did("call_b", named=False, nonce=False, payload="?")
    past.submit({"call_a": made, "call_b": other}).ended().done().rest()
    judgement = past.judge()
    assert judgement.violations == ()
    assert judgement.result("C11").status == "unknown"
