"""Toxics at work: one stage is one toxic on one direction of one connection.

A stage takes chunks and the end of the stream, and hands them on to what follows it, later, in part, or not at all. It does no
I/O; time and timers come from the loop, dice from a seeded generator, so that it also runs under a virtual clock.
"""

from __future__ import annotations

import abc
import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping

KIB = 1024
BATCH = 64
SLICE_OF_TIME = 0.1
GRAIN = 0.001
"""Seconds that an event loop's timers cannot tell apart: epoll waits for whole milliseconds."""

Feed = Callable[[bytes, float], None]
Call = Callable[[], None]


class Stage:
    """Hands on everything unchanged; the base of all others.

    Attributes:
        held: bytes taken and not yet handed on.
        capacity: with more than this held, the source should not be read.
    """

    capacity = 64 * KIB

    def __init__(self, loop: asyncio.AbstractEventLoop, attributes: Mapping[str, int], dice: random.Random) -> None:
        self.loop = loop
        self.attributes = attributes
        self.dice = dice
        self.held = 0
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None

    def wire(self, emit: Feed, finish: Call, reset: Call, relax: Call) -> None:
        """Connect to what follows: `emit` takes a chunk and the time it was received (s), `finish` the end of the stream.

        Args:
            reset: tears the whole connection down with a TCP reset.
            relax: is told when less is held than before.
        """
        self.emit, self.finish, self.reset, self.relax = emit, finish, reset, relax

    def start(self) -> None:
        """Called once, when wired."""

    def feed(self, data: bytes, at: float) -> None:
        """Take a chunk that was received at time `at`."""
        self.emit(data, at)

    def end(self) -> None:
        """The source closed: nothing more will be fed."""
        self.finish()

    def update(self, attributes: Mapping[str, int]) -> None:
        """Go on with other attributes."""
        self.attributes = attributes

    def leave(self) -> None:
        """The toxic is removed: hand on at once what is held."""

    def stop(self) -> None:
        """The destination is gone: no timer may fire any more."""
        self._disarm()
        self.held = 0

    def _arm(self, when: float, callback: Call) -> None:
        self._disarm()
        self.timer = self.loop.call_at(when, callback)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Queue(Stage, abc.ABC):
    """Holds pieces back and lets them go in order, each at the time that the subclass says, or so much before it."""

    grain = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop, attributes: Mapping[str, int], dice: random.Random) -> None:
        super().__init__(loop, attributes, dice)
        self.queue: deque[tuple[bytes, float]] = deque()
        self.offset = 0
        self.free = 0.0

    @abc.abstractmethod
    def due(self) -> float:
        """When the next piece may go; infinity for never."""

    @abc.abstractmethod
    def take(self, due: float) -> tuple[bytes, float]:
        """Remove the next piece, which was due then; returns it and the time at which what follows has received it."""

    def feed(self, data: bytes, at: float) -> None:
        """Queue the chunk; what is due goes at once."""
        now = self.loop.time()
        if now > self.free and not self.queue:
            self.free = now
        self.queue.append((data, at))
        self.held += len(data)
        if self.timer is None:
            self._release(now)

    def end(self) -> None:
        """The end of the stream waits for its turn."""
        self.ended = True
        if not self.queue:
            self.finish()

    def update(self, attributes: Mapping[str, int]) -> None:
        """The next piece is timed anew, from now."""
        super().update(attributes)
        self._disarm()
        if self.queue:
            self.free = self.loop.time()
            self._run()

    def leave(self) -> None:
        """Everything goes now."""
        self._disarm()
        offset, self.offset = self.offset, 0
        self.held = 0
        while self.queue:
            data, at = self.queue.popleft()
            self.emit(data[offset:], at)
            offset = 0
        if self.ended:
            self.finish()

    def stop(self) -> None:
        """Forget what is held."""
        super().stop()
        self.queue.clear()

    def _run(self, armed: float = 0.0) -> None:
        """The timer that was armed for a time has fired; some loops fire a little early."""
        self.timer = None
        self._release(max(self.loop.time(), armed))

    def _release(self, now: float) -> None:
        """Let go what is due, and wait for what is not."""
        full = self.held > self.capacity
        now += self.grain
        due = 0.0
        for _ in range(BATCH):
            if not self.queue or (due := self.due()) > now:
                break
            data, at = self.take(due)
            self.held -= len(data)
            self.emit(data, at)
        if not self.queue:
            if self.ended:
                self.finish()
        elif due != math.inf:
            self.timer = self.loop.call_at(due, self._run, due)
        if full:
            self.relax()

    def _cut(self, size: int) -> tuple[bytes, float]:
        """Take up to `size` bytes of the oldest chunk."""
        data, at = self.queue[0]
        start = self.offset
        if start + size < len(data):
            self.offset += size
            return data[start : start + size], at
        self.queue.popleft()
        self.offset = 0
        return (data[start:] if start else data), at


