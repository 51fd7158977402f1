"""When turns arrive."""

from __future__ import annotations

import itertools
import statistics

from load.arrivals import gaps


def take(kind: str, n: int, seed: int = 1, stream: int = 0) -> list[float]:
    return list(itertools.islice(gaps(kind, seed, stream), n))


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    drawn = take("poisson", 20_000)
    assert abs(statistics.mean(drawn) - 1) < 0.03
    assert abs(statistics.stdev(drawn) - 1) < 0.05


def test_constant_gaps_are_even_and_streams_do_not_arrive_together() -> None:
    first, *rest = take("constant", 100)
    assert set(rest) == {1.0}
    assert first != take("constant", 1, stream=1)[0]


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    assert take("poisson", 50) == take("poisson", 50)
    assert take("poisson", 50) != take("poisson", 50, seed=2)
    assert take("poisson", 50) != take("poisson", 50, stream=2)
