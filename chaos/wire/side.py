"""What a coordinator needs beside it: a command sets it up before any instance starts, another takes it down at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from chaos.wire.errors import WireError
from chaos.wire.keeper import Keeper

TIMEOUT = 600.0
"""Seconds that either command may take."""
TAIL_LINES = 20


class Side:
    """Runs both commands in a shell, with the environment of the first instance, and ends what they left in the background.

    Args:
        logs: folder for setup.log and teardown.log.
        say: told when the end did not go well; by then there is a verdict, which stays.
    """

    def __init__(self, environ: Mapping[str, str], logs: Path, keeper: Keeper, say: Callable[[str], None]) -> None:
        self._environ = dict(environ)
        self._logs = logs
        self._keeper = keeper
        self._say = say
        self._groups: list[int] = []

    async def set_up(self, command: str) -> None:
        """Run it and wait for it, not for servers that it starts with `&`. Raises WireError with its last lines."""
        await self._run("setup", command)

    async def tear_down(self, command: str | None) -> None:
        """Run it, then end every server that is left; what goes wrong is said, not raised."""
        try:
            if command is not None:
                await self._run("teardown", command)
        except WireError as error:
            self._say(str(error))
        finally:
            await self._end_groups()

    async def _run(self, name: str, command: str) -> None:
        log = self._logs / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:  # a pipe would be held open by what runs on in the background
            process = await asyncio.create_subprocess_shell(
                command, env=self._environ, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )
        self._keeper.watch(process.pid)
        self._groups.append(process.pid)
        try:
            await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            raise WireError(f"the {name} command did not end within {TIMEOUT:g} s: {command}") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            tail = "\n".join(log.read_bytes()[-65536:].decode(errors="replace").splitlines()[-TAIL_LINES:])
            raise WireError(f"the {name} command ended with exit code {process.returncode}: {command}\n{tail}")

    async def _end_groups(self) -> None:
        """SIGTERM, and SIGKILL two seconds later. A group whose number is a process again is somebody else's."""
        left = [group for group in self._groups if not psutil.pid_exists(group)]
        for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 0.0)):
            left = [group for group in left if _signalled(group, number)]
            for _ in range(round(patience / 0.05)):
                left = [group for group in left if _signalled(group, 0)]
                if not left:
                    break
                await asyncio.sleep(0.05)
        for group in self._groups:
            self._keeper.forget(group)
        self._groups.clear()


def _signalled(group: int, number: int) -> bool:
    """Whether there was anybody to get the signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
