"""What a load came to: latency and throughput over time, by phase, and how long it took to recover. Bounded in memory."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from load.driver import Lifecycle

SLOT = 0.5
"""Seconds of one point in time of the series."""
GROWTH = 1.02
"""Ratio of one latency bucket's bounds: percentiles are exact within 1 %."""
CALM = 2
"""Slots in a row that have to be as before a fault, for a recovery to count."""
SLOWER = 1.5
"""p95 of a slot, over that of the healthy phase, up to which a system counts as recovered ..."""
MARGIN = 0.1
"""... or so many seconds more, whatever is more generous: short phases have noisy tails."""


class Latencies:
    """A histogram of seconds, in buckets that grow by 2 %."""

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self.buckets[round(math.log(max(seconds, 1e-4)) / math.log(GROWTH))] += 1
        self.count += 1

    def merge(self, other: Latencies) -> None:
        """All of another one."""
        self.buckets.update(other.buckets)
        self.count += other.count

    def quantile(self, share: float) -> float | None:
        """Seconds within which that share was; None where there is nothing."""
        left = share * self.count
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return float(GROWTH**bucket)
        return None


@dataclasses.dataclass(slots=True)
class Slot:
    """Half a second: turns that fell due in it, and what became of them whenever they ended; `ended` counts ends in it."""

    due: int = 0
    dropped: int = 0
    failed: int = 0
    ended: int = 0
    redelivered: int = 0
    open: int = 0
    latencies: Latencies = dataclasses.field(default_factory=Latencies)


@dataclasses.dataclass(slots=True)
class Phase:
    """A stretch of the run: healthy, fault, or recovery. Times are seconds since the load began.

    `calm` is when the last fault of a fault phase had been healed, which recovery counts from; `cpu` are the CPU seconds of
    each role of processes while it lasted.
    """

    kind: str
    start: float
    rate: float
    plan: str | None = None
    end: float = math.inf
    calm: float | None = None
    cpu: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a table calls it."""
        return self.kind if self.plan is None else f"{self.kind}: {self.plan}"


class Series:
    """Everything that Locust told, by half second. `zero` is when the load began, in seconds of the epoch."""

    def __init__(self, zero: float) -> None:
        self.zero = zero
        self.slots: list[Slot] = []
        self.phases: list[Phase] = []

    def due(self, at: float) -> None:
        """A turn is delivered for the first time."""
        self._slot(at).due += 1

    def dropped(self, at: float) -> None:
        """A turn was due and not delivered."""
        self._slot(at).dropped += 1

    def ended(self, turn: Lifecycle) -> None:
        """A turn has ended."""
        slot = self._slot(turn.due)
        slot.latencies.add(turn.seconds)
        slot.failed += not turn.ok
        slot.redelivered += turn.attempts - 1
        self._slot(turn.ended).ended += 1

    def opened(self, at: float, turns: int) -> None:
        """So many turns are open now."""
        slot = self._slot(at)
        slot.open = max(slot.open, turns)

    def between(self, start: float, end: float) -> list[Slot]:
        """The slots of a stretch, in seconds since the load began; one that two stretches share belongs to the later one."""
        return self.slots[int(start / SLOT) : int(min(end, len(self.slots) * SLOT) / SLOT)]

    def _slot(self, at: float) -> Slot:
        number = max(0, int((at - self.zero) / SLOT))
        while len(self.slots) <= number:
            self.slots.append(Slot())
        return self.slots[number]


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """The figures of some slots. Rates are turns per second, latencies seconds (None where no turn ended)."""

    seconds: float
    due: int
    ended: int
    dropped: int
    failed: int
    redelivered: int
    asked: float
    offered: float
    throughput: float
    p50: float | None
    p95: float | None
    p99: float | None

    def to_json(self) -> dict[str, Any]:
        """As load.json has it; latencies in milliseconds."""
        out = dataclasses.asdict(self)
        for name in ("p50", "p95", "p99"):
            value = out.pop(name)
            out[f"{name}_ms"] = None if value is None else round(value * 1000, 1)
        return out | {name: round(out[name], 2) for name in ("seconds", "asked", "offered", "throughput")}


def summary(series: Series, phases: Iterable[Phase]) -> Summary:
    """The figures of some phases together. Throughput counts what ended while they lasted, latency what fell due."""
    whole, latencies, seconds, asked = Slot(), Latencies(), 0.0, 0.0
    for phase in phases:
        end = min(phase.end, len(series.slots) * SLOT)
        for slot in series.between(phase.start, end):
            latencies.merge(slot.latencies)
            for name in ("due", "dropped", "failed", "ended", "redelivered"):
                setattr(whole, name, getattr(whole, name) + getattr(slot, name))
        seconds += max(0.0, end - phase.start)
        asked += max(0.0, end - phase.start) * phase.rate
    per = max(seconds, 1e-9)
    return Summary(
        seconds, whole.due, whole.ended, whole.dropped, whole.failed, whole.redelivered, asked / per,
        (whole.due + whole.dropped) / per, whole.ended / per,
        latencies.quantile(0.5), latencies.quantile(0.95), latencies.quantile(0.99),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Recovery:
    """How one fault window was left. `seconds` counts from when everything was healed; None: not while it was watched."""

    plan: str
    start: float
    calm: float
    seconds: float | None
    limit: float


def recoveries(series: Series, healthy: Summary) -> list[Recovery]:
    """For each fault phase the time until latency, drops and failures were as before, for a second on end.

    Latency is that of turns by the moment at which they fell due: as long as there is a backlog, it has not recovered.
    """
    if healthy.p95 is None:
        return []
    limit = max(SLOWER * healthy.p95, healthy.p95 + MARGIN)
    found: list[Recovery] = []
    for number, phase in enumerate(series.phases):
        if phase.kind != "fault" or phase.plan is None:
            continue
        calm = phase.calm if phase.calm is not None else phase.end
        after = series.phases[number + 1 :]
        until = next((p.start for p in after if p.kind == "fault"), after[-1].end if after else phase.end)
        found.append(Recovery(phase.plan, phase.start, calm, _recovered(series, calm, until, limit), limit))
    return found


def _recovered(series: Series, calm: float, until: float, limit: float) -> float | None:
    first = int(calm / SLOT)
    slots = series.slots[first : math.ceil(until / SLOT)]
    for number in range(len(slots) - CALM + 1):
        if all(_calm(slot, limit) for slot in slots[number : number + CALM]):
            return max(0.0, (first + number) * SLOT - calm)
    return None


def _calm(slot: Slot, limit: float) -> bool:
    p95 = slot.latencies.quantile(0.95)
    all_ended = slot.latencies.count >= slot.due
    return all_ended and not slot.dropped and not slot.failed and (p95 is None or p95 <= limit)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line that fits (x, y) best, 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
