"""HTTP over real connections: those of aiohttp."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping

import aiohttp
import yarl

from coordinators.common.http import ADDRESSES, Answer, NoAnswer, NotSent, reason

KEEP = 30.0
"""Seconds that a connection may be idle before it is closed."""
_url = functools.lru_cache(maxsize=ADDRESSES)(functools.partial(yarl.URL, encoded=True))


class Connections:
    """Carries requests over connections that are kept. Only a GET is sent again where such a one was closed."""

    def __init__(self, secure: bool) -> None:
        self._secure = secure
        self._session: aiohttp.ClientSession | None = None

    async def carry(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: float) -> Answer:
        """Carry one request. Raises NotSent or NoAnswer."""
        if self._session is None:
            self._session = self._opened()
        try:
            async with self._session.request(
                method, _url(url), headers=headers, data=content, timeout=_limits(timeout), allow_redirects=False
            ) as response:
                return Answer(response.status, await response.read(), response.headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(reason(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(reason(error)) from None

    async def aclose(self) -> None:
        """Give every connection back."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        trust = ssl.create_default_context() if self._secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=trust, keepalive_timeout=KEEP), cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False, skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )


@functools.lru_cache(maxsize=16)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds, sock_connect=seconds, sock_read=seconds)
