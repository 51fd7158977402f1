"""The in-memory HTTP transport, for httpx and httpx2: requests reach the fakes, timeouts are those of virtual time."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import httpx

from chaos.simulation.network import ConnectionLost, Network, NoAnswerInTime, NotConnected
from chaos.simulation.pieces import Incoming
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
            return await carry(self._network, request, self._give_place_back)
        except BaseException:
            self._give_place_back()
            raise

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


async def carry(network: Network, request: Any, done: Callable[[], None] = lambda: None) -> Any:
    """Carry one request of httpx or httpx2 over the network; returns that library's response, or raises its errors.

    `done` is called when the connection is free again: with the response, or at the end of its stream.
    """
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
        raise _lost(request, error) from None
    return _response(request, reply, _date(int(network.wall())), timeouts.get("read"), done)


@functools.lru_cache(maxsize=16)
def _date(seconds: int) -> bytes:
    """The Date that a server sends at that unix time."""
    return formatdate(seconds, usegmt=True).encode()


def _response(request: Any, reply: Reply, date: bytes, read_timeout: float | None, done: Callable[[], None]) -> Any:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    headers.append((b"date", date))
    headers.append((b"content-type", reply.media_type.encode("latin-1")))
    library = _library(request)
    if isinstance(reply.stream, Incoming):
        body = _streamed_body(library)(request, reply.stream, read_timeout, done)
    else:
        headers.append((b"content-length", str(len(reply.body)).encode()))
        body = library.ByteStream(reply.body)
        done()
    return library.Response(reply.status, headers=headers, stream=body, request=request)


@functools.cache
def _streamed_body(library: Any) -> Callable[..., Any]:
    """The class of streamed bodies in the words of a library; a read timeout is that of each read."""

    class Body(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, request: Any, incoming: Incoming, timeout: float | None, done: Callable[[], None]) -> None:
            self._request, self._incoming, self._timeout, self._done = request, incoming, timeout, done

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while (piece := await self._incoming.read(self._timeout)) is not None:
                    yield piece
            except TimeoutError:
                raise library.ReadTimeout(f"no data within {self._timeout:g} s", request=self._request) from None
            except ConnectionLost as error:
                raise _lost(self._request, error) from None

        async def aclose(self) -> None:
            self._incoming.leave()
            done, self._done = self._done, lambda: None
            done()

    return Body


def _lost(request: Any, error: ConnectionLost) -> Exception:
    library = _library(request)
    closed = "the server closed" in str(error)
    lost: Exception = (library.RemoteProtocolError if closed else library.ReadError)(str(error), request=request)
    return lost


def _library(request: Any) -> Any:
    return sys.modules[type(request).__module__.partition(".")[0]]
