"""A streamed generation on its way through the router: piece by piece, and past help once its first piece has left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from fakes.exchange import Cut


class Relay:
    """The pieces of a replica's answer, as they come.

    A replica that dies meanwhile cuts the answer: no other one can go on where it was.

    Args:
        first: what has come already.
        answer: the rest; `held` is what keeps it open.
        end: told whether the answer was whole.
    """

    def __init__(
        self, first: bytes, answer: aiohttp.ClientResponse, held: AsyncExitStack, end: Callable[[bool], Awaitable[bool]]
    ) -> None:
        self._first = first
        self._answer = answer
        self._held = held
        self._end = end
        self._left = False

    def leave(self) -> None:
        """Pass on nothing more; the generation comes to its end all the same."""
        self._left = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces. Raises Cut where the replica is gone before its last one."""
        whole = False
        async with self._held:
            yield self._first
            try:
                async for piece in self._answer.content.iter_any():
                    if not self._left:
                        yield piece
                whole = True
            except (aiohttp.ClientError, TimeoutError, OSError):
                whole = False
        if not await self._end(whole):
            raise Cut
