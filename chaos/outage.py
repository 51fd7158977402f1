"""An outage of an SQLite store: the harness holds the write lock, and every other writer is told `locked`. In both worlds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from chaos.nemesis import Heal

TRIES, PAUSE = 200, 0.005
"""How often, and how many seconds apart, the lock is asked for while a coordinator is writing: a second in all."""


class WriteLock:
    """The harness' hold on the write lock. `connect` opens a connection in autocommit mode that does not wait for locks."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._holder: sqlite3.Connection | None = None
        self._outages = 0

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Refuse every write from now on; outages may overlap, and writes are taken again after the last.

        Raises OSError when the lock cannot be had within a second.
        """
        self._outages += 1
        if self._holder is None:
            try:
                await self._take()
            except BaseException:
                self._outages -= 1
                raise

        async def heal() -> str:
            self._outages -= 1
            if self._outages:
                return "another outage goes on"
            self.let_go()
            return "the store takes writes again"

        return "the store refuses writes", seconds, heal

    def let_go(self) -> None:
        """Let the lock go, whatever was to last longer; safe to call twice."""
        holder, self._holder = self._holder, None
        if holder is not None:
            if holder.in_transaction:
                holder.execute("ROLLBACK")
            holder.close()

    async def _take(self) -> None:
        holder = self._holder = self._connect()
        for _ in range(TRIES):
            try:
                holder.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                await asyncio.sleep(PAUSE)  # a coordinator is writing
        self.let_go()
        raise OSError("the write lock of the store could not be had within a second")
