"""Posting callbacks on the wire, with aiohttp."""

from __future__ import annotations

from typing import Any

import aiohttp

KEEP_ALIVE = 2.0
"""Seconds that an idle connection is kept: less than the receivers' own limit, so that a post never meets a closing one."""


class CallbackPoster:
    """Posts JSON bodies. One attempt takes at most `timeout` seconds; redirects are not followed and no cookie is kept."""

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, body: dict[str, Any]) -> int:
        """Post once and return the HTTP status. Raises ConnectionError or TimeoutError when no answer came."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
            )
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionError(f"POST {url}: {error or type(error).__name__}") from error

    async def aclose(self) -> None:
        """Close every connection; safe to call twice, and a later post opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
