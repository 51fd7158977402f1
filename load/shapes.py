"""Shapes of turns: how many steps a turn has, and how many calls each step asks for at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.turns import Turn, make, of_sizes

SHAPES: Mapping[str, Sequence[int] | None] = {
    "single-call": (1,),
    "parallel-calls": (3,),
    "multi-step": (1, 1, 1),
    "support-desk": None,
}
"""Calls per step; None mixes them as a support desk would: 1.3 steps of 1.7 calls on average, some calls identical."""


def turn(shape: str, seed: int, number: int, salt: str = "") -> Turn:
    """Turn `number` (from 0) of a load of this shape. The same arguments give the same turn, in any process."""
    sizes = SHAPES[shape]
    return make(seed, number, salt) if sizes is None else of_sizes(sizes, seed, number, salt)
