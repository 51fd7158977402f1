"""Leases: an owner shows that it is alive, and one that does not loses its turns to whoever notices.

No clock of one instance is compared with that of another, and none is stored. The owner counts a number up four times
per lease; the others watch that number, each at its own pace, and take over when it stood still for several looks in a
row. An owner that was only slow finds out by the epoch of its turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinators.common.log import Log
from coordinators.common.sqlite import StoreUnavailable
from coordinators.hardened.records import Turn
from coordinators.hardened.store import Store

BEATS_PER_LEASE = 4
LOOKS = 4
"""After so many looks in a row at the same number, a lease in all, the next one makes an owner dead."""


class Lease:
    """The lease of one instance on its turns, and its eye on those of others.

    Args:
        seconds: the length of a lease.
        take: called with each turn that was taken over.
    """

    def __init__(self, store: Store, log: Log, instance_id: str, seconds: float, take: Callable[[Turn], None]) -> None:
        self._store = store
        self._log = log
        self._instance_id = instance_id
        self._interval = seconds / BEATS_PER_LEASE
        self._take = take
        self._looks: dict[str, tuple[int | None, int]] = {}
        self.owner: str | None = None
        """the name under which this instance owns turns; None until the store has given one"""
        self.taking = True
        """False while this instance is stopping: then it keeps what it has, and takes nothing over"""

    async def keep(self) -> None:
        """Beat and look, for ever."""
        while True:
            try:
                if self.owner is None:
                    self.owner = self._store.register(self._instance_id)
                self.beat(self.owner)
                if self.taking:
                    self.sweep(self.owner)
            except StoreUnavailable as error:
                self._looks.clear()  # while nobody can beat, nobody is dead
                self._log.coordinator("WARN", f"store unavailable: {error}")
            await asyncio.sleep(self._interval if self.owner else min(0.1, self._interval))

    def beat(self, owner: str) -> None:
        """Show that this instance is alive."""
        self._store.beat(owner)

    def sweep(self, owner: str) -> None:
        """Take over the turns that nobody owns, and those of owners that are dead."""
        for other, beat in self._store.beats().items():
            if other == owner or not (other is None or self.is_dead(other, beat)):
                continue
            for turn in self._store.take_over(other, owner):
                self._log.coordinator("INFO", f"turn {turn.turn_id} taken over from {other or 'nobody'} epoch={turn.epoch}")
                self._take(turn)

    def is_dead(self, other: str, beat: int | None) -> bool:
        """Whether this look was one too many at the same number. A former life of this instance is dead at once."""
        if other.rpartition("#")[0] == self._instance_id:
            return True
        seen, looks = self._looks.get(other, (None, 0))
        looks = looks + 1 if seen == beat else 1
        self._looks[other] = (beat, looks)
        return looks > LOOKS
