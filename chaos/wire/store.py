"""The shared store of the coordinators on the wire: an SQLite file in their STATE_DIR."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chaos.outage import WriteLock


class SqliteStore:
    """The file that STORE_URL names, and the lock by which its outages are made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = WriteLock(lambda: sqlite3.connect(path, timeout=0, isolation_level=None))

    @property
    def url(self) -> str:
        """STORE_URL: sqlite:/// and the absolute path."""
        return f"sqlite:///{self.path}"
