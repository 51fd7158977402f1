"""Asking the LLM serving for a generation, as the fake Assistants API does: over HTTP, with bounded retries."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp


class GenerateError(RuntimeError):
    """No generation could be had; `status` is the last HTTP status, None when the last attempt got no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class HttpGenerate:
    """`await generate(body)` posts a chat.completion request and returns the answer's JSON.

    Connection failures, silence and 5xx answers are tried again, so the same generation may be done twice; 4xx are not.

    Args:
        url: of the router, or of a proxy before it, without a path.
        timeout: seconds for one attempt.
        attempts: how often in all, at least 1.
        backoff: seconds before the second attempt; doubled for each further one, at most 1 s.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, attempts: int = 5, backoff: float = 0.1) -> None:
        if attempts < 1:
            raise ValueError(f"attempts={attempts} must be at least 1")
        self._url = url.rstrip("/") + "/v1/chat/completions"
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._attempts = attempts
        self._backoff = backoff
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Generate. Raises GenerateError after a 4xx at once, otherwise when every attempt failed."""
        error = GenerateError("not tried")
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(min(1.0, self._backoff * 2 ** (attempt - 1)))
            try:
                return await self._once(body)
            except GenerateError as failed:
                error = failed
                if failed.status is not None and failed.status < 500:
                    break
            except (aiohttp.ClientError, TimeoutError, OSError) as failed:
                error = GenerateError(f"POST {self._url}: {type(failed).__name__} {failed}".rstrip())
        raise error

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _once(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=self._timeout)
        async with self._session.post(self._url, json=body) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise GenerateError(f"POST {self._url}: HTTP {answer.status}: {text[:200]}", answer.status)
            try:
                data = await answer.json(content_type=None)
            except ValueError:
                data = None
            if not isinstance(data, dict) or not data.get("choices"):
                raise GenerateError(f"POST {self._url}: HTTP 200, but no chat.completion: {text[:200]}", 502)
            return data
