"""The driver's way to instances on the wire: straight to their ports, past every proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aiohttp

from chaos.turns import Turn
from chaos.wire.instances import Instance, Instances


class HttpDoor:
    """Delivers turns over HTTP."""

    def __init__(self, instances: Instances, http: aiohttp.ClientSession) -> None:
        self._instances = instances
        self._http = http

    @property
    def all(self) -> Sequence[Instance]:
        """Every instance, in order."""
        return self._instances.all

    async def deliver(self, instance: Instance, turn: Turn) -> tuple[int | None, str | None]:
        """POST /turns, ten seconds at most."""
        try:
            async with self._http.post(
                f"{instance.url}/turns", json=turn.body(), timeout=aiohttp.ClientTimeout(total=10)
            ) as answer:
                body = await answer.read()
                return answer.status, body[:200].decode(errors="replace") if answer.status >= 300 else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, f"{type(error).__name__}: {error}"

    async def status(self, instance: Instance, turn_id: str) -> tuple[int | None, Mapping[str, object]]:
        """GET /turns/{turn_id}, five seconds at most."""
        try:
            async with self._http.get(
                f"{instance.url}/turns/{turn_id}", timeout=aiohttp.ClientTimeout(total=5)
            ) as answer:
                data = await answer.json(content_type=None)
                return answer.status, data if isinstance(data, dict) else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None, {}
