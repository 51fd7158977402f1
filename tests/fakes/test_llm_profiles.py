"""Latency profiles."""

from __future__ import annotations

import random
import statistics

import pytest

from fakes.llm.profiles import PROFILES, named


@pytest.mark.parametrize("name", PROFILES)
def test_draws_lie_around_the_range(name: str) -> None:
    """Means fall into the profile's range, no draw is zero or below."""
    profile = named(name)
    dice = random.Random(1)
    draws = [profile.draw(dice) for _ in range(500)]
    for column, (low, high) in ((0, profile.ttft), (1, profile.itl)):
        values = [draw[column] for draw in draws]
        assert low < statistics.mean(values) < high
        assert min(values) > 0
        assert max(values) < 2 * high


def test_the_same_seed_draws_the_same() -> None:
    """Latencies are reproducible."""
    profile = named("8b-h100")
    assert profile.draw(random.Random(3)) == profile.draw(random.Random(3)) != profile.draw(random.Random(4))


def test_ci_is_a_hundredth_of_the_h100() -> None:
    """The profile of the gates has the shape of a real one."""
    real, quick = named("8b-h100"), named("ci")
    assert quick.ttft == pytest.approx(tuple(0.01 * s for s in real.ttft))
    assert quick.itl == pytest.approx(tuple(0.01 * s for s in real.itl))


def test_an_unknown_profile_names_the_nearest() -> None:
    """A typo is told with the way out."""
    with pytest.raises(ValueError, match=r"unknown latency profile '8b-h10'.*did you mean '8b-h100'"):
        named("8b-h10")
