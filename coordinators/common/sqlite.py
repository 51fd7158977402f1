"""The shared store as a file: SQLite in WAL mode, called directly, in transactions that are short and never span an await."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from coordinators.common.stores import StoreUnavailable

Row = tuple[Any, ...]


class Database:
    """One connection to the store's file, opened at first use and again after it broke.

    After a failure no call waits for locks until a write succeeds: a locked store must not stop the event loop again and
    again.

    Args:
        path: the file; its folder must exist.
        schema: statements that create what is not there yet.
        busy_timeout: seconds that a call waits for the lock of another instance.
    """

    def __init__(self, path: str, schema: str, *, busy_timeout: float = 0.2) -> None:
        self._path = path
        self._schema = schema
        self._busy_ms = int(busy_timeout * 1000)
        self._connection: sqlite3.Connection | None = None
        self.healthy = True
        """False from a failure until the next write that succeeds"""

    def write(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """One statement that changes something; the rows that it returns. Raises StoreUnavailable.

        It is a transaction by itself, and holds the lock for microseconds: an instance that is stopped while it holds
        the lock stops all of them.
        """
        with self._guarded() as connection:
            rows: list[Row] = connection.execute(sql, parameters).fetchall()
        self._recovered(connection)
        return rows

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements: everything inside happens, or nothing. Raises StoreUnavailable."""
        with self._guarded() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise
        self._recovered(connection)

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """All rows of one query. Raises StoreUnavailable."""
        with self._guarded() as connection:
            rows: list[Row] = connection.execute(sql, parameters).fetchall()
            return rows

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection or self._open()
            yield connection
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.Error as error:
            self._failed(error)
            raise StoreUnavailable(str(error)) from None

    def _recovered(self, connection: sqlite3.Connection) -> None:
        if not self.healthy:
            self.healthy = True
            connection.execute(f"PRAGMA busy_timeout={self._busy_ms}")

    def _open(self) -> sqlite3.Connection:
        wait = self._busy_ms / 1000 if self.healthy else 0.0
        connection = sqlite3.connect(self._path, timeout=wait, isolation_level=None, cached_statements=256)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(self._schema)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _failed(self, error: sqlite3.Error) -> None:
        self.healthy = False
        try:
            if _locked(error) and self._connection is not None:
                self._connection.execute("PRAGMA busy_timeout=0")
            else:
                self.close()
        except sqlite3.Error:
            self._connection = None


def _locked(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
