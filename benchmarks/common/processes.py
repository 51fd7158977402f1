"""Processes of a benchmark: started, listened to, ended with their block, and the CPU time that one has used."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil


@contextlib.contextmanager
def running(*command: str, heard: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, ended with the block; its output is piped, or thrown away when nobody would read it."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if heard else subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.kill()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a module that is run by this Python."""
    return (sys.executable, "-m", module, *arguments)


def line(child: subprocess.Popen[bytes]) -> str:
    """The next line that a child prints. Raises RuntimeError when it ended instead."""
    assert child.stdout is not None
    said = child.stdout.readline()
    if not said:
        raise RuntimeError(f"{' '.join(map(str, child.args))} ended with exit code {child.wait()}")  # type: ignore[arg-type]
    return said.decode().strip()


def cpu_seconds(pid: int) -> float:
    """The CPU time that a running process has used, all its threads together."""
    if sys.platform == "linux":  # the kernel's clock of that process, to the nanosecond; /proc counts in ticks of 10 ms
        return time.clock_gettime((~pid << 3) | 2)
    return float(sum(psutil.Process(pid).cpu_times()[:2]))
