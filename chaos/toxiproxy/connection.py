"""One connection through a proxy: the client's side, the upstream's side, and the two links between them."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from chaos.toxiproxy.addresses import split
from chaos.toxiproxy.link import Link
from chaos.toxiproxy.meters import Meter
from chaos.toxiproxy.toxics import DOWNSTREAM, UPSTREAM, Toxic

READ_SIZE = 64 * 1024
"""Bytes read at once. With asyncio's own 256 KiB the allocator maps and unmaps pages for each read: seven times the cost."""

_NO_LINGER = struct.pack("ii", 1, 0)


class _Side(asyncio.Protocol):
    """The protocol of one of the two sockets: what it says goes `out`, what it is told comes `into` it."""

    __slots__ = ("_lost", "_made", "into", "out", "transport")

    def __init__(self, out: Link, into: Link, made: Callable[[], None], lost: Callable[[], None]) -> None:
        self.out = out
        self.into = into
        self.transport: asyncio.Transport | None = None
        self._made = made
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if hasattr(transport, "max_size"):
            transport.max_size = READ_SIZE
        self.out.attach_source(self.transport)
        self.into.attach_destination(self.transport)
        self._made()

    def data_received(self, data: bytes) -> None:
        link = self.out
        if link.straight:
            link.meter.passed += len(data)
            link.write(data)
        else:
            link.feed(data)

    def eof_received(self) -> bool:
        self.out.end()
        return True  # the link closes this socket, when its toxics allow it

    def connection_lost(self, exc: Exception | None) -> None:
        self.into.stop()
        self.out.end()
        self._lost()

    def pause_writing(self) -> None:
        self.into.block(True)

    def resume_writing(self) -> None:
        self.into.block(False)


class Connection:
    """A client that was accepted, and the dial to the upstream for it.

    Bytes of the client that come before the upstream is there are kept and follow. There is no half-close: the end of one
    direction, once delivered, closes both, as in Toxiproxy.

    Args:
        dice: gives the seeded generator for a direction and the name of a toxic.
        ended: called when both sockets are closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        upstream: str,
        meters: Mapping[str, Meter],
        toxics: Mapping[str, Sequence[Toxic]],
        dice: Callable[[str, str], random.Random],
        ended: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._upstream = upstream
        self._ended = ended
        self._dialling: asyncio.Task[None] | None = None
        self._open = 0
        self.links = {
            stream: Link(loop, meters[stream], _bind(dice, stream), toxics[stream], self._reset)
            for stream in (UPSTREAM, DOWNSTREAM)
        }
        up, down = self.links[UPSTREAM], self.links[DOWNSTREAM]
        self.client = _Side(up, down, self._accepted, self._lost)
        self.server = _Side(down, up, self._made, self._lost)

    def __repr__(self) -> str:
        return f"<Connection to {self._upstream}: {self.links}>"

    def abort(self) -> None:
        """Close both sockets now, whatever is under way."""
        if self._dialling is not None:
            self._dialling.cancel()
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()

    def _accepted(self) -> None:
        self._open += 1
        self._dialling = self._loop.create_task(self._dial())

    def _made(self) -> None:
        self._open += 1

    def _lost(self) -> None:
        self._open -= 1
        if self._open == 0 and self._dialling is None:
            self._ended(self)

    async def _dial(self) -> None:
        try:
            host, port = split(self._upstream)
            await self._loop.create_connection(lambda: self.server, host or "localhost", int(port))
        except (OSError, ValueError):
            self.links[UPSTREAM].stop()
            self.links[DOWNSTREAM].stop()
            if self.client.transport is not None:
                self.client.transport.close()
        finally:
            self._dialling = None
            if self._open == 0:
                self._ended(self)

    def _reset(self) -> None:
        for side in (self.client, self.server):
            if side.transport is not None:
                _linger_not(side.transport)
        self.abort()


def _bind(dice: Callable[[str, str], random.Random], stream: str) -> Callable[[str], random.Random]:
    return lambda name: dice(stream, name)


def _linger_not(transport: asyncio.Transport) -> None:
    """Make closing the socket a reset: what was not sent is thrown away, and the peer gets RST."""
    made = transport.get_extra_info("socket")
    if made is not None and made.fileno() >= 0:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
