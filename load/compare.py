"""Two coordinators side by side: ratios over interleaved pairs of phases, with what chance alone would make of them."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """A geometric mean of ratios, and the interval in which it is with a confidence of 95 %."""

    name: str
    ratio: float
    low: float
    high: float
    pairs: int


def ratio(name: str, pairs: Sequence[tuple[float | None, float | None]], seed: int = 0) -> Ratio | None:
    """Of the first over the second of each pair; pairs that lack a value are left out, None where none is left.

    The interval is the percentile bootstrap over pairs: pairs are close in time, so what the machine does meanwhile is in both.
    """
    logs = [math.log(a / b) for a, b in pairs if a and b]
    if not logs:
        return None
    dice = random.Random(f"bootstrap/{seed}/{name}")
    means = sorted(sum(dice.choices(logs, k=len(logs))) / len(logs) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    low, high = means[int(tail * RESAMPLES)], means[min(RESAMPLES - 1, int((1 - tail) * RESAMPLES))]
    return Ratio(name, math.exp(sum(logs) / len(logs)), math.exp(low), math.exp(high), len(logs))
