"""One HTTP request at a time, with the two ways of failing kept apart.

Over real connections aiohttp carries it, for a seventh of the CPU of httpx's own; a transport of httpx that is handed in, as by
a simulation, is called directly. Cookies and redirects are not followed: they are of no use here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import httpx

_encode = json.JSONEncoder(separators=(",", ":")).encode
ADDRESSES = 1024
"""How many parsed addresses are remembered: most requests are polls, and parsing theirs takes longer than all else."""


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
    def date(self) -> float | None:
        """When the server sent it, by its own clock, in unix seconds; None when it does not say."""
        try:
            return parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return None

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
        transport: carries the requests; None carries them over real connections.
        secure: load the certificates that https:// needs, which takes a moment; without them https:// is refused.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, secure: bool = False) -> None:
        self._carrier = _over_connections(secure) if transport is None else _over(transport)

    async def request(
        self, method: str, url: str, *, timeout: float, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its answer; `timeout` is for connecting, and for each read. Raises NotSent or NoAnswer."""
        fields = dict(headers or {})
        content = None
        if data is not None:
            content = _encode(data).encode()
            fields["content-type"] = "application/json"
        return await self._carrier.carry(method, url, fields, content, timeout)

    async def aclose(self) -> None:
        """Give every connection back."""
        await self._carrier.aclose()


class Carrier(Protocol):
    """How requests get there."""

    async def carry(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: float) -> Answer:
        """Carry one request. Raises NotSent or NoAnswer."""
        ...

    async def aclose(self) -> None:
        """Give every connection back."""
        ...


def timed_out(error: NoAnswer) -> bool:
    """Whether the answer did not come in time, as opposed to a connection that broke."""
    return "Timeout" in str(error)


def _over_connections(secure: bool) -> Carrier:
    from coordinators.common.connections import Connections

    return Connections(secure)


def _over(transport: httpx.AsyncBaseTransport) -> Carrier:
    from coordinators.common.handed import Handed

    return Handed(transport)


def reason(error: Exception) -> str:
    """What an error says, with its name."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
