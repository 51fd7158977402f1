"""Ratios and their intervals."""

from __future__ import annotations

import random

import pytest

from load.compare import ratio


def test_equal_pairs_have_a_ratio_of_one_and_no_spread() -> None:
    found = ratio("p95", [(2.0, 2.0)] * 5)
    assert found is not None
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_interval_holds_the_truth_and_shrinks_with_pairs() -> None:
    dice = random.Random(1)

    def drawn(n: int) -> list[tuple[float | None, float | None]]:
        return [(1.1 * dice.lognormvariate(0, 0.1), dice.lognormvariate(0, 0.1)) for _ in range(n)]

    few, many = ratio("x", drawn(6)), ratio("x", drawn(200))
    assert few is not None
    assert many is not None
    assert many.low < 1.1 < many.high
    assert many.high - many.low < few.high - few.low


def test_a_common_trend_of_the_machine_cancels_out() -> None:
    found = ratio("x", [(1.2 * 2**n, 2.0**n) for n in range(6)])
    assert found is not None
    assert found.ratio == pytest.approx(1.2)
    assert found.high == pytest.approx(1.2)


def test_pairs_without_a_value_are_left_out() -> None:
    found = ratio("x", [(None, 1.0), (0.0, 1.0), (2.0, 1.0)])
    assert found is not None
    assert found.pairs == 1
    assert ratio("x", [(None, None)]) is None
