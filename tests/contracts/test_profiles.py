"""What can be demanded at which gateway."""

from __future__ import annotations

import pytest

from contracts import CONTRACTS, ImpossibleDemand, RetryBudget, UnknownContract, demand, demands
from contracts.profiles import exactly_once
from fakes.gateway.profile import PROFILES, Profile

POSSIBLE = {"keyed", "lookup", "fenced"}


@pytest.mark.parametrize("name", PROFILES)
def test_exactly_once_is_possible_where_the_table_says_so(name):
    """The table of contracts and gateways, row by row."""
    possible, why = exactly_once(PROFILES[name])
    assert possible == (name in POSSIBLE)
    assert why


def test_a_short_key_does_not_spoil_a_good_lookup():
    """One sufficient way is enough."""
    assert exactly_once(Profile(name="x", about="", honours_key=True, key_ttl=0.1, lookup=True, fence=True))[0]


@pytest.mark.parametrize("name", sorted(set(PROFILES) - POSSIBLE))
@pytest.mark.parametrize("wanted", [["C1", "C2"], ["exactly_one_effect"], ["at_most_one_effect", "C2"], ["C7", "C2"]])
def test_an_impossible_set_is_refused_with_its_reason(name, wanted):
    """A configuration error that says why and what to ask for instead."""
    with pytest.raises(ImpossibleDemand) as refused:
        demand(PROFILES[name], wanted)
    assert exactly_once(PROFILES[name])[1] in str(refused.value)
    assert "Ask for C1 with C2' (no_silent_loss), or for C2 alone" in str(refused.value)


@pytest.mark.parametrize("wanted", [["C1"], ["C2"], ["C1", "C2'"], ["C3", "step_order"]])
def test_each_alone_is_possible_everywhere(wanted):
    """C1 alone, C2 alone, and C1 with C2' can always be asked for."""
    assert demand(PROFILES["keyless"], wanted).wanted


def test_by_default_all_that_is_possible_is_demanded():
    """C2' only where it stands in for C2, C12 only with a budget."""
    assert demand(PROFILES["keyed"]).wanted == set(CONTRACTS) - {"C2'", "C12"}
    assert demand(PROFILES["keyless"]).wanted == set(CONTRACTS) - {"C12"}
    assert "C12" in demand(PROFILES["keyed"], retry_budget=RetryBudget(3)).wanted


def test_c2_is_demanded_in_full_where_nothing_stands_against_it():
    """At a keyless gateway only when it is asked for without C1."""
    assert demand(PROFILES["keyed"]).c2_in_full
    assert not demand(PROFILES["keyless"]).c2_in_full
    assert not demand(PROFILES["keyless"], ["C11"]).c2_in_full
    assert demand(PROFILES["keyless"], ["C2", "C3"]).c2_in_full


@pytest.mark.parametrize(
    ("word", "near"), [("exactly_one_efect", "exactly_one_effect"), ("step_ordr", "step_order"), ("C55", "C5")]
)
def test_an_unknown_contract_gets_the_nearest_known_one(word, near):
    """A typo is told what was probably meant."""
    with pytest.raises(UnknownContract, match=f"unknown contract {word!r}: did you mean '{near}"):
        demand(PROFILES["keyed"], [word])


def test_case_and_spaces_do_not_matter():
    """c5B and STEP_ORDER are understood."""
    assert demand(PROFILES["keyed"], [" c5B", "STEP_ORDER"]).wanted == {"C5b", "C4"}


def test_a_budget_has_to_be_declared():
    """C12 without numbers means nothing."""
    with pytest.raises(ImpossibleDemand, match="declared budget"):
        demand(PROFILES["keyed"], ["C12"])


def test_the_rows_for_people_tell_what_and_why():
    """The headline first, then every contract."""
    keyless = {row.contract: row for row in demands(PROFILES["keyless"])}
    keyed = {row.contract: row.status for row in demands(PROFILES["keyed"])}
    assert list(keyless) == ["C1+C2", *CONTRACTS]
    assert keyless["C1+C2"].status == "impossible"
    assert "look the same to the sender" in keyless["C1+C2"].reason
    assert [keyless[c].status for c in ("C1", "C2", "C2'")] == ["demanded", "in part", "demanded"]
    assert [keyed[c] for c in ("C1+C2", "C2", "C2'", "C12")] == ["demanded", "demanded", "not needed", "optional"]
    assert all(row.reason for row in keyless.values())
