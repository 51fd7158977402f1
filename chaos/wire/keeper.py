"""The keeper ends what the harness leaves behind when it is killed itself.

It runs as a process of its own session and reads lines from its standard input: `watch PGID`, `forget PGID` and
`remove DIR`. When the input ends (the harness closed it, or was killed with SIGKILL), it kills every process group that is
still watched and removes the directories. Run by path, with the standard library only, so that it starts in 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Keeper:
    """The harness' end of the keeper."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def watch(self, pgid: int) -> None:
        """Kill this process group when the harness is gone."""
        self._tell(f"watch {pgid}")

    def forget(self, pgid: int) -> None:
        """This process group has ended."""
        self._tell(f"forget {pgid}")

    def remove(self, folder: Path) -> None:
        """Remove this directory when the harness is gone."""
        self._tell(f"remove {folder}")

    def close(self) -> None:
        """The harness ends: everything that is still watched is killed now."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait(timeout=10)

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def keep() -> None:
    """The process itself: read until the input ends, then end and remove what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    folders: list[str] = []
    for line in sys.stdin:
        word, _, value = line.rstrip("\n").partition(" ")
        if word == "watch":
            groups.add(int(value))
        elif word == "forget":
            groups.discard(int(value))
        elif word == "remove":
            folders.append(value)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep()
