"""A streamed body on the simulated network: the pieces as they arrive at the client, in the order in which they left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable


class Incoming:
    """What a client has of a streamed body so far.

    Args:
        left: called once when the client closes it before its end.
    """

    def __init__(self, left: Callable[[], None]) -> None:
        self.over = False
        """whether nothing more will come: it has ended, was broken, or was closed"""
        self._left = left
        self._early: dict[int, bytes | None] = {}
        self._next = 0
        self._pieces: list[bytes] = []
        self._error: Exception | None = None
        self._more: asyncio.Future[None] | None = None

    def arrive(self, number: int, piece: bytes | None) -> None:
        """A piece has arrived, None for the end. What overtook another one waits for it."""
        self._early[number] = piece
        while not self.over and self._next in self._early:
            ready = self._early.pop(self._next)
            self._next += 1
            if ready is None:
                self.over = True
            else:
                self._pieces.append(ready)
        self._notify()

    def fail(self, error: Exception) -> None:
        """The connection is gone; what has arrived can be read before the error comes."""
        if not self.over:
            self.over, self._error = True, error
            self._notify()

    def leave(self) -> None:
        """Read no more."""
        if not self.over:
            self.over = True
            self._left()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.read(None)) is not None:
            yield data

    async def read(self, timeout: float | None) -> bytes | None:
        """What has arrived, at least one byte; None at the end.

        Raises what the connection failed with, and TimeoutError when nothing came for so many seconds.
        """
        if not self._pieces and not self.over:
            self._more = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._more
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            return data
        if self._error is not None:
            raise self._error
        return None

    def _notify(self) -> None:
        if (self._pieces or self.over) and self._more is not None and not self._more.done():
            self._more.set_result(None)