class Latency(Queue):
    """Each chunk leaves at its receipt + latency ± jitter (ms). Chunks overtake nobody and wait side by side."""

    capacity = 32 * KIB * KIB

    def __init__(self, loop: asyncio.AbstractEventLoop, attributes: Mapping[str, int], dice: random.Random) -> None:
        super().__init__(loop, attributes, dice)
        self.draws: deque[float] = deque()

    def feed(self, data: bytes, at: float) -> None:
        """Draw the chunk's jitter, then queue it: no line is taken meanwhile."""
        self.draws.append(2.0 * self.dice.random() - 1.0)
        self.queue.append((data, at))
        self.held += len(data)
        if self.timer is None:
            self._release(at)

    def due(self) -> float:
        """Receipt + latency + what was drawn of the jitter."""
        at = self.queue[0][1]
        return at + (self.attributes["latency"] + self.draws[0] * self.attributes["jitter"]) / 1000

    def take(self, due: float) -> tuple[bytes, float]:
        """The whole chunk; what follows sees it as received when it leaves here."""
        self.draws.popleft()
        data, at = self.queue.popleft()
        return data, max(at, due)

    def leave(self) -> None:
        """Everything goes now."""
        self.draws.clear()
        super().leave()

    def stop(self) -> None:
        """Forget what is held."""
        self.draws.clear()
        super().stop()


class Bandwidth(Queue):
    """At most `rate` KB/s (1 KB = 1000 bytes), in pieces of up to 100 ms of that; 0 lets nothing through.

    A piece may go up to a millisecond before its time, which the line stays taken for: the rate is kept, with fewer timers.
    """

    grain = GRAIN

    def due(self) -> float:
        """When the next piece has been transmitted."""
        rate = self.attributes["rate"]
        return self.free + self._size() / (rate * 1000) if rate else math.inf

    def take(self, due: float) -> tuple[bytes, float]:
        """The next piece; the line is free from then on."""
        self.free = due
        return self._cut(self._size())

    def _size(self) -> int:
        return min(len(self.queue[0][0]) - self.offset, int(self.attributes["rate"] * 1000 * SLICE_OF_TIME))


class Slicer(Queue):
    """Cuts chunks into slices of average_size ± size_variation bytes, `delay` microseconds apart."""

    def due(self) -> float:
        """When the pause after the slice before is over."""
        return self.free

    def take(self, due: float) -> tuple[bytes, float]:
        """A slice of drawn size."""
        variation = self.attributes["size_variation"]
        size = self.attributes["average_size"] + self.dice.randint(-variation, variation)
        self.free += self.attributes["delay"] / 1e6
        return self._cut(size)


class SlowClose(Stage):
    """Data passes; the end of the stream passes `delay` ms later."""

    closing_at = 0.0

    def end(self) -> None:
        """Wait, then end."""
        if not self.ended:
            self.ended = True
            self.closing_at = self.loop.time()
            self._wait()

    def update(self, attributes: Mapping[str, int]) -> None:
        """A close that waits is timed anew, from when it was asked for."""
        super().update(attributes)
        if self.ended:
            self._wait()

    def leave(self) -> None:
        """A close that waits goes now."""
        self._disarm()
        if self.ended:
            self.finish()

    def _wait(self) -> None:
        self._arm(self.closing_at + self.attributes["delay"] / 1000, self.finish)


class Timeout(Stage):
    """Data is dropped. `timeout` ms after the last chunk the connection closes; 0 waits for ever."""

    last = 0.0

    def start(self) -> None:
        """The time runs from when the toxic is there, also when no data comes."""
        self.last = self.loop.time()
        self._wait()

    def feed(self, data: bytes, at: float) -> None:
        """Drop the chunk."""
        self.start()

    def update(self, attributes: Mapping[str, int]) -> None:
        """The new timeout counts from the last chunk."""
        super().update(attributes)
        self._disarm()
        self._wait()

    def leave(self) -> None:
        """The connection has a hole where data was dropped: it closes."""
        self._disarm()
        self.finish()

    def _wait(self) -> None:
        if self.attributes["timeout"]:
            self._arm(self.last + self.attributes["timeout"] / 1000, self.finish)


class LimitData(Stage):
    """Closes the connection after `bytes` bytes, counted from when the toxic was added."""

    transmitted = 0

    def feed(self, data: bytes, at: float) -> None:
        """Hand on what is left of the limit."""
        room = max(0, self.attributes["bytes"] - self.transmitted)
        data = data[:room]
        if data:
            self.transmitted += len(data)
            self.emit(data, at)
        if len(data) == room:
            self.finish()


class ResetPeer(Stage):
    """After a first chunk (or the end of the stream), wait `timeout` ms, then reset both sides of the connection (TCP RST)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, attributes: Mapping[str, int], dice: random.Random) -> None:
        super().__init__(loop, attributes, dice)
        self.chunks: list[tuple[bytes, float]] = []
        self.first = 0.0

    def feed(self, data: bytes, at: float) -> None:
        """Hold the chunk: it is lost with the reset, and goes on only when the toxic is removed in time."""
        self.chunks.append((data, at))
        self.held += len(data)
        self._wait()

    def end(self) -> None:
        """A close becomes a reset, too."""
        self.ended = True
        self._wait()

    def update(self, attributes: Mapping[str, int]) -> None:
        """A reset that waits is timed anew, from the first chunk."""
        super().update(attributes)
        if self.timer is not None:
            self._arm(self.first + attributes["timeout"] / 1000, self.reset)

    def leave(self) -> None:
        """No reset any more; what was held goes on."""
        self._disarm()
        self.held = 0
        chunks, self.chunks = self.chunks, []
        for data, at in chunks:
            self.emit(data, at)
        if self.ended:
            self.finish()

    def stop(self) -> None:
        """Forget what is held."""
        super().stop()
        self.chunks.clear()

    def _wait(self) -> None:
        if self.timer is None:
            self.first = self.loop.time()
            self._arm(self.first + self.attributes["timeout"] / 1000, self.reset)


STAGES: Mapping[str, type[Stage]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "slicer": Slicer,
    "limit_data": LimitData,
    "reset_peer": ResetPeer,
}
"""Which stage does the work of each type of toxic."""
