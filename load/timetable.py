"""The timetable of a load: which coordinator is under how much load, and what is broken meanwhile, stage after stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from chaos.plan import Plan

WARM_UP = 3.0
"""Seconds before anything is measured: imports, connections and caches are filled."""
SLICE = 3.0
"""Seconds of one slice of a comparison at least: shorter ones measure how it starts."""
PAIRS = 6
"""Pairs of slices of a comparison, where there is time for them."""
CALM_AFTER = 5.0
"""Seconds of recovery at least: a system is to be as before within that."""


class TooShort(Exception):
    """There is no time for all stages."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One stretch: warm-up, healthy, fault or recovery. `rate` is turns per second, `side` the number of the coordinator."""

    kind: str
    seconds: float
    rate: float
    plan: Plan | None = None
    side: int = 0


def timetable(seconds: float, rate: float, plans: Sequence[Plan], sides: int = 1) -> list[Stage]:
    """All stages of a load of so many seconds (warm-up and quiesce not counted).

    Each plan has a window and as much time to recover, and the healthy phase lasts as long as one of them. With two sides each
    has half of it all, the healthy phase in pairs of slices, in the order ABBA. Raises TooShort.
    """
    share = seconds / (1 + 2 * len(plans)) / sides
    longest = max([SLICE, *(_length(plan) for plan in plans)], default=SLICE)
    wanted = max(longest, CALM_AFTER if plans else 0.0)
    if share < wanted:
        windows = f"{len(plans)} fault window{'s' * (len(plans) != 1)} with recovery"
        raise TooShort(
            f"{seconds:g} s are too short for a healthy phase and {windows}{' of two coordinators' if sides == 2 else ''}: "
            f"each would have {share:.1f} s and needs {wanted:.1f} s; "
            f"give --for {wanted * (1 + 2 * len(plans)) * sides:.0f}s or more, or fewer plans"
        )
    stages = [Stage("warm-up", WARM_UP, rate, side=side) for side in range(sides)]
    stages += list(_healthy(share, rate, sides))
    for plan in plans:
        for side in range(sides):
            stages += [Stage("fault", share, rate, plan, side), Stage("recovery", share, rate, None, side)]
    return stages


def _healthy(seconds: float, rate: float, sides: int) -> Iterator[Stage]:
    if sides == 1:
        yield Stage("healthy", seconds, rate)
        return
    pairs = max(1, min(PAIRS, int(seconds / SLICE)))
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            yield Stage("healthy", seconds / pairs, rate, side=side)


def _length(plan: Plan) -> float:
    """Seconds after which the last rule with a time of its own has fired, and a second more."""
    times = [max(rule.when.at or 0.0, rule.when.window[1] or rule.when.window[0]) for rule in plan.rules]
    return max(times, default=0.0) + 1.0
