"""The highest rate that a coordinator holds: raised until it does not, then closed in upon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from load.measure import Phase, Series, Summary, summary
from load.side import Observer, Side
from load.timetable import Stage

GROWTH = 1.6
"""Ratio of one rate to the next while it is held."""
CLOSE = 1.1
"""The search ends when the rate that was not held is within this ratio of the one that was."""
MOST_STEPS = 16
DRAIN = 60.0
"""Seconds that the turns of one step have to end before the next begins: what one leaves behind is not the next one's."""
BACKLOG = 1.5
"""More open turns in the last third of a step than in its middle, by this ratio and some, are a backlog that grows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried; `why` it was not held, None where it was."""

    rate: float
    figures: Summary
    why: str | None

    def to_json(self) -> dict[str, Any]:
        """As load.json has it."""
        return {"rate": round(self.rate, 1), "held": self.why is None, "why": self.why, **self.figures.to_json()}


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """What holding a rate means: a p95 of so many seconds at most, no backlog, nothing dropped or failed."""

    start: float
    seconds: float
    max_p95: float


async def find(
    side: Side, search: Search, observer: Observer, measured: Callable[[Side], AbstractContextManager[None]]
) -> list[Step]:
    """Try rates in steps of `search.seconds`; the highest that was held is the ceiling. `measured` is entered for each."""
    steps: list[Step] = []
    held, broken = 0.0, 0.0
    rate = search.start
    while len(steps) < MOST_STEPS:
        stage = Stage("step", search.seconds, rate)
        observer.stage(side, stage)
        with measured(side):
            await side.stage(stage)
        phase = side.series.phases[-1]
        await side.drain(DRAIN)
        step = Step(rate, summary(side.series, [phase]), _why(side.series, phase, search))
        steps.append(step)
        if step.why is None:
            held = max(held, rate)
        else:
            broken = rate if not broken else min(broken, rate)
        if broken and (broken <= held * CLOSE or broken < 1):
            break
        rate = rate * GROWTH if not broken else (held * broken) ** 0.5 if held else broken / 2
    return steps


def _why(series: Series, phase: Phase, search: Search) -> str | None:
    found = summary(series, [phase])
    if found.dropped:
        return f"{found.dropped} turns were dropped"
    if found.failed:
        return f"{found.failed} turns failed"
    if found.p95 is None or found.p95 > search.max_p95:
        seen = "no turn ended" if found.p95 is None else f"p95 {found.p95 * 1000:.0f} ms"
        return f"{seen}, and {search.max_p95 * 1000:.0f} ms is the limit"
    third = (phase.end - phase.start) / 3
    middle = max((s.open for s in series.between(phase.start + third, phase.end - third)), default=0)
    last = max((s.open for s in series.between(phase.end - third, phase.end)), default=0)
    if last > BACKLOG * middle + 5:
        return f"a backlog: {middle} open turns, then {last}"
    return None
