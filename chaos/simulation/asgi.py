"""Calling an ASGI app without a server: one request in, one reply out, and its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fakes.exchange import Reply, Request

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


async def call(app: App, request: Request, port: int) -> Reply:
    """What the app answers. An app that raises, or does not answer, answers 500, as under a server."""
    parts: list[bytes] = []
    status = 500
    headers: dict[str, str] = {}
    asked = False
    gone: asyncio.Future[None] | None = None

    async def receive() -> Message:
        nonlocal asked, gone
        if not asked:
            asked = True
            return {"type": "http.request", "body": request.body, "more_body": False}
        if gone is None:
            gone = asyncio.get_running_loop().create_future()
        await gone
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message.get("headers", ())}
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    try:
        await app(_scope(request, port), receive, send)
    except Exception as error:
        return Reply(500, f"{type(error).__name__}: {error}".encode(), media_type="text/plain")
    finally:
        if gone is not None and not gone.done():
            gone.set_result(None)
    return Reply(status, b"".join(parts), headers, headers.get("content-type", "application/json"))


def _scope(request: Request, port: int) -> Message:
    headers = [(b"host", b"127.0.0.1:%d" % port), (b"content-length", b"%d" % len(request.body))]
    if request.body:
        headers.append((b"content-type", b"application/json"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 20_000),
        "server": ("127.0.0.1", port),
        "state": {},
    }


class Lifespan:
    """The lifespan of an app: `start` and `stop` it. An app without one is fine."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the app has started. Raises RuntimeError with its own words when it says that it cannot."""
        self._task = asyncio.create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "the app says that its startup failed")

    async def stop(self) -> None:
        """Returns when the app has shut down."""
        if self._task is not None and not self._task.done():
            await self._ask("lifespan.shutdown")

    async def _ask(self, kind: str) -> Message:
        await self._to_app.put({"type": kind})
        return await self._from_app.get()

    async def _run(self) -> None:
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        with contextlib.suppress(Exception):  # an app that knows no lifespan
            await self._app(scope, self._to_app.get, self._from_app.put)
        await self._from_app.put({"type": "lifespan.none"})
