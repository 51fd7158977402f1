"""The shared store of the coordinators on the wire: an SQLite file in their STATE_DIR, or a Redis behind proxies of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from chaos.nemesis import Heal
from chaos.outage import WriteLock
from chaos.wire.edges import Edges
from chaos.wire.errors import WireError
from chaos.wire.instances import Unit
from chaos.wire.keeper import Keeper
from chaos.wire.ports import free_port
from chaos.wire.process import Process

SQLITE, REDIS = "sqlite", "redis"
CLOSED = "it closed the connection"
PROGRAM = "REDIS_SERVER"
"""The environment variable that names the program of a Redis server; `redis-server` on PATH without it."""
READY, ANSWER, STOP_PATIENCE = 20.0, 1.0, 5.0
"""Seconds that a Redis may take to load its data, to answer a PING, and to stop."""


class Store(Protocol):
    """What the chamber and the nemesis know of a store. `upstream` is its host:port, None where there is no server."""

    upstream: str | None

    def environ(self, listen: str | None) -> Mapping[str, str]:
        """What tells an instance where the store is; `listen` is the host:port of its proxy."""
        ...

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Refuse every write from now on; outages may overlap."""
        ...


def check(word: str) -> None:
    """Raises WireError for a word that names no store, and when there is no program to start one with."""
    if word == REDIS:
        program()
    elif word != SQLITE and not word.startswith("redis://"):
        raise WireError(
            f"--store {word!r} is no store: expected sqlite (a file), redis (a server of this run's own), or "
            "redis://host:port/db"
        )


def program() -> str:
    """The program of a Redis server. Raises WireError that says how to get one."""
    name = os.environ.get(PROGRAM) or "redis-server"
    found = shutil.which(name)
    if found is None:
        raise WireError(
            f"--store redis starts a Redis server, and there is no program {name!r} on PATH. Install one (Debian: apt-get "
            f"install redis-server), name it in the environment variable {PROGRAM}, or give a running one: "
            "--store redis://host:port/db"
        )
    return found


class SqliteStore:
    """The file that STORE_URL names, and the lock by which its outages are made."""

    upstream: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = WriteLock(lambda: sqlite3.connect(path, timeout=0, isolation_level=None))

    def environ(self, listen: str | None) -> Mapping[str, str]:
        """STORE_URL: sqlite:/// and the absolute path."""
        return {"STORE_URL": f"sqlite:///{self.path}"}

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Hold the write lock."""
        return await self.lock.outage(seconds)


class RedisStore:
    """A Redis server, reached by each instance through a proxy; an outage takes all of these down.

    `process` is the server that this run has started, which may be killed and paused; None for one that runs anyway. Every key
    of a run begins with a prefix of its own there, and nothing but what the coordinators do is done to that server.

    Args:
        url: redis://[user:password@]host:port/db.
    """

    def __init__(self, url: str, edges: Edges, process: Unit | None = None) -> None:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port or 6379
        except ValueError as error:
            raise WireError(f"--store {url!r}: {error}") from None
        if not host:
            raise WireError(f"--store {url!r} names no host: expected redis://host:port/db")
        self.upstream: str | None = f"{host}:{port}"
        self.process = process
        self._host, self._port = host, port
        self._login = parts.netloc.rpartition("@")[0]
        self._db = parts.path or "/0"
        self._prefix = "" if process is not None else f"anechoic:{secrets.token_hex(4)}:"
        self._edges = edges
        self.wanted = True
        """False while a fault has taken the server down"""

    def environ(self, listen: str | None) -> Mapping[str, str]:
        """STORE_URL through the proxy, and STORE_PREFIX for the coordinators that know it."""
        login = f"{self._login}@" if self._login else ""
        return {"STORE_URL": f"redis://{login}{listen}{self._db}", "STORE_PREFIX": self._prefix}

    async def outage(self, seconds: float) -> tuple[str, float, Heal]:
        """Nobody reaches the server."""
        return await self._edges.down({"proxy": "store", "seconds": seconds}, None)

    async def start(self) -> str:
        """Start the server (again) and wait until it answers. Raises WireError with its last words."""
        if self.process is not None:
            await self.process.start()
        await self.ready(READY if self.process is not None else ANSWER)
        self.wanted = True
        return f"{self.upstream} answers again"

    async def down(self, process: Unit, *, graceful: bool) -> str:
        """Take the run's own server down on purpose; how it went, in a few words."""
        self.wanted = False
        where = process.where
        if graceful:
            await process.terminate(STOP_PATIENCE)
        else:
            await process.kill()
        return f"redis ({where}) {'stopped' if graceful else 'killed'}"

    async def ready(self, within: float) -> None:
        """Wait until it answers. Raises WireError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            seen = await self._ping()
            if seen is None:
                return
            if self.process is not None and not self.process.up:
                raise WireError(f"the Redis of this run ended with exit code {self.process.code}.\n{self.last_words()}")
            if loop.time() > deadline:
                raise WireError(
                    f"the Redis at {self.upstream} did not answer within {within:g} s; last seen: {seen}. Is it running, and "
                    f"is the address of --store right?\n{self.last_words()}"
                )
            await asyncio.sleep(0.05)

    def last_words(self) -> str:
        """The end of the server's log, where this run has started it."""
        return "" if self.process is None else f"  its last lines:\n{self.process.last_words()}"

    async def empty(self) -> None:
        """Forget everything: for a server that is this run's alone."""
        async with asyncio.timeout(ANSWER):
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(b"FLUSHALL\r\n")
            await reader.readline()
            writer.close()

    async def _ping(self) -> str | None:
        """None when it answers, else what was seen. That it wants a password is an answer, too."""
        try:
            async with asyncio.timeout(ANSWER):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    if writer.is_closing():  # uvloop would raise an error that is no OSError
                        return CLOSED
                    writer.write(b"PING\r\n")
                    answer = (await reader.readline()).decode(errors="replace").strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return None if answer.startswith(("+PONG", "-NOAUTH")) else answer or CLOSED


def own_redis(folder: Path, logs: Path, edges: Edges, keeper: Keeper) -> RedisStore:
    """A Redis server of this run's own, not yet started: on loopback, and all that it was told survives a kill."""
    folder.mkdir(parents=True)
    port = free_port(set())
    options = {
        "port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "everysec",
        "daemonize": "no",
    }
    command = [program(), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    return RedisStore(f"redis://127.0.0.1:{port}/0", edges, Process("redis", command, os.environ, logs, keeper))


async def watch(store: RedisStore, lost: Callable[[str], None]) -> None:
    """Tell `lost` when the run's own server ends by itself; one that a fault has taken down is none of that."""
    process = store.process
    while process is not None:
        life = process.life
        await process.wait()
        await asyncio.sleep(0.1)  # a fault that has ended it says so first
        if store.wanted and process.life == life and not process.up:
            lost(f"the Redis of this run ended by itself with exit code {process.code}.\n{store.last_words()}")
            return
        while not process.up:
            await asyncio.sleep(0.05)
