"""The in-memory HTTP transport, for httpx and httpx2: requests reach the fakes, timeouts are those of virtual time."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any
from urllib.parse import parse_qsl

import httpx

from chaos.simulation.network import ConnectionLost, Network, NoAnswerInTime, NotConnected
from fakes.exchange import Reply, Request


class MemoryTransport(httpx.AsyncBaseTransport):
    """Carries requests of httpx and of httpx2, whichever asks, to the fakes behind the network.

    Connect, read and pool timeouts are kept; writing takes no time. A connection that fails raises what the library would
    raise: ConnectError, ConnectTimeout, ReadTimeout, PoolTimeout, ReadError, RemoteProtocolError.

    Args:
        max_connections: requests at a time; further ones wait for their place, at most the pool timeout.
    """

    def __init__(self, network: Network, max_connections: int | None = None) -> None:
        self._network = network
        self._free = max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def handle_async_request(self, request: Any) -> Any:
        """Carry one request."""
        if self._free is None:
            return await carry(self._network, request)
        await self._take_place(request)
        try:
            return await carry(self._network, request)
        finally:
            self._give_place_back()

    async def _take_place(self, request: httpx.Request) -> None:
        assert self._free is not None
        if self._free > 0:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        seconds = request.extensions.get("timeout", {}).get("pool")
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            if place.done() and not place.cancelled():
                self._give_place_back()
            raise _library(request).PoolTimeout(f"no free connection within {seconds:g} s", request=request) from None

    def _give_place_back(self) -> None:
        assert self._free is not None
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


async def carry(network: Network, request: Any) -> Any:
    """Carry one request of httpx or httpx2 over the network; returns that library's response, or raises its errors."""
    url = request.url
    timeouts = request.extensions.get("timeout", {})
    body = await request.aread()
    path, _, query = url.raw_path.partition(b"?")
    try:
        edge = network.find(url.host, url.port or 80)
        if edge.troubles:
            async with asyncio.timeout(timeouts.get("connect")):
                await edge.connect()
        asked = Request(
            request.method,
            path.decode("ascii"),
            dict(parse_qsl(query.decode("ascii"), keep_blank_values=True)) if query else {},
            {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers.raw},
            body,
            edge.instance,
        )
        reply = await edge.ask(asked, timeouts.get("read"))
    except NotConnected as error:
        raise _library(request).ConnectError(str(error), request=request) from None
    except TimeoutError:
        raise _library(request).ConnectTimeout("no connection in time", request=request) from None
    except NoAnswerInTime as error:
        raise _library(request).ReadTimeout(str(error), request=request) from None
    except ConnectionLost as error:
        library = _library(request)
        kind = library.RemoteProtocolError if "without an answer" in str(error) else library.ReadError
        raise kind(str(error), request=request) from None
    return _response(request, reply)


def _response(request: Any, reply: Reply) -> Any:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    headers.append((b"content-length", str(len(reply.body)).encode()))
    headers.append((b"content-type", reply.media_type.encode("latin-1")))
    library = _library(request)
    return library.Response(reply.status, headers=headers, stream=library.ByteStream(reply.body), request=request)


def _library(request: Any) -> Any:
    return sys.modules[type(request).__module__.partition(".")[0]]
