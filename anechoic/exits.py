"""Exit codes, and how an error becomes one."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

from fakes import loop

PASS, FAIL, INVALID, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130

WORST_FIRST = (FAIL, INVALID, UNKNOWN, INTERRUPTED, PASS)

T = TypeVar("T")


def worst(codes: Iterable[int]) -> int:
    """The code of several runs, or of several demands on one: a fail comes first, and a pass counts only where all are."""
    return min(codes, key=WORST_FIRST.index)


def say(message: object) -> None:
    """Say what is wrong on standard error."""
    print(f"anechoic: {message}", file=sys.stderr)


def invalid(message: object) -> NoReturn:
    """Say what is wrong on standard error and end with exit code 2."""
    say(message)
    raise SystemExit(INVALID)


def interrupted() -> NoReturn:
    """End with exit code 130."""
    say("interrupted")
    raise SystemExit(INTERRUPTED) from None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end. SIGINT and SIGTERM cancel it, which gives everything back, and end the command with 130."""

    async def guarded() -> T:
        running = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too where a shell's background job inherits it as ignored
            running.add_signal_handler(number, task.cancel)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            running.add_signal_handler(signal.SIGHUP, task.cancel)
        return await main

    try:
        return loop.run(guarded())
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted()
