"""The shared store of the simulated instances: one SQLite database in memory that looks like a file, and what befalls it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import os
import re
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any

from chaos.outage import WriteLock
from chaos.simulation.lives import LIFE, Life

_number = itertools.count()
_BUSY_TIMEOUT = re.compile(r"\s*PRAGMA\s+busy_timeout", re.IGNORECASE)
_connect: Callable[..., sqlite3.Connection] = sqlite3.connect


class _Connection(sqlite3.Connection):
    """A connection that never waits for a lock: whoever holds it would have to run meanwhile."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute one statement; a wait for locks is not set."""
        if _BUSY_TIMEOUT.match(sql):
            return super().execute("SELECT 0")
        return super().execute(sql, parameters)


class SimulatedStore:
    """The database behind STORE_URL, a path in `folder` at which there is no file. Each connection belongs to a life.

    With `lag`, STORE_READ_URL names a read replica: what it shows is at least `lag` seconds old, and at most 1.5 times that.
    """

    def __init__(self, folder: str, lag: float | None = None) -> None:
        self.path = os.path.join(folder, "store.db")
        self.replica = os.path.join(folder, "replica.db")
        self._lag = lag
        self._uri = f"file:anechoic-{os.getpid()}-{next(_number)}?mode=memory&cache=shared"
        self._open: dict[Life | None, list[sqlite3.Connection]] = {}
        self._anchor: sqlite3.Connection | None = None
        self.lock = WriteLock(self._to_store)
        self._images: deque[tuple[float, bytes]] = deque()

    @property
    def environ(self) -> dict[str, str]:
        """What an instance is told of it."""
        told = {"STORE_URL": f"sqlite:///{self.path}"}
        if self._lag is not None:
            told["STORE_READ_URL"] = f"sqlite:///{self.replica}"
        return told

    def connect(self, database: Any, timeout: float = 5.0, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        """Stands in for sqlite3.connect: the store's own paths lead into memory, and nothing waits for a lock."""
        path = os.fspath(database)
        plain = path.removeprefix("file:").partition("?")[0] if isinstance(path, str) else ""
        if plain in (self.path, self.replica):
            self._anchored()
        made: sqlite3.Connection
        if plain == self.replica and self._lag is not None:
            made = _connect(":memory:", 0.0, *args, factory=self._replica_class(), **kwargs)
        elif plain == self.path:
            made = _connect(self._uri, 0.0, *args, **{"factory": _Connection, **kwargs, "uri": True})
        else:
            made = _connect(path, 0.0, *args, **{"factory": _Connection, **kwargs})
        self._open.setdefault(LIFE.get(), []).append(made)
        return made

    def drop(self, life: Life) -> None:
        """Close every connection of a life; what it had not committed never was."""
        _close(self._open.pop(life, ()))

    def close(self) -> None:
        """Forget everything in it."""
        self.lock.let_go()
        for connections in self._open.values():
            _close(connections)
        self._open.clear()
        if self._anchor is not None:
            self._anchor.close()

    def _anchored(self) -> sqlite3.Connection:
        """A connection that keeps the database while nobody else has it open."""
        if self._anchor is None:
            self._anchor = self._to_store()
        return self._anchor

    def _to_store(self) -> sqlite3.Connection:
        return _connect(self._uri, 0.0, uri=True, isolation_level=None, check_same_thread=False)

    # --- the replica ----------------------------------------------------------------------------------------------------

    def _replica_class(self) -> type[sqlite3.Connection]:
        store = self
        if not self._images:
            self._images.append((-1.0, self._image()))
            self._look_later()

        class Replica(_Connection):
            """Shows the newest image that is old enough."""

            shown: bytes | None = None

            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                image = store._old_image()
                if image and image is not self.shown:
                    self.deserialize(image)
                    self.shown = image
                return super().execute(sql, parameters)

        return Replica

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later((self._lag or 1.0) / 2, self._look, loop, context=contextvars.Context())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._images.append((loop.time(), self._image()))
        self._look_later()

    def _image(self) -> bytes:
        anchor = self._anchored()
        empty = anchor.execute("PRAGMA page_count").fetchone()[0] == 0
        return b"" if empty else anchor.serialize()

    def _old_image(self) -> bytes:
        latest = asyncio.get_running_loop().time() - (self._lag or 0.0)
        while len(self._images) > 1 and self._images[1][0] <= latest:
            self._images.popleft()
        return self._images[0][1]


def _close(connections: Any) -> None:
    for connection in connections:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
