"""Leases: an owner shows that it is alive, and one that does not loses its turns to whoever notices.

No clock of one instance is compared with that of another, and none is stored. The owner counts a number up four times
per lease; the others watch that number, each at its own pace, and take over when it stood still for several looks in a
row. An owner that was only slow finds out by the epoch of its turns.

A turn can come to an owner without its hearing of it, when the store's answer is lost: so each also looks what it owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinators.common.log import Log
from coordinators.common.stores import StoreUnavailable
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
        conducts: whether this instance works on a turn.
    """

    def __init__(
        self,
        store: Store,
        log: Log,
        instance_id: str,
        seconds: float,
        take: Callable[[Turn], None],
        conducts: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._log = log
        self._instance_id = instance_id
        self._interval = seconds / BEATS_PER_LEASE
        self._take = take
        self._conducts = conducts
        self._strays: frozenset[str] = frozenset()
        self._looks: dict[str, tuple[int | None, int]] = {}
        self.owner: str | None = None
        """the name under which this instance owns turns; None until the store has given one"""
        self.taking = True
        """False while this instance is stopping: then it keeps what it has, and takes nothing over"""

    async def keep(self) -> None:
        """Beat and look, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                if self.owner is None:
                    self.owner = await self._store.register(self._instance_id)
                await self.beat(self.owner)
                if self.taking:
                    await self.sweep(self.owner)
            except StoreUnavailable as error:
                self._looks.clear()  # while nobody can beat, nobody is dead
                self._log.coordinator("WARN", f"store unavailable: {error}")
            except Exception as error:  # whatever it is: who no longer beats and looks is of no use to anybody
                self._log.coordinator("ERROR", f"lease: {type(error).__name__}: {error}")
            pause = self._interval if self.owner else min(0.1, self._interval)
            await asyncio.sleep(max(0.0, pause - (clock() - began)))  # a slow store is no reason to beat seldom

    async def beat(self, owner: str) -> None:
        """Show that this instance is alive."""
        await self._store.beat(owner)

    async def sweep(self, owner: str) -> None:
        """Take over the turns that nobody owns, those of owners that are dead, and one's own that nobody works on."""
        for other, beat in (await self._store.beats()).items():
            if other == owner or not (other is None or self.is_dead(other, beat)):
                continue
            for turn in await self._store.take_over(other, owner):
                self._begin(turn, f"taken over from {other or 'nobody'}")
        await self.gather(owner)

    async def gather(self, owner: str) -> None:
        """Take up the turns that have come to this owner without its hearing of it: at two looks in a row it had them not."""
        missed = frozenset(turn_id for turn_id in await self._store.owned_by(owner) if not self._conducts(turn_id))
        for turn_id in missed & self._strays:
            turn = await self._store.retake(turn_id, owner)
            if turn is not None:
                self._begin(turn, "taken up late")
        self._strays = missed

    def _begin(self, turn: Turn, how: str) -> None:
        if self.taking:  # otherwise it is given back with the others
            self._log.coordinator("INFO", f"turn {turn.turn_id} {how} epoch={turn.epoch}")
            self._take(turn)

    def is_dead(self, other: str, beat: int | None) -> bool:
        """Whether this look was one too many at the same number. A former life of this instance is dead at once."""
        if other.rpartition("#")[0] == self._instance_id:
            return True
        seen, looks = self._looks.get(other, (None, 0))
        looks = looks + 1 if seen == beat else 1
        self._looks[other] = (beat, looks)
        return looks > LOOKS
