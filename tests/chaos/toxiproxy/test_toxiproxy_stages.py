"""Stages by themselves, on a clock that the test moves: when each piece leaves, and how many timers that takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from chaos.toxiproxy.stages import STAGES, Stage


class Timer:
    """What a loop gives for a call to come."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop with nothing but time, whose timers fire so much before theirs."""

    def __init__(self, early: float = 0.0) -> None:
        self.now, self.early, self.timers = 0.0, early, list[Timer]()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(when, lambda: call(*arguments)))
        return self.timers[-1]

    def run(self) -> int:
        """Until nothing is to come; how many timers fired."""
        fired = 0
        while waiting := sorted((timer for timer in self.timers if not timer.cancelled), key=lambda timer: timer.when):
            self.timers.remove(waiting[0])
            self.now = max(self.now, waiting[0].when - self.early)
            waiting[0].call()
            fired += 1
        return fired


class Line:
    """A stage of a type, and what has left it: when, and how many bytes."""

    def __init__(self, clock: Clock, type: str, **attributes: int) -> None:
        self.left: list[tuple[float, int]] = []
        self.relaxed = 0
        self.stage: Stage = STAGES[type](clock, attributes, random.Random(1))  # type: ignore[arg-type]
        self.stage.wire(lambda data, at: self.left.append((clock.now, len(data))), self.nothing, self.nothing, self.relax)

    def nothing(self) -> None:
        pass

    def relax(self) -> None:
        self.relaxed += 1


def test_a_line_that_is_hardly_used_needs_no_timer() -> None:
    """What takes less than a millisecond to transmit goes at once."""
    clock = Clock()
    line = Line(clock, "bandwidth", rate=10_000)
    for _ in range(100):
        line.stage.feed(b"x" * 500, clock.now)
        clock.now += 0.001
    assert line.left == [(pytest.approx(0.001 * n), 500) for n in range(100)]
    assert clock.run() == 0


@pytest.mark.parametrize("early", [0.0, 0.001])
def test_the_rate_is_kept_however_small_the_pieces(early: float) -> None:
    """No byte leaves more than a millisecond (and what the loop is early) ahead of the line, and none after its time."""
    clock = Clock(early)
    line = Line(clock, "bandwidth", rate=1_000)
    for _ in range(1_000):
        line.stage.feed(b"x" * 100, clock.now)
    fired = clock.run()
    sent = 0
    for when, size in line.left:
        sent += size
        assert sent / 1e6 - 0.001 - early - 1e-9 <= when <= sent / 1e6 + 1e-9
    assert sent == 100_000
    assert fired <= 110  # one a millisecond, not one a piece


@pytest.mark.parametrize("type", ["latency", "bandwidth"])
def test_a_timer_that_fires_early_is_enough(type: str) -> None:
    """Some loops round to milliseconds: the piece goes then, and no second timer is armed for the rest."""
    clock = Clock(early=0.0009)
    line = Line(clock, type, **({"latency": 50, "jitter": 0} if type == "latency" else {"rate": 2}))
    line.stage.feed(b"x" * 100, clock.now)
    assert clock.run() == 1
    assert line.left == [(pytest.approx(0.05 - 0.0009), 100)]


def test_the_source_is_read_again_when_a_full_stage_has_room() -> None:
    """It is told as soon as something has left, and not for every piece of a stage that never was full."""
    clock = Clock()
    line = Line(clock, "bandwidth", rate=1_000)
    line.stage.feed(b"x" * 10_000, clock.now)
    clock.run()
    assert line.relaxed == 0
    line.stage.feed(b"x" * 100_000, clock.now)
    line.stage.feed(b"x" * 10_000, clock.now)
    assert line.stage.held > line.stage.capacity
    clock.run()
    assert line.stage.held == 0
    assert line.relaxed >= 1
