"""Which faults were there, and what they could have touched.

A fault of the fakes is about one conversation, at one moment. Everything else (a kill, a toxic, a store outage ...) is about
everybody from its intent until it was healed, and for a while after; when it was never healed, until the end.

To touch a call means here: to leave its sender without a way to know what became of its request to the tool. What goes wrong
between the coordinator and the Assistants API, or behind that, is a nuisance and no excuse for losing a call.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections import deque

from fakes.faults import FAKE_FAULTS, RUN_FAULTS
from fakes.history import FaultFailed, FaultHealed, FaultInjected, FaultIntended

GRACE = 1.0
"""Seconds for which a healed fault still counts: what it held back arrives, time-outs that it caused run off."""
MOMENTARY = ("resend_turn",)
"""Faults of the world that break nothing, so that nothing is ever healed."""
PLAIN = {
    "duplicate_callback",
    *MOMENTARY,
    *RUN_FAULTS,
    *(name for name, kind in FAKE_FAULTS.items() if not any(p.startswith(("tool_", "callback_")) for p in kind.points)),
}
"""Faults that hide nothing about a request to a tool."""
SHARED = ("prune_keys",)
"""Faults of a fake that touch every conversation, not only the one in which they fired."""
HOLDING = ("barrier",)
"""Faults of a fake that hold answers back after they were recorded as told."""


@dataclasses.dataclass(slots=True)
class Fault:
    """One firing of a rule, from its intent to its end."""

    rule: str
    name: str
    conversation: str | None
    intended: float
    events: list[int]
    cause: int | None = None
    seconds: float = 0.0
    serving: bool = False
    """the serving layer behind the Assistants API was hit, which the coordinator never talks to"""
    injected: bool = False
    moot: bool = False
    healed: float | None = None

    @property
    def local(self) -> bool:
        """Whether it can touch no conversation but its own."""
        return self.conversation is not None and self.name in FAKE_FAULTS and self.name not in SHARED

    @property
    def touches(self) -> bool:
        """Whether it can hide what became of a request to a tool."""
        return self.name not in PLAIN and not self.serving

    @property
    def until(self) -> float:
        """When it can last have touched anything, in seconds of the history."""
        if self.healed is not None:
            return self.healed + GRACE
        if self.name in FAKE_FAULTS or self.name in MOMENTARY:
            return self.intended + self.seconds + GRACE
        return math.inf


class Disturbances:
    """Collects the fault events of a history in order; `close` it before asking."""

    def __init__(self) -> None:
        self.all: list[Fault] = []
        self.failed: list[FaultFailed] = []
        self._open: dict[tuple[str, str, str | None], deque[Fault]] = {}
        self._broken: dict[tuple[str, str], deque[Fault]] = {}
        self._by_conversation: dict[str, list[Fault]] = {}
        self._touching = _Timeline()
        self._holding = _Timeline()

    def intended(self, event: FaultIntended) -> None:
        """A rule is about to act."""
        fault = self._add(event)
        seconds = event.args.get("seconds", 0.0)
        fault.seconds = float(seconds) if isinstance(seconds, int | float) else 0.0
        fault.cause = event.cause
        fault.serving = event.args.get("target") == "replica" or event.args.get("proxy") == "llm"
        self._open.setdefault((event.rule, event.fault, event.conversation), deque()).append(fault)

    def injected(self, event: FaultInjected) -> None:
        """The fault took effect; a log without intents is understood too."""
        waiting = self._open.get((event.rule, event.fault, event.conversation))
        if waiting:
            fault = waiting.popleft()
            fault.events.append(event.seq)
        else:
            fault = self._add(event)
        fault.injected = True
        self._broken.setdefault((event.rule, event.fault), deque()).append(fault)

    def healed(self, event: FaultHealed) -> None:
        """The fault is over; one that was moot never was there."""
        moot = (event.detail or "").startswith("moot")
        waiting = self._open.get((event.rule, event.fault, None)) if moot else self._broken.get((event.rule, event.fault))
        if waiting:
            fault = waiting.popleft()
            fault.healed = event.t
            fault.moot = moot

    def close(self) -> None:
        """Sort what was collected; nothing is added any more."""
        for fault in self.all:
            if fault.moot:
                continue
            if fault.local and fault.conversation is not None:
                self._by_conversation.setdefault(fault.conversation, []).append(fault)
                continue
            if fault.touches:
                self._touching.add(fault.intended, fault.until)
            if not fault.serving:
                self._holding.add(fault.intended, fault.until)
        self._touching.close()
        self._holding.close()

    def fired(self) -> dict[str, int]:
        """How often each rule's fault took effect."""
        count: dict[str, int] = {}
        for fault in self.all:
            count[fault.rule] = count.get(fault.rule, 0) + fault.injected
        return count

    def of(self, conversation: str | None) -> list[Fault]:
        """The faults of one conversation alone."""
        return self._by_conversation.get(conversation, []) if conversation is not None else []

    def conversations(self, *names: str) -> set[str]:
        """The conversations in which a fault of one of these names took effect."""
        return {c for c, faults in self._by_conversation.items() if any(f.injected and f.name in names for f in faults)}

    def touched(self, conversation: str | None, start: float, end: float) -> bool:
        """Whether any fault can have touched this conversation between two times (seconds)."""
        own = conversation is None or any(fault.touches for fault in self.of(conversation))
        return own or self._touching.overlaps(start, end)

    def held_up(self, conversation: str | None, start: float, end: float) -> bool:
        """Whether messages recorded in this time may have arrived late: then their order proves nothing."""
        own = (f for f in self.of(conversation) if f.name in HOLDING)
        return self._holding.overlaps(start, end) or any(f.intended <= end and f.until >= start for f in own)

    def _add(self, event: FaultIntended | FaultInjected) -> Fault:
        fault = Fault(event.rule, event.fault, event.conversation, event.t, [event.seq])
        self.all.append(fault)
        return fault


class _Timeline:
    """Intervals of time, merged, and whether one overlaps another."""

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, start: float, end: float) -> None:
        self._intervals.append((start, end))

    def close(self) -> None:
        for start, end in sorted(self._intervals):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def overlaps(self, start: float, end: float) -> bool:
        place = bisect.bisect_right(self._starts, end) - 1
        return place >= 0 and self._ends[place] >= start
