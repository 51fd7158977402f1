"""The coordinator protocol over ASGI: five routes, JSON in and out, no framework (an instance starts often)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote

from coordinators.common.stores import StoreUnavailable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Reply = tuple[int, dict[str, Any]]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class BadRequest(ValueError):
    """The body is not what the route takes; the message says what was seen and expected."""


class Service(Protocol):
    """What a coordinator does behind the protocol. Any method may raise StoreUnavailable, which answers 503."""

    async def start(self) -> None:
        """Begin work in the running loop."""
        ...

    async def stop(self) -> None:
        """Stop taking work, let what is in flight finish briefly, give everything back. Safe to call twice."""
        ...

    def healthz(self) -> Reply:
        """200 with the capabilities when ready."""
        ...

    async def post_turn(self, body: dict[str, Any]) -> Reply:
        """Take a turn, delivered at least once."""
        ...

    async def get_turn(self, turn_id: str) -> Reply:
        """The state of a turn."""
        ...

    async def post_tool_result(self, body: dict[str, Any]) -> Reply:
        """Take a result of the gateway, posted at least once."""
        ...

    async def in_doubt(self) -> Reply:
        """The calls that could not be decided."""
        ...


class App:
    """The ASGI application of one instance. Its lifespan starts and stops the service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            status, data = await self._answer(scope, receive)
            body = _encode(data).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        try:
            return await self._route(scope["method"], scope["path"], receive)
        except BadRequest as error:
            return _error(400, str(error))
        except StoreUnavailable as error:
            return _error(503, f"the shared store is unavailable: {error}")

    async def _route(self, method: str, path: str, receive: Receive) -> Reply:
        if path == "/healthz" and method == "GET":
            return self.service.healthz()
        if path == "/turns" and method == "POST":
            return await self.service.post_turn(await _json(receive))
        if path.startswith("/turns/") and method == "GET":
            return await self.service.get_turn(unquote(path.removeprefix("/turns/")))
        if path == "/tool-results" and method == "POST":
            return await self.service.post_tool_result(await _json(receive))
        if path == "/in-doubt" and method == "GET":
            return await self.service.in_doubt()
        return _error(404, f"{method} {path}: no such route")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.service.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.service.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def text_field(body: dict[str, Any], name: str) -> str:
    """A field that must be there as text. Raises BadRequest."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be a text that is not empty, got {value!r}")
    return value


async def _json(receive: Receive) -> dict[str, Any]:
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the request ended before its body was complete")
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    try:
        data = json.loads(b"".join(chunks))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest(f"the body must be a JSON object, not {type(data).__name__}")
    return data


def _error(status: int, message: str) -> Reply:
    return status, {"error": {"message": message}}
