"""One direction of one connection: from its source, through the stages of the toxics that apply, to its destination."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from chaos.toxiproxy.meters import Meter
from chaos.toxiproxy.stages import STAGES, Stage
from chaos.toxiproxy.toxics import Toxic

EARLY = 64 * 1024


class _Place:
    """Where a toxic stands in a link. Its stage is None when the draw spared this connection."""

    __slots__ = ("dice", "draw", "stage", "toxic")

    def __init__(self, toxic: Toxic, dice: random.Random) -> None:
        self.toxic = toxic
        self.dice = dice
        self.draw = dice.random()
        self.stage: Stage | None = None

    @property
    def struck(self) -> bool:
        return self.draw < self.toxic.toxicity


class Link:
    """Carries the bytes of one direction.

    While `straight` is true, nothing stands in the way and the source may hand its chunks to `write` itself.

    Args:
        meter: counts the bytes.
        dice: the seeded generator for the toxic of a given name on this link: its first draw is the toxic's fate here.
        reset: tears the whole connection down with a TCP reset.
    """

    __slots__ = (
        "_blocked", "_destination", "_dice", "_early", "_loop", "_paused", "_places", "_reset", "_source", "_stages",
        "closed", "ended", "meter", "straight", "write",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        meter: Meter,
        dice: Callable[[str], random.Random],
        toxics: Sequence[Toxic],
        reset: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._dice = dice
        self._reset = reset
        self._source: asyncio.Transport | None = None
        self._destination: asyncio.Transport | None = None
        self._early: list[tuple[bytes, float]] = []
        self._places: list[_Place] = []
        self._stages: list[Stage] = []
        self._blocked = False
        self._paused = False
        self.meter = meter
        self.straight = False
        self.ended = False
        self.closed = False
        self.write: Callable[[bytes], None] = lambda data: None
        for toxic in toxics:
            self._place(toxic)
        self._rewire()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ended" if self.ended else "straight" if self.straight else "open"
        return f"<Link {state}, {len(self._stages)} of {len(self._places)} toxics apply, {self.meter!r}>"

    def attach_source(self, transport: asyncio.Transport) -> None:
        """The side that bytes come from is there."""
        self._source = transport

    def attach_destination(self, transport: asyncio.Transport) -> None:
        """The side that bytes go to is there; what came before it follows now."""
        self._destination = transport
        self.write = transport.write
        early, self._early = self._early, []
        for stage in self._stages:
            stage.start()
        for data, at in early:
            self._enter(data, at)
        if self.ended:
            self._end()
        self._throttle()
        self._refresh()

    def feed(self, data: bytes) -> None:
        """Take a chunk from the source, the slow way. The caller uses `write` instead while the link is `straight`."""
        if self.closed or self.ended:
            return
        self.meter.received += len(data)
        now = self._loop.time()
        if self._destination is None:
            self._early.append((data, now))
        else:
            self._enter(data, now)
        self._throttle()

    def end(self) -> None:
        """The source closed. The destination closes when all that is under way has arrived."""
        if self.ended or self.closed:
            return
        self.ended = True
        self.straight = False
        if self._destination is not None:
            self._end()

    def stop(self) -> None:
        """The destination is gone: whatever is under way is lost."""
        self.closed = True
        self.straight = False
        self._early.clear()
        for stage in self._stages:
            stage.stop()
        self._throttle()

    def block(self, blocked: bool) -> None:
        """The destination cannot take more for now, or can again."""
        self._blocked = blocked
        self._throttle()

    def add(self, toxic: Toxic) -> None:
        """A toxic was added behind the others."""
        stage = self._place(toxic)
        self._rewire()
        if stage is not None and self._destination is not None and not self.closed:
            stage.start()

    def update(self, toxic: Toxic) -> None:
        """A toxic's attributes or toxicity changed. The draw stays: a higher toxicity strikes the same links and more."""
        place = next(place for place in self._places if place.toxic is toxic)
        if place.stage is not None and place.struck:
            place.stage.update(toxic.attributes)
        elif place.stage is not None:
            self._leave(place)
        elif place.struck:
            place.stage = self._stage(place)
            self._rewire()
            if self._destination is not None and not self.closed:
                place.stage.start()

    def remove(self, toxic: Toxic) -> None:
        """A toxic is no longer there."""
        place = next(place for place in self._places if place.toxic is toxic)
        self._leave(place)
        self._places.remove(place)

    def _place(self, toxic: Toxic) -> Stage | None:
        place = _Place(toxic, self._dice(toxic.name))
        if place.struck:
            place.stage = self._stage(place)
        self._places.append(place)
        return place.stage

    def _stage(self, place: _Place) -> Stage:
        return STAGES[place.toxic.type](self._loop, place.toxic.attributes, place.dice)

    def _leave(self, place: _Place) -> None:
        stage, place.stage = place.stage, None
        if stage is None:
            return
        if not self.closed and self._destination is not None:
            stage.leave()
        self._rewire()

    def _rewire(self) -> None:
        """Connect the stages in the order in which their toxics were added."""
        self._stages = [place.stage for place in self._places if place.stage is not None]
        emit, finish = self._deliver, self._close
        for stage in reversed(self._stages):
            stage.wire(emit, finish, self._reset, self._throttle)
            emit, finish = stage.feed, stage.end
        self._throttle()
        self._refresh()

    def _refresh(self) -> None:
        self.straight = self._destination is not None and not (self._stages or self.ended or self.closed)

    def _enter(self, data: bytes, at: float) -> None:
        if self._stages:
            self._stages[0].feed(data, at)
        else:
            self._deliver(data, at)

    def _end(self) -> None:
        if self._stages:
            self._stages[0].end()
        else:
            self._close()

    def _deliver(self, data: bytes, at: float) -> None:
        if not self.closed:
            self.meter.sent += len(data)
            self.write(data)

    def _close(self) -> None:
        if self.closed:
            return
        self.stop()
        if self._destination is not None:
            self._destination.close()

    def _throttle(self) -> None:
        """Read from the source only while there is room for what it says."""
        full = not self.closed and (self._blocked or self._full())
        if full != self._paused and self._source is not None:
            self._paused = full
            if full:
                self._source.pause_reading()
            else:
                self._source.resume_reading()

    def _full(self) -> bool:
        for stage in self._stages:
            if stage.held > stage.capacity:
                return True
        return bool(self._early) and sum(len(data) for data, _ in self._early) > EARLY
