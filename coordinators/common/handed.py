"""HTTP over a transport of httpx that was handed in, as by a simulation."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import httpx

from coordinators.common.http import ADDRESSES, Answer, NoAnswer, NotSent, reason

_url = functools.lru_cache(maxsize=ADDRESSES)(httpx.URL)


class Handed:
    """Calls the transport directly: what a client of httpx does around it costs more than the request itself."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def carry(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: float) -> Answer:
        """Carry one request. Raises NotSent or NoAnswer."""
        limits = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
        request = httpx.Request(method, _url(url), headers=headers, content=content, extensions={"timeout": limits})
        try:
            response = await self._transport.handle_async_request(request)
            try:
                assert isinstance(response.stream, httpx.AsyncByteStream)
                body = b"".join([part async for part in response.stream])  # as it was sent: no encoding was asked for
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent(reason(error)) from None
        except httpx.TransportError as error:
            raise NoAnswer(reason(error)) from None
        return Answer(response.status_code, body, response.headers)

    async def aclose(self) -> None:
        """Give every connection back."""
        await self._transport.aclose()
