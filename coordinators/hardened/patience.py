"""Waiting: how long between attempts, and until the store is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from coordinators.common.stores import StoreUnavailable

FIRST, FACTOR, LONGEST = 0.1, 2.0, 5.0

T = TypeVar("T")


def backoff(attempt: int, longest: float = LONGEST) -> float:
    """Seconds to wait after attempt number `attempt`, counted from 0."""
    return min(FIRST * FACTOR ** min(attempt, 20), longest)


async def until_stored(operation: Callable[[], Awaitable[T]]) -> T:
    """Do an operation of the store, again and again while the store is unavailable. Other errors pass."""
    attempt = 0
    while True:
        try:
            return await operation()
        except StoreUnavailable:
            await asyncio.sleep(backoff(attempt, 0.5))
            attempt += 1


class Pace:
    """The pauses between polls: short after something happened, longer while nothing does."""

    def __init__(self, first: float, *, factor: float = 1.5, longest: float = 8.0) -> None:
        self._first = first
        self._factor = factor
        self._longest = first * longest
        self._next = first

    def next(self) -> float:
        """Seconds until the next poll."""
        pause = self._next
        self._next = min(pause * self._factor, self._longest)
        return pause

    def reset(self) -> None:
        """Something happened."""
        self._next = self._first
