"""The schedule of a gate: which plans each turn is bound to."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterable, Sequence

from chaos.plan import Plan

Pair = tuple[str, ...]


def point(plan: Plan) -> str:
    """The fault point of a plan: the event of its first rule, and `none` where it has no rule."""
    if not plan.rules:
        return "none"
    return plan.rules[0].when.event or "time"


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """For each turn the plans that are bound to it, and what that covers."""

    turns: tuple[tuple[Plan, ...], ...]
    about: str

    @property
    def plans(self) -> list[Plan]:
        """Every plan that is used, once."""
        return list({plan.name: plan for bound in self.turns for plan in bound}.values())


def rotate(plans: Sequence[Plan], turns: int) -> Schedule:
    """Each turn gets one of the given plans, in rotation."""
    names = ", ".join(p.name for p in plans)
    return Schedule(tuple((plans[i % len(plans)],) for i in range(turns)), f"{turns} turns over: {names}")


def cover(plans: Sequence[Plan], turns: int, seed: int) -> Schedule:
    """Every plan alone, then pairs: first such that each pair of fault points meets, then as many more as there are turns.

    What is chosen is shuffled, so that faults which disturb everybody (kills, outages) are spread over the run.
    """
    dice = random.Random(f"schedule/{seed}")
    alone = [(plan,) for plan in plans]
    pairs = list(itertools.combinations(plans, 2))
    dice.shuffle(pairs)
    seen: set[frozenset[str]] = set()
    first: list[tuple[Plan, ...]] = []
    later: list[tuple[Plan, ...]] = []
    for pair in pairs:
        points = frozenset(map(point, pair))
        (later if points in seen else first).append(pair)
        seen.add(points)
    order = [*alone, *first, *later]
    chosen = list(itertools.islice(itertools.cycle(order), turns))
    dice.shuffle(chosen)
    about = (
        f"{_covered(chosen, alone)} of {len(alone)} plans alone, "
        f"{_covered(chosen, first)} of {len(first)} pairs of fault points, "
        f"{_covered(chosen, pairs)} of {len(pairs)} pairs of plans"
    )
    return Schedule(tuple(chosen), about)


def scatter(plans: Sequence[Plan], turns: int, seed: int) -> Schedule:
    """Each turn gets none to three plans, drawn by the seed."""
    dice = random.Random(f"scatter/{seed}")
    chosen = tuple(tuple(dice.sample(plans, dice.choices((0, 1, 2, 3), (2, 4, 3, 1))[0])) for _ in range(turns))
    return Schedule(chosen, f"{turns} turns with up to three of {len(plans)} plans each")


def _covered(chosen: Sequence[tuple[Plan, ...]], wanted: Iterable[tuple[Plan, ...]]) -> int:
    have = {tuple(p.name for p in bound) for bound in chosen}
    return sum(tuple(p.name for p in bound) in have for bound in wanted)
