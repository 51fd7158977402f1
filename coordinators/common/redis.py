"""The shared store as a server: Redis, asked by single commands and by scripts, each of which is atomic and one round trip."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from coordinators.common.stores import Address, StoreUnavailable, StoreUnsupported

try:
    from redis import exceptions
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError:
    raise StoreUnsupported(
        "STORE_URL names a Redis, and the Python package redis is not installed. Install it: pip install 'anechoic[redis]'"
    ) from None

TIMEOUT = 0.5
"""Seconds until a command without an answer is given up, the time to connect included."""
REFUSALS = ("NOREPLICAS", "MISCONF", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "OOM")
"""Errors by which a server says that it does not work now; any other one is a mistake in what was asked."""

CLOSED = "the handler is closed"
"""What uvloop says, in a RuntimeError, when something is written to a connection that has just been closed."""

Words = str | int | float


class RedisClient:
    """A pool of connections to one server.

    No command is repeated by itself: a command without an answer may have been carried out, and whoever asks knows what to do
    about that.

    Args:
        scripts: Lua by name. KEYS[1] is the prefix of all keys: the server is one, not a cluster.
    """

    def __init__(self, address: Address, scripts: Mapping[str, str], *, timeout: float = TIMEOUT) -> None:
        self.prefix = address.prefix
        self._timeout = timeout
        self._scripts = {name: (hashlib.sha1(body.encode()).hexdigest(), body) for name, body in scripts.items()}  # noqa: S324
        try:
            self._redis = Redis.from_url(
                address.url, decode_responses=True, protocol=2, socket_timeout=timeout, socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError) as error:
            raise StoreUnsupported(f"STORE_URL={address.url!r} is no address of a Redis: {error}") from None
        self.healthy = True
        """False from a failure until the next change that succeeds"""

    async def read(self, *words: Words) -> Any:
        """One command that changes nothing. Raises StoreUnavailable."""
        return await self._ask(*words)

    async def write(self, *words: Words) -> Any:
        """One command that changes something. Raises StoreUnavailable."""
        answer = await self._ask(*words)
        self.healthy = True
        return answer

    async def run(self, name: str, *arguments: Words) -> Any:
        """One script, in one round trip; two when the server has not seen it yet. Raises StoreUnavailable."""
        sha, body = self._scripts[name]
        try:
            answer = await self._ask("EVALSHA", sha, 1, self.prefix, *arguments)
        except exceptions.NoScriptError:
            answer = await self._ask("EVAL", body, 1, self.prefix, *arguments)
        self.healthy = True
        return answer

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def _ask(self, *words: Words) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:  # TimeoutError is an OSError
            reason = str(error) or f"no answer within {self._timeout:g} s"
        except RuntimeError as error:
            reason = str(error)
            if CLOSED not in reason:
                raise
        except exceptions.NoScriptError:
            raise
        except exceptions.ResponseError as error:
            reason = str(error)
            if not (isinstance(error, exceptions.ReadOnlyError | exceptions.OutOfMemoryError) or reason.startswith(REFUSALS)):
                raise
        self.healthy = False
        raise StoreUnavailable(reason) from None


def pairs(flat: list[str]) -> dict[str, str]:
    """The hash in a script's answer, where it is a list of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
