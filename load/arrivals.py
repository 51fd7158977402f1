"""Arrivals: when the next turn is due. They do not wait for the system, which is what makes a load open-loop."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

KINDS = ("poisson", "constant", "closed")
"""How turns arrive: at random with a constant mean, evenly, or each when the one before it has ended (closed loop)."""


def gaps(kind: str, seed: int, stream: int) -> Iterator[float]:
    """Time between one arrival and the next, in units of the mean time: divide by the rate to get seconds.

    Each stream has dice of its own. The first gap of a constant stream is drawn, so that streams do not arrive together.
    """
    dice = random.Random(f"arrivals/{seed}/{stream}")
    if kind == "poisson":
        while True:
            yield dice.expovariate(1.0)
    yield dice.random()
    yield from itertools.repeat(1.0)
