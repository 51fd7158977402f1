"""Serving an ASGI app with uvicorn inside a loop that already runs, on sockets that are already bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_SIZE = 65_536
"""Bytes of one read from a socket at most."""


class _Joined:
    """A transport whose writes of one turn of the loop leave as one, since a system call costs more than the rest of an answer.

    uvicorn writes the head and the body of an answer separately.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep the data until the loop comes round."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Write what was kept, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what was kept is lost."""
        self._parts.clear()
        self._transport.abort()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():  # uvloop would raise an error
                self._transport.write(data)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # asyncio reads up to 256 KiB at once, for which the C library maps fresh pages at every read: 20 us of system time
        if hasattr(transport, "max_size"):
            transport.max_size = READ_SIZE
        super().connection_made(_Joined(transport))  # type: ignore[arg-type]


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the command, not to one of its servers."""
        yield


def bind(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises OSError when the address is taken."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer in two writes takes 40 ms more
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    made.listen(2048)
    made.setblocking(False)
    return made


def port_of(listening: socket.socket) -> int:
    """The local port of a listening socket."""
    port: int = listening.getsockname()[1]
    return port


class Server:
    """One app on one or more sockets. `await start()` returns when it answers, `await stop()` when all is given back."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket]) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who sent a request is known from its port, never from a header
            server_header=False,
            backlog=2048,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._server = _Quiet(config)
        self._sockets = list(sockets)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve in a task of the running loop."""
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the server ended before it started")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Close every connection and socket; safe to call twice."""
        if self._task is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        task, self._task = self._task, None
        await asyncio.wait([task], timeout=5)
        for listening in self._sockets:
            listening.close()
