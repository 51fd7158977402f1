"""The schedule: every plan alone, then in pairs."""

from __future__ import annotations

import itertools

from chaos import builtin
from chaos.schedule import cover, point, rotate
from chaos.turns import make
from fakes.script import find


def test_every_plan_comes_alone_and_every_pair_of_points_together() -> None:
    """200 turns are enough for the built-in set."""
    plans = builtin.default_set()
    schedule = cover(plans, 200, seed=3)
    alone = {bound[0].name for bound in schedule.turns if len(bound) == 1}
    assert alone == {p.name for p in plans}
    met = {frozenset(map(point, bound)) for bound in schedule.turns if len(bound) == 2}
    points = {point(p) for p in plans}
    assert {frozenset(pair) for pair in itertools.combinations(points, 2)} <= met
    assert f"{len(plans)} of {len(plans)} plans alone" in schedule.about


def test_the_schedule_is_seeded() -> None:
    """The same seed gives the same pairs, another seed others."""
    plans = builtin.default_set()
    assert cover(plans, 90, 1) == cover(plans, 90, 1)
    assert cover(plans, 90, 1) != cover(plans, 90, 2)


def test_given_plans_rotate() -> None:
    """Each turn has one of them."""
    plans = [builtin.find("none"), builtin.find("stale-polls")]
    assert [b[0].name for b in rotate(plans, 3).turns] == ["none", "stale-polls", "none"]


def test_turns_are_seeded_and_carry_their_script() -> None:
    """The message holds the script, also between other words; ids are fresh for each turn."""
    turns = [make(7, n) for n in range(40)]
    assert turns == [make(7, n) for n in range(40)]
    assert len({t.turn_id for t in turns}) == len({t.conversation_id for t in turns}) == 40
    for turn in turns:
        assert find(f"Customer says: {turn.body()['message']} (end)") == turn.script
    assert make(7, 0, "a").turn_id != make(7, 0, "b").turn_id


def test_some_turns_ask_twice_for_the_same_call() -> None:
    """Identical calls, nonce included, are two calls on purpose."""
    (step,) = make(7, 9).script.steps
    first, second = (make(7, 9).script.arguments(0, p) for p in range(len(step)))
    assert first == second
    different = make(7, 0).script
    assert different.arguments(0, 0)["reference"] != different.arguments(0, 1)["reference"]
