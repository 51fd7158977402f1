"""What surrounds a simulation: clocks, dice and databases that would be real are virtual, and what cannot be is refused.

While a simulation runs, in its thread only: `time` tells virtual time, `random`, `uuid4`, `secrets` and `os.urandom` are
seeded, `os.environ` is that of the instance which looks, `sqlite3.connect` finds the shared store and waits for no lock,
`httpx.AsyncHTTPTransport` goes through the simulated network, and no certificates are loaded. Threads, sockets, processes
and `time.sleep` are refused. Out of reach are `datetime.now()` and names taken out of a module at its import (`from time
import time`).
"""

from __future__ import annotations

import _thread
import os
import platform
import random
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from chaos.simulation.errors import Refused, where
from chaos.simulation.lives import LIFE
from chaos.simulation.loop import VirtualLoop

THREAD = "threading.Thread.start() (a plain `def` endpoint of FastAPI or Starlette runs in a thread, too)"
REAL = {
    "socket.connect": "socket.connect()",
    "socket.bind": "socket.bind()",
    "socket.sendto": "socket.sendto()",
    "socket.getaddrinfo": "socket.getaddrinfo()",
    "socket.gethostbyname": "socket.gethostbyname()",
    "subprocess.Popen": "subprocess.Popen()",
    "os.system": "os.system()",
    "os.fork": "os.fork()",
    "os.forkpty": "os.forkpty()",
    "os.posix_spawn": "os.posix_spawn()",
}
"""Audit events of Python, and how they are called."""

_within: list[Surroundings] = []
_hooked = False


class Surroundings:
    """Entered for as long as the loop runs, left in between. Entering again goes on where it was left."""

    def __init__(self, loop: VirtualLoop, *, seed: int, wall: Callable[[], float], connect: Callable[..., Any]) -> None:
        self._loop = loop
        self._wall = wall
        self._connect = connect
        self._thread = 0
        self._bytes = random.Random(f"{seed}/urandom").randbytes
        self._seed = seed
        self._dice: Any = None
        self._outer_dice: Any = None
        self._undo: list[tuple[Any, str, Any]] = []
        self._transports: list[tuple[Any, Any]] = []

    def reroute(self, library: Any, handle: Callable[..., Any]) -> None:
        """Have the real asynchronous transport of an HTTP library (httpx, httpx2) go through `handle(transport, request)`."""
        self._transports.append((library.AsyncHTTPTransport, handle))

    def __enter__(self) -> None:
        _hook()
        self._thread = threading.get_ident()
        self._outer_dice = random.getstate()
        if self._dice is None:
            random.seed(f"{self._seed}/random")
        else:
            random.setstate(self._dice)
        for owner, name, virtual in self._virtual():
            self._replace(owner, name, virtual)
        for transport, handle in self._transports:
            self._put(transport, "handle_async_request", handle)
        self._put(os, "environ", _Environ(os.environ))
        _within.append(self)

    def __exit__(self, *_: object) -> None:
        _within.remove(self)
        while self._undo:
            setattr(*self._undo.pop())
        self._dice = random.getstate()
        random.setstate(self._outer_dice)

    def refuse(self, call: str) -> None:
        """End the simulation: something real was asked for. Raises Refused."""
        error = Refused(call, where(sys._getframe(1)))
        self._loop.doom = self._loop.doom or error
        raise error

    def mine(self) -> bool:
        """Whether the thread of the simulation asks."""
        return threading.get_ident() == self._thread

    def _virtual(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        loop, wall, randbytes = self._loop, self._wall, self._bytes
        return [
            (threading.Thread, "start", lambda thread: self.refuse(THREAD)),
            (_thread, "start_new_thread", lambda *given: self.refuse(THREAD)),
            (time, "sleep", lambda seconds: self.refuse(f"time.sleep({seconds!r})")),
            (time, "time", wall),
            (time, "time_ns", lambda: int(wall() * 1e9)),
            (time, "monotonic", loop.time),
            (time, "monotonic_ns", lambda: int(loop.time() * 1e9)),
            (time, "perf_counter", loop.time),
            (time, "perf_counter_ns", lambda: int(loop.time() * 1e9)),
            (os, "urandom", randbytes),
            (random, "_urandom", randbytes),
            (sqlite3, "connect", self._connect),
            (sqlite3.dbapi2, "connect", self._connect),
            (ssl.SSLContext, "load_verify_locations", lambda *given, **named: None),  # 30 ms each time, for nothing
        ]

    def _replace(self, owner: Any, name: str, virtual: Callable[..., Any]) -> None:
        """Other threads keep what is real."""
        real = getattr(owner, name)
        thread, ident = self._thread, threading.get_ident
        self._put(owner, name, lambda *a, **k: virtual(*a, **k) if ident() == thread else real(*a, **k))

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)


class _Environ(MutableMapping[str, str]):
    """The environment as the running instance sees it: its own variables before those of the process."""

    def __init__(self, real: MutableMapping[str, str]) -> None:
        self._real = real

    def __getitem__(self, name: str) -> str:
        life = LIFE.get()
        if life is not None and name in life.environ:
            return life.environ[name]
        return self._real[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        life = LIFE.get()
        return iter({**self._real, **life.environ} if life is not None else self._real)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def copy(self) -> dict[str, str]:
        """A plain dictionary."""
        return dict(self)


def _hook() -> None:
    """Audit hooks cannot be taken back: one for the process, which looks only while a simulation runs."""
    global _hooked
    if not _hooked:
        _hooked = True
        platform.processor()  # found out by a process once, and then known: SDKs put it into their headers
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _within and event in REAL and _within[-1].mine():
        _within[-1].refuse(REAL[event])
