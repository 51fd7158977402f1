"""The hub: fakes in other processes are tied to the one history and the one nemesis of the harness.

Each fake has one connection of JSON lines (`fakes.remote.tie`). Its events get their number and time here, on arrival, and it
waits at each protocol point until the nemesis here has decided, so the history is as totally ordered, and faults are as exact,
as with every fake in one process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from chaos.wire.errors import WireError
from fakes.faults import Fault, Nemesis
from fakes.history import Event, History, HistoryError, parsed
from fakes.remote.lines import BadLine, Lines

PATIENCE = 60.0
"""Seconds that a fake has to take a connection and to begin."""

REMEMBERED = 65_536
"""Events of a fake about which it can still ask; it asks right after it has recorded one."""


class Hub:
    """The harness' end of one connection; also the `Runs` of the nemesis where the fake is the Assistants API.

    Args:
        name: of the fake, for people.
        log: takes the lines of the fake's log.
        lost: told why when the connection ends before `aclose`; the run is worth nothing then.
    """

    def __init__(
        self, name: str, history: History, nemesis: Nemesis, *, log: Callable[[str], None], lost: Callable[[str], None]
    ) -> None:
        self.name = name
        self._history = history
        self._nemesis = nemesis
        self._log = log
        self._lost = lost
        self._lines: Lines | None = None
        self._reader: asyncio.Task[None] | None = None
        self._arrived = itertools.count(1)
        self._events: dict[int, Event] = {}
        """the latest ones by the fake's own numbers"""
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._befalling: dict[int, asyncio.Future[str | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, address: str, token: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Connect to the fake at `address` (host:port), and have it begin; what it tells about itself.

        Raises WireError when nobody answers there within 60 s, or when it refuses.
        """
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(PATIENCE):
                self._lines = await _connect(host, int(port))
                self._lines.send(do="begin", token=token, settings=settings)
                begun = await self._lines.next()
        except TimeoutError:
            raise WireError(
                f"the {self.name} did not answer at {address} within {PATIENCE:g} s. Is it up, with --control {port}?"
            ) from None
        if begun is None or begun.get("is") != "begun":
            reason = begun.get("reason") if begun else "it closed the connection"
            raise WireError(f"the {self.name} at {address} refused this run: {reason}")
        self._reader = asyncio.create_task(self._read(self._lines))
        return begun

    def send(self, **line: Any) -> None:
        """Send one line to the fake."""
        if self._lines is not None:
            self._lines.send(**line)

    async def befall(self, fault: Fault, run_id: str | None, conversation: str | None) -> None:
        """Make a fault on a run (see `fakes.faults.Runs`). Raises OSError when the fake could not."""
        number = next(self._numbers)
        done = self._befalling[number] = asyncio.get_running_loop().create_future()
        self.send(do="befall", id=number, fault=self._hand_over(fault), run_id=run_id, conversation=conversation)
        error = await done
        if error is not None:
            raise OSError(f"the {self.name} could not make {fault.name}: {error}")

    async def aclose(self) -> None:
        """End the session; the fake forgets it. Safe to call twice."""
        tasks = [*self._tasks, *([self._reader] if self._reader is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reader = None
        if self._lines is not None:
            await self._lines.aclose()

    async def _read(self, lines: Lines) -> None:
        reason = "it closed the connection"
        try:
            async for line in lines:
                self._take(line)
        except (BadLine, HistoryError, LookupError) as error:
            reason = f"{type(error).__name__}: {error}"
        for waiting in self._befalling.values():
            if not waiting.done():
                waiting.set_result("it is gone")
        self._lost(f"the {self.name} is gone: {reason}")

    def _take(self, line: Mapping[str, Any]) -> None:
        kind = line["is"]
        if kind == "event":
            cls, fields = parsed(line["event"])
            number = next(self._arrived)
            self._events[number] = self._history.record(cls, **fields)
            self._events.pop(number - REMEMBERED, None)
        elif kind == "at":
            self._spawn(self._at(line["n"]))
        elif kind == "injected":
            self._faults.pop(line["id"]).injected(line["detail"])
        elif kind == "befallen":
            self._befalling.pop(line["id"]).set_result(line["error"])
        elif kind == "log":
            self._log(line["line"])
        else:
            raise BadLine(f"unknown line {str(line)[:80]}")

    async def _at(self, n: int) -> None:
        faults = await self._nemesis.at(self._events[n])
        self.send(do="faults", n=n, faults=[self._hand_over(fault) for fault in faults])

    def _hand_over(self, fault: Fault) -> dict[str, Any]:
        number = next(self._numbers)
        self._faults[number] = fault
        return {"id": number, "name": fault.name, "args": dict(fault.args)}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _connect(host: str, port: int) -> Lines:
    """Connect, again and again until somebody listens there."""
    while True:
        try:
            return await Lines.connect(host, port)
        except OSError:
            await asyncio.sleep(0.1)
