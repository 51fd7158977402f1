"""The admin API: Toxiproxy's routes, statuses and shapes over a collection of proxies, as a raw ASGI app.

Raw, because a server that is started alone should answer in a fraction of a second, and a dozen routes need no framework.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chaos.toxiproxy import body, meters
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.proxy import Proxy
from chaos.toxiproxy.server import VERSION, ProxyCollection

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
LARGEST_BODY = 16 * 1024 * 1024

Answer = tuple[int, str, str]
"""Status, content type, body."""
Handler = Callable[[list[str], bytes], Awaitable[Answer]]


def _json(value: Any, status: int = 200) -> Answer:
    return status, JSON, json.dumps(value)


def _error(error: ApiError) -> Answer:
    return error.status, TEXT, json.dumps({"error": error.message, "status": error.status}) + "\n"


class Admin:
    """The ASGI app.

    Like the real one it refuses what looks like a browser, so that a web page cannot change proxies behind one's back.
    """

    def __init__(self, collection: ProxyCollection) -> None:
        self._collection = collection
        proxy, toxic = ("proxies", "*"), ("proxies", "*", "toxics", "*")
        self._routes: Mapping[tuple[str, ...], Mapping[str, Handler]] = {
            ("version",): {"GET": self._version},
            ("metrics",): {"GET": self._metrics},
            ("reset",): {"POST": self._reset},
            ("populate",): {"POST": self._populate},
            ("proxies",): {"GET": self._proxies, "POST": self._create},
            proxy: {"GET": self._show, "POST": self._update, "PATCH": self._update, "DELETE": self._delete},
            (*proxy, "toxics"): {"GET": self._toxics, "POST": self._add_toxic},
            toxic: {
                "GET": self._show_toxic,
                "POST": self._update_toxic,
                "PATCH": self._update_toxic,
                "DELETE": self._remove_toxic,
            },
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, content_type, text = await self._answer(scope, receive)
        content = text.encode()
        headers = [(b"content-length", str(len(content)).encode())] if status != 204 else []
        if content:
            headers.append((b"content-type", content_type.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Any, receive: Any) -> Answer:
        parts = scope["path"].split("/")[1:]
        shape = tuple("*" if place in (1, 3) else part for place, part in enumerate(parts))
        methods = self._routes.get(shape)
        if methods is None or "" in parts:
            return 404, TEXT, "404 page not found\n"
        handler = methods.get(scope["method"])
        if handler is None:
            return 405, TEXT, ""
        if dict(scope["headers"]).get(b"user-agent", b"").startswith(b"Mozilla/"):
            return 403, TEXT, "User agent not allowed\n"
        try:
            return await handler(parts, await _read(receive))
        except ApiError as error:
            return _error(error)

    async def _version(self, parts: list[str], sent: bytes) -> Answer:
        return 200, "application/json;charset=utf-8", f'{{"version": "{VERSION}"}}\n'

    async def _metrics(self, parts: list[str], sent: bytes) -> Answer:
        return 200, meters.CONTENT_TYPE, self._collection.meters.exposition()

    async def _reset(self, parts: list[str], sent: bytes) -> Answer:
        await self._collection.reset()
        return 204, JSON, ""

    async def _populate(self, parts: list[str], sent: bytes) -> Answer:
        done: list[Proxy] = []
        refused: dict[str, Any] = {}
        status = 201
        try:
            await self._collection.populate(body.decode(sent), done)
        except ApiError as error:
            status, refused = error.status, {"error": error.message, "status": error.status}
        return _json({**refused, "proxies": [proxy.to_json() for proxy in done]}, status)

    async def _proxies(self, parts: list[str], sent: bytes) -> Answer:
        return _json({name: proxy.to_json() for name, proxy in sorted(self._collection.proxies.items())})

    async def _create(self, parts: list[str], sent: bytes) -> Answer:
        return _json((await self._collection.create(body.decode(sent))).to_json(), 201)

    async def _show(self, parts: list[str], sent: bytes) -> Answer:
        return _json(self._collection.get(parts[1]).to_json())

    async def _update(self, parts: list[str], sent: bytes) -> Answer:
        self._collection.get(parts[1])
        return _json((await self._collection.update(parts[1], body.decode(sent))).to_json())

    async def _delete(self, parts: list[str], sent: bytes) -> Answer:
        await self._collection.delete(parts[1])
        return 204, JSON, ""

    async def _toxics(self, parts: list[str], sent: bytes) -> Answer:
        return _json([toxic.to_json() for toxic in self._collection.get(parts[1]).toxics])

    async def _add_toxic(self, parts: list[str], sent: bytes) -> Answer:
        return _json(self._collection.get(parts[1]).add_toxic(body.decode(sent)).to_json())

    async def _show_toxic(self, parts: list[str], sent: bytes) -> Answer:
        return _json(self._collection.get(parts[1]).find(parts[3]).to_json())

    async def _update_toxic(self, parts: list[str], sent: bytes) -> Answer:
        proxy = self._collection.get(parts[1])
        proxy.find(parts[3])
        return _json(proxy.update_toxic(parts[3], body.decode(sent)).to_json())

    async def _remove_toxic(self, parts: list[str], sent: bytes) -> Answer:
        self._collection.get(parts[1]).remove_toxic(parts[3])
        return 204, JSON, ""


async def _read(receive: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > LARGEST_BODY:
            raise ApiError(400, f"bad request body: more than {LARGEST_BODY} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
