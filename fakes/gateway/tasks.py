"""Tasks that belong to somebody: they are kept while they run, and all of them can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """The running tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task of its own."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Ask every task to end."""
        for task in self._running:
            task.cancel()

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
