"""The thin skin: FastAPI in front of an endpoint. No logic of a fake lives here.

Hot operations are answered before FastAPI's routing and middleware (about twice the requests per CPU-second), and only they
can answer with a stream; every operation is also a FastAPI route, so that /docs and /openapi.json tell the whole interface.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fakes.encoding import encode
from fakes.exchange import Cut, Endpoint, Operation, Reply, Request, Router, Stream, json_object
from fakes.history import History, to_json

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
ADMIN_EVENTS = 10_000


class Loadable(Protocol):
    """A nemesis whose rules can be replaced while it runs."""

    def load(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Take a fault plan as data; returns what is now in force. Raises ValueError for a plan that is wrong."""
        ...


class _Skin(FastAPI):
    """FastAPI, but requests for hot operations never reach it."""

    def __init__(self, hot: Router, serve: ASGIApp, **settings: Any) -> None:
        super().__init__(**settings)
        self._hot = hot
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not isinstance(self._hot.find(scope["method"], scope["path"]), int):
            await self._serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def skin(
    endpoint: Endpoint,
    *,
    title: str,
    history: History,
    token: str,
    instance_of: Callable[[int], str | None] = lambda port: None,
    loadable: Loadable | None = None,
    reset: Callable[[], None] | None = None,
) -> FastAPI:
    """The ASGI app of one fake.

    Args:
        instance_of: which coordinator instance talks to the local port that a request came in at.
        token: guards everything under /admin; sent as `Authorization: Bearer TOKEN`.
        loadable: takes fault plans at POST /admin/faults.
        reset: forgets the fake's state at POST /admin/reset.
    """

    async def ask(scope: Scope, receive: Receive) -> Reply | None:
        """The endpoint's answer, None when the connection ended without one."""
        body = b"" if scope["method"] == "GET" else await _body(receive)
        if body is None:  # the client went away in the middle of its request: nothing arrived
            return None
        request = Request(
            method=scope["method"],
            path=scope["path"],
            query=QueryParams(scope["query_string"]) if scope["query_string"] else {},
            headers=Headers(scope=scope),
            body=body,
            instance=instance_of(scope["server"][1]),
        )
        try:
            return await endpoint.handle(request)
        except Cut:
            await _cut(receive)
            return None

    async def serve(http: HttpRequest) -> Response:
        reply = await ask(http.scope, http.receive)
        return _response(reply) if reply is not None else Response(status_code=500)  # goes nowhere: nobody is connected

    async def serve_hot(scope: Scope, receive: Receive, send: Send) -> None:
        reply = await ask(scope, receive)
        if reply is not None:
            await _send(reply, receive, send)

    app = _Skin(
        Router([operation for operation in endpoint.operations if operation.hot]),
        serve_hot,
        title=title,
        description="A fake backend of the anechoic chaos and contract test harness.",
    )

    def admin(http: HttpRequest) -> Response | None:
        given = http.headers.get("authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        return _error(401, "this is the admin interface: send Authorization: Bearer TOKEN with the token of this run")

    async def events(http: HttpRequest) -> Response:
        """The events after number `after`, as JSON Lines, at most 10,000 at a time."""
        if refused := admin(http):
            return refused
        text = http.query_params.get("after", "0")
        if not re.fullmatch("[0-9]{1,18}", text):
            return _error(400, f"after={text[:80]!r} must be a whole number, the seq of the last event seen")
        if not history.keeps:
            return _error(404, "this run keeps no events in memory: they are in its history.jsonl")
        chosen = history.events[int(text) : int(text) + ADMIN_EVENTS]
        return Response(b"".join(encode(to_json(e)) + b"\n" for e in chosen), media_type="application/x-ndjson")

    async def faults(http: HttpRequest) -> Response:
        """Replace the fault plan in force."""
        if refused := admin(http):
            return refused
        if loadable is None:
            return _error(404, "this fake was started without a nemesis: no faults can be loaded")
        try:
            loaded = loadable.load(json_object(await http.body()))
        except ValueError as error:
            return _error(400, str(error))
        return _response(Reply.json(loaded))

    async def forget(http: HttpRequest) -> Response:
        """Forget all state of this fake; its history stays."""
        if refused := admin(http):
            return refused
        if reset is None:
            return _error(404, "this fake cannot be reset")
        reset()
        return _response(Reply.json({"reset": True}))

    async def health(http: HttpRequest) -> Response:
        """Whether the fake is up."""
        return _response(Reply.json({"status": "ok"}))

    for operation in endpoint.operations:
        app.add_api_route(
            operation.path,
            _named(serve, operation),
            methods=[operation.method],
            summary=operation.summary,
            response_model=None,
            openapi_extra=_described(operation),
        )
    for path, handler, method in (
        ("/admin/events", events, "GET"),
        ("/admin/faults", faults, "POST"),
        ("/admin/reset", forget, "POST"),
        ("/health", health, "GET"),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)
    app.router.routes.append(Route("/{path:path}", serve, methods=METHODS))
    return app


def _named(serve: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    async def handler(http: HttpRequest) -> Response:
        response: Response = await serve(http)
        return response

    handler.__name__ = operation.summary.lower().replace(" ", "_").replace("'", "")
    return handler


def _described(operation: Operation) -> dict[str, Any]:
    """What OpenAPI says about the request of an operation: its path's parameters, and whether it takes a JSON object."""
    described: dict[str, Any] = {
        "parameters": [
            {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
            for segment in operation.path.split("/")
            if segment.startswith("{")
        ]
    }
    if operation.method in ("POST", "PUT", "PATCH"):
        described["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return described


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)


def _error(status: int, message: str) -> Response:
    return _response(Reply.json({"error": {"message": message, "type": "invalid_request_error"}}, status))


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None when the client went away before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(reply: Reply, receive: Receive, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    kind = f"{reply.media_type}; charset=utf-8" if reply.media_type.startswith("text/") else reply.media_type
    headers.append((b"content-type", kind.encode("latin-1")))
    if reply.stream is None:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.stream is None:
        await send({"type": "http.response.body", "body": reply.body})
    else:
        await _send_pieces(reply.stream, receive, send)


async def _send_pieces(stream: Stream, receive: Receive, send: Send) -> None:
    """Send a stream, and let it know when the client goes away. Nothing is cancelled: a fault may be under way in it."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.leave()

    listening = asyncio.create_task(listen())
    try:
        async for piece in stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except Cut:
        await asyncio.sleep(0)  # the last piece leaves
        await _cut(receive)
    finally:
        listening.cancel()


async def _cut(receive: Receive) -> None:
    """End the connection without (the rest of) an answer: uvicorn's cycle owns `receive`, and holds the transport."""
    transport: asyncio.Transport = receive.__self__.transport  # type: ignore[attr-defined]
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # connection_lost was called by now: uvicorn will not try to answer
