"""One process under test: started in a group of its own, with its output kept, ended as a group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.wire.errors import WireError
from chaos.wire.keeper import Keeper

TAIL_LINES = 20


class Process:
    """A command that can be started again and again; `life` counts its starts from 1.

    Args:
        output: folder for NAME.out and NAME.err, which all lives append to.
    """

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], output: Path, keeper: Keeper) -> None:
        self.name = name
        self.command = list(command)
        self.life = 0
        self._environ = dict(environ)
        self._out = output / f"{name}.out"
        self._err = output / f"{name}.err"
        self._keeper = keeper
        self._process: asyncio.subprocess.Process | None = None
        self.paused = False

    def __repr__(self) -> str:
        return f"<Process {self.name} life {self.life} {'up' if self.up else f'down, code {self.code}'}>"

    @property
    def up(self) -> bool:
        """Whether the process of this life has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Process id of this life, also the id of its group."""
        return self._process.pid if self._process is not None else None

    @property
    def where(self) -> str:
        """Its process id, in words."""
        return f"pid {self.pid}"

    @property
    def code(self) -> int | None:
        """Exit code of this life, negative for a signal; None while it is up."""
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        """Start the next life. Raises WireError when the command cannot be started at all."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        with self._out.open("ab") as out, self._err.open("ab") as err:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command, env=self._environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
            except OSError as error:
                raise WireError(
                    f"the coordinator's command cannot be started: {' '.join(self.command)}\n  {error}\n"
                    "Give a program that is on PATH, or a path to one; --command takes it with its arguments in one string."
                ) from None
        self.life += 1
        self.paused = False
        self._keeper.watch(self._process.pid)

    async def wait(self) -> int:
        """Until the process of this life ends; its exit code."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL to the whole group; returns when the process is reaped."""
        self._signal(signal.SIGKILL)
        await self._reap()

    async def terminate(self, patience: float) -> bool:
        """SIGTERM to the group, SIGKILL after `patience` seconds; False when the latter was needed."""
        await self.resume()
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), patience)
            graceful = True
        except TimeoutError:
            graceful = False
        await self.kill()
        return graceful

    async def pause(self) -> bool:
        """SIGSTOP to the group; False when it has ended, or stands still already."""
        if self.paused or not self.up:
            return False
        self._signal(signal.SIGSTOP)
        self.paused = True
        return True

    async def resume(self) -> None:
        """SIGCONT to the group."""
        if self.paused:
            self._signal(signal.SIGCONT)
            self.paused = False

    async def disconnect(self) -> str:
        """Not for a process: it shares the machine's network. Raises OSError."""
        raise OSError(f"{self.name} is a process, which cannot be taken off a network; proxy_down cuts its edges")

    async def reconnect(self) -> None:
        """Nothing was cut off."""

    async def give_back(self, patience: float) -> None:
        """SIGTERM, SIGKILL where that is not enough; nothing of its group is left when this returns."""
        if self.up:
            await self.terminate(patience)
        with contextlib.suppress(ProcessLookupError):
            await self.kill()

    def last_words(self) -> str:
        """The last 20 lines of standard error, or of standard output where there is no error output."""
        for path in (self._err, self._out):
            with contextlib.suppress(OSError):
                lines = path.read_bytes()[-65536:].decode(errors="replace").splitlines()
                if any(line.strip() for line in lines):
                    return "\n".join(lines[-TAIL_LINES:])
        return "(it printed nothing)"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)  # the group may outlive its leader: grandchildren

    async def _reap(self) -> None:
        if self._process is not None:
            await self._process.wait()
            self._keeper.forget(self._process.pid)
