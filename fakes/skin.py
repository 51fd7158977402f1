"""The thin skin: FastAPI in front of an endpoint. No logic of a fake lives here.

Hot operations are plain Starlette routes (about twice the requests per CPU-second of a typed FastAPI route); every
operation is also a FastAPI route, so that /docs and /openapi.json tell the whole interface.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from fakes.exchange import Cut, Endpoint, Operation, Reply, Request
from fakes.history import History, encode, to_json

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
ADMIN_EVENTS = 10_000


class Loadable(Protocol):
    """A nemesis whose rules can be replaced while it runs."""

    def load(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Take a fault plan as data; returns what is now in force. Raises ValueError for a plan that is wrong."""
        ...


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
    app = FastAPI(title=title, description="A fake backend of the anechoic chaos and contract test harness.")

    async def serve(http: HttpRequest) -> Response:
        scope = http.scope
        request = Request(
            method=scope["method"],
            path=scope["path"],
            query=http.query_params if scope["query_string"] else {},
            headers=http.headers,
            body=b"" if scope["method"] == "GET" else await http.body(),
            instance=instance_of(scope["server"][1]),
        )
        try:
            reply = await endpoint.handle(request)
        except Cut:
            await _cut(http)
            return Response(status_code=500)  # goes nowhere: the connection is gone
        return _response(reply)

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
        if not text.isdigit():
            return _error(400, f"after={text!r} must be a whole number, the seq of the last event seen")
        chosen = history.events[int(text) : int(text) + ADMIN_EVENTS]
        return Response("".join(encode(to_json(e)) + "\n" for e in chosen), media_type="application/x-ndjson")

    async def faults(http: HttpRequest) -> Response:
        """Replace the fault plan in force."""
        if refused := admin(http):
            return refused
        if loadable is None:
            return _error(404, "this fake was started without a nemesis: no faults can be loaded")
        try:
            plan = json.loads(await http.body())
            if not isinstance(plan, dict):
                raise ValueError(f"a fault plan is a JSON object, not {type(plan).__name__}")
            loaded = loadable.load(plan)
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
        if operation.hot:
            app.router.routes.append(Route(operation.path, serve, methods=[operation.method]))
    for operation in endpoint.operations:
        app.add_api_route(
            operation.path, _named(serve, operation), methods=[operation.method], summary=operation.summary, response_model=None
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


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)


def _error(status: int, message: str) -> Response:
    return _response(Reply.json({"error": {"message": message, "type": "invalid_request_error"}}, status))


async def _cut(http: HttpRequest) -> None:
    """End the connection without an answer: uvicorn's cycle is the owner of `receive`, and holds the transport."""
    transport: asyncio.Transport = http.receive.__self__.transport  # type: ignore[attr-defined]
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # connection_lost was called by now: uvicorn will not try to answer
