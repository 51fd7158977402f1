"""Shapes of turns."""

from __future__ import annotations

import pytest

from chaos.turns import make
from load.shapes import SHAPES, turn


@pytest.mark.parametrize("shape", [s for s, sizes in SHAPES.items() if sizes is not None])
def test_a_shape_has_its_sizes(shape: str) -> None:
    for number in range(30):
        assert tuple(len(step) for step in turn(shape, 3, number).calls) == SHAPES[shape]


def test_the_support_desk_asks_for_what_a_gate_asks_for() -> None:
    assert [turn("support-desk", 3, n, "x") for n in range(40)] == [make(3, n, "x") for n in range(40)]


def test_ids_are_apart_for_each_process_and_number() -> None:
    made = [turn("single-call", 3, n, salt) for n in range(500) for salt in ("load-0", "load-1")]
    assert len({t.turn_id for t in made}) == len({t.conversation_id for t in made}) == 1000
