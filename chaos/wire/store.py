"""The shared store of the coordinators: an SQLite file in their STATE_DIR, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from chaos.nemesis import Heal, Moot


class SqliteStore:
    """The file that STORE_URL names. An outage is the harness holding the write lock: every writer gets `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._holder: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        """STORE_URL: sqlite:/// and the absolute path."""
        return f"sqlite:///{self.path}"

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Refuse every write from now on. Raises Moot while an earlier outage lasts."""
        if self._holder is not None:
            raise Moot("the store is out already")
        holder = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        self._holder = holder
        for _ in range(200):
            try:
                holder.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError:
                await asyncio.sleep(0.005)  # a coordinator is writing
        else:
            self._let_go()
            raise OSError("the write lock of the store could not be had within a second")

        async def heal() -> str:
            self._let_go()
            return "the store takes writes again"

        return "the store refuses writes", seconds, heal

    def close(self) -> None:
        """Let the lock go."""
        self._let_go()

    def _let_go(self) -> None:
        if self._holder is not None:
            if self._holder.in_transaction:
                self._holder.execute("ROLLBACK")
            self._holder.close()
            self._holder = None
