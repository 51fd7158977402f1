"""The shared store of the coordinators: an SQLite file in their STATE_DIR, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from chaos.nemesis import Heal


class SqliteStore:
    """The file that STORE_URL names. An outage is the harness holding the write lock: every writer gets `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._holder: sqlite3.Connection | None = None
        self._outages = 0

    @property
    def url(self) -> str:
        """STORE_URL: sqlite:/// and the absolute path."""
        return f"sqlite:///{self.path}"

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Refuse every write from now on; outages may overlap, and writes are taken again after the last."""
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
            self._let_go()
            return "the store takes writes again"

        return "the store refuses writes", seconds, heal

    def close(self) -> None:
        """Let the lock go."""
        self._let_go()

    async def _take(self) -> None:
        holder = self._holder = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        for _ in range(200):
            try:
                holder.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                await asyncio.sleep(0.005)  # a coordinator is writing
        self._let_go()
        raise OSError("the write lock of the store could not be had within a second")

    def _let_go(self) -> None:
        if self._holder is not None:
            if self._holder.in_transaction:
                self._holder.execute("ROLLBACK")
            self._holder.close()
            self._holder = None
