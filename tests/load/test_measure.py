"""Latency, throughput and recovery, from made-up turns."""

from __future__ import annotations

import random

import pytest

from load.driver import Lifecycle
from load.measure import Latencies, Phase, Series, recoveries, slope, summary


def series(latency: object, seconds: float = 30.0, rate: float = 20.0, phases: list[Phase] | None = None) -> Series:
    """Turns at a constant rate, whose latency is a function of when they fell due."""
    made = Series(1000.0)
    made.phases = phases or [Phase("healthy", 0.0, rate, end=seconds)]
    for n in range(int(seconds * rate)):
        due = n / rate
        made.due(1000.0 + due)
        made.ended(Lifecycle(1000.0 + due, 1000.0 + due + latency(due), True, 1))  # type: ignore[operator]
    return made


def test_quantiles_are_exact_within_a_percent() -> None:
    dice = random.Random(3)
    values = sorted(dice.lognormvariate(-1, 1) for _ in range(5000))
    found = Latencies()
    for value in values:
        found.add(value)
    for share in (0.5, 0.95, 0.99):
        assert found.quantile(share) == pytest.approx(values[int(share * 5000) - 1], rel=0.015)


def test_nothing_has_no_quantile() -> None:
    assert Latencies().quantile(0.95) is None


def test_a_summary_counts_what_fell_due_and_what_ended_in_the_phase() -> None:
    made = series(lambda due: 0.25)
    found = summary(made, made.phases)
    assert (found.due, found.ended, found.dropped, found.failed) == (600, 595, 0, 0)  # the last five ended later
    assert found.offered == pytest.approx(20)
    assert found.p50 == pytest.approx(0.25, rel=0.02)


def test_dropped_turns_count_as_offered_and_not_as_due() -> None:
    made = series(lambda due: 0.1, seconds=10)
    for n in range(50):
        made.dropped(1000.0 + n / 5)
    found = summary(made, made.phases)
    assert (found.due, found.dropped) == (200, 50)
    assert found.offered == pytest.approx(25)


def test_redeliveries_and_failures_are_counted_where_the_turn_fell_due() -> None:
    made = series(lambda due: 0.1, seconds=10)
    made.ended(Lifecycle(1003.0, 1009.0, False, 4))
    found = summary(made, [Phase("healthy", 2.0, 20, end=4.0)])
    assert (found.failed, found.redelivered) == (1, 3)


PHASES = [Phase("healthy", 0.0, 20, end=10.0), Phase("fault", 10.0, 20, "kill", 15.0, calm=14.0), Phase("recovery", 15.0, 20, end=30.0)]


def test_recovery_counts_from_the_last_healing_until_a_second_is_as_before() -> None:
    made = series(lambda due: 2.0 if 11 <= due < 17 else 0.1, phases=list(PHASES))
    (found,) = recoveries(made, summary(made, made.phases[:1]))
    assert found.plan == "kill"
    assert found.seconds == pytest.approx(3.0)


def test_a_system_that_was_never_disturbed_recovers_at_once() -> None:
    made = series(lambda due: 0.1, phases=list(PHASES))
    (found,) = recoveries(made, summary(made, made.phases[:1]))
    assert found.seconds == 0.0


def test_one_that_does_not_recover_says_so() -> None:
    made = series(lambda due: 2.0 if due >= 11 else 0.1, phases=list(PHASES))
    (found,) = recoveries(made, summary(made, made.phases[:1]))
    assert found.seconds is None


def test_a_turn_that_never_ended_is_no_recovery() -> None:
    made = series(lambda due: 0.1, phases=list(PHASES))
    for n in range(32):
        made.due(1014.0 + n / 2)
    (found,) = recoveries(made, summary(made, made.phases[:1]))
    assert found.seconds is None


def test_drops_are_no_recovery() -> None:
    made = series(lambda due: 0.1, phases=list(PHASES))
    for n in range(10):
        made.dropped(1014.0 + n / 2)
    (found,) = recoveries(made, summary(made, made.phases[:1]))
    assert found.seconds == pytest.approx(5.0)


def test_a_slope_is_that_of_the_line_that_fits_best() -> None:
    assert slope([(float(x), 3.0 * x + 1) for x in range(10)]) == pytest.approx(3.0)
    assert slope([(1.0, 5.0)]) == 0.0
