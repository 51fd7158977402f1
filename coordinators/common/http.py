"""One HTTP request at a time, over a transport that is handed in, with the two ways of failing kept apart.

The transport is called directly: cookies, redirects and authentication flows of a full client are not needed, and
cost more than the request itself.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

_encode = json.JSONEncoder(separators=(",", ":")).encode
_url = functools.lru_cache(maxsize=1024)(httpx.URL)
"""Most requests are polls, and parsing their address takes longer than all else about them."""


class NoAnswer(Exception):
    """No answer came. The request may have arrived, and may have had its effect."""


class NotSent(NoAnswer):
    """No answer came, and the request certainly never left: there was no connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The JSON object of the body, {} when it holds none."""
        try:
            data = json.loads(self.body)
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object of the body, {} when there is none."""
        error = self.json().get("error")
        return error if isinstance(error, dict) else {}

    @property
    def message(self) -> str:
        """What the error says, for people."""
        data = self.json().get("error")
        text = data.get("message") if isinstance(data, dict) else data
        return str(text) if text else self.body[:200].decode("utf-8", "replace")


class Http:
    """Requests with JSON bodies.

    Args:
        transport: carries the requests; None makes one over real connections.
        secure: load the certificates that https:// needs, which takes a moment; without them https:// is refused.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, secure: bool = False) -> None:
        self._transport = transport or httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30),
        )

    async def request(
        self, method: str, url: str, *, timeout: float, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its answer. Raises NotSent or NoAnswer."""
        fields = dict(headers or {})
        content = None
        if data is not None:
            content = _encode(data).encode()
            fields["content-type"] = "application/json"
        limits = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
        request = httpx.Request(method, _url(url), headers=fields, content=content, extensions={"timeout": limits})
        try:
            response = await self._transport.handle_async_request(request)
            try:
                assert isinstance(response.stream, httpx.AsyncByteStream)
                body = b"".join([part async for part in response.stream])  # as it was sent: no encoding was asked for
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent(_reason(error)) from None
        except httpx.TransportError as error:
            raise NoAnswer(_reason(error)) from None
        return Answer(response.status_code, body, response.headers)

    async def aclose(self) -> None:
        """Give every connection back."""
        await self._transport.aclose()


def timed_out(error: NoAnswer) -> bool:
    """Whether the answer did not come in time, as opposed to a connection that broke."""
    return "Timeout" in str(error)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
