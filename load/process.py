"""Locust as a process of the harness, or a master with workers: turned up and down by lines, telling by lines."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any

from chaos.wire.errors import WireError
from chaos.wire.keeper import Keeper
from chaos.wire.ports import free_port

READY = 90.0
"""Seconds within which every stream has to be there; with workers on other machines that includes their start."""
STOP = 15.0
"""Seconds within which Locust has to be gone after it was told to quit."""
LINE = 64 * 1024 * 1024
"""Bytes of one line at most."""

Told = Callable[[Sequence[Sequence[Any]]], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What Locust is to do: what shape turns have, and how many streams of them there are.

    `workers` of 0 has all in one process. With workers, `remote` of them are started by somebody else (`locust --worker`), and
    the rest here; the master listens at `bind`, and takes any free port where that is 0.
    """

    urls: tuple[str, ...]
    shape: str = "support-desk"
    streams: int = 1
    workers: int = 0
    remote: int = 0
    bind: tuple[str, int] = ("127.0.0.1", 0)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stop_timeout: float = 5.0


class Locust:
    """Enter it to start; leaving ends every process of it.

    Args:
        told: is given every batch of records, one after the other.
        log: folder for locust.log.
    """

    def __init__(self, order: Order, told: Told, log: Path) -> None:
        self._order = order
        self._told = told
        self._log = log / "locust.log"
        self._keeper: Keeper | None = None
        self._master: asyncio.subprocess.Process | None = None
        self._workers: list[asyncio.subprocess.Process] = []
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stats: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """ends with a WireError when Locust goes away by itself"""
        self._leaving = False

    @property
    def pids(self) -> list[int]:
        """Process ids of all of it."""
        return [p.pid for p in (self._master, *self._workers) if p is not None and p.returncode is None]

    async def __aenter__(self) -> Locust:
        """Start it. Raises WireError, and leaves nothing behind then."""
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, by force where it does not end by itself."""
        self._leaving = True
        if self._master is not None and self._master.stdin is not None:
            self._master.stdin.close()
        for process in (self._master, *self._workers):
            if process is not None:
                await self._end(process)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for future in (self._ready, self._stats, self.lost):
            future.cancel()
        if self._keeper is not None:
            self._keeper.close()

    async def rate(self, turns_per_second: float) -> None:
        """How many turns per second all streams deliver together from now on; 0 stops arrivals."""
        await self._say({"rate": turns_per_second})

    async def stop(self) -> list[dict[str, Any]]:
        """Stop the streams; the rows of Locust's table (times in milliseconds). Raises WireError when it does not answer."""
        self._leaving = True
        await self._say({"quit": True})
        try:
            return await asyncio.wait_for(asyncio.shield(self._stats), STOP + self._order.stop_timeout)
        except TimeoutError:
            raise WireError(f"Locust did not stop within {STOP + self._order.stop_timeout:g} s.\n{self._words()}") from None

    async def _start(self) -> None:
        order = self._order
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._keeper = Keeper()
        port = order.bind[1] or (free_port(set()) if order.workers else 0)
        said = {
            "host": ",".join(order.urls), "shape": order.shape, "streams": order.streams, "workers": order.workers,
            "bind_host": order.bind[0], "bind_port": port, "options": dict(order.options), "stop_timeout": order.stop_timeout,
        }
        with self._log.open("ab") as log:
            self._master = await self._spawn(log, sys.executable, "-m", "load", json.dumps(said))
            for _ in range(order.workers - order.remote):
                self._workers.append(await self._spawn(
                    log, sys.executable, "-m", "locust", "-f", str(resources.files("load") / "locustfile.py"), "--worker",
                    "--master-host", "127.0.0.1", "--master-port", str(port), "--loglevel", "WARNING",
                ))
        self._reader = asyncio.get_running_loop().create_task(self._read(self._master))
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), READY)
        except TimeoutError:
            raise WireError(f"Locust was not ready after {READY:g} s.\n{self._words()}") from None

    async def _spawn(self, log: IO[bytes], *command: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if "load" in command else log, stderr=log,
            start_new_session=True, limit=LINE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._keeper is not None
        self._keeper.watch(process.pid)
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        try:
            await self._take_lines(process)
        except Exception as error:
            self._fail(f"what Locust said could not be taken: {type(error).__name__}: {error}")
            raise

    async def _take_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            said = json.loads(line)
            if "turns" in said:
                await self._told(said["turns"])
            elif "ready" in said:
                self._ready.set_result(None)
            elif "stats" in said:
                self._stats.set_result(said["stats"])
            elif "error" in said:
                self._fail(said["error"])
        code = await process.wait()
        if not self._leaving or not self._stats.done():
            self._fail(f"Locust ended by itself with exit code {code}")

    def _fail(self, reason: str) -> None:
        error = WireError(f"{reason}.\n{self._words()}")
        for future in (self._ready, self._stats, self.lost):
            if not future.done():
                future.set_exception(error)
                future.exception()

    async def _say(self, line: dict[str, Any]) -> None:
        if self._master is not None and self._master.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._master.stdin.write(json.dumps(line).encode() + b"\n")
                await self._master.stdin.drain()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        for number, patience in ((None, 2.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
            if process.returncode is not None:
                break
            if number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        assert self._keeper is not None
        self._keeper.forget(process.pid)

    def _words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(["  its last lines:", *(f"    | {line}" for line in lines[-12:])])
