"""The edges: every connection between a coordinator, its backends and the serving layer goes through a proxy of its own.

Each instance has its own proxies, so that a fault can hit the sender alone, and each proxy ends at a port of its own on the
fake, so that the fake knows who sent a request without trusting any header.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from chaos.nemesis import Heal, Moot
from chaos.toxiproxy.client import NotFound, Toxiproxy, ToxiproxyError


class Edges:
    """The proxies of one run, on the embedded server or on a real one; on the latter only our own are ever touched."""

    def __init__(self, toxiproxy: Toxiproxy, prefix: str, host: str = "127.0.0.1", known_as: str | None = None) -> None:
        self._toxiproxy = toxiproxy
        self._host = host
        self._known_as = known_as or host
        self._prefix = prefix
        self._names: dict[tuple[str, str | None], str] = {}
        self._toxics = 0
        self._down: Counter[str] = Counter()
        self._switching = asyncio.Lock()  # a switch takes a round trip, and two are not to pass each other

    async def open(self, edge: str, instance: str | None, upstream: str, port: int = 0) -> str:
        """A proxy in front of `upstream` (host:port) for one instance, or for all; host:port where it is reached.

        Port 0 takes a free one.
        """
        name = f"{self._prefix}-{edge}" + (f"-{instance}" if instance else "")
        made = await self._toxiproxy.create(name, upstream, f"{self._host}:{port}")
        self._names[edge, instance] = name
        return f"{self._known_as}:{made.port}"

    async def close(self) -> None:
        """Remove every proxy of this run."""
        await asyncio.gather(*map(self._remove, self._names.values()))  # a server that hangs is waited for once
        self._names.clear()

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(ToxiproxyError):
            await self._toxiproxy.delete(name)

    def chosen(self, edge: str, instance: str | None) -> list[str]:
        """Names of the proxies of an edge, those of one instance where one is given. Raises Moot where there are none."""
        names = [
            name for (e, owner), name in self._names.items() if e == edge and (instance is None or owner in (None, instance))
        ]
        if not names:
            raise Moot(f"this run has no proxy on the edge {edge}")
        return names

    async def toxic(self, args: Mapping[str, Any], instance: str | None) -> tuple[str, float, Heal]:
        """Put a toxic on an edge (of one instance, or of all)."""
        names = self.chosen(args["proxy"], instance)
        self._toxics += 1
        toxic = f"{args['type']}-{self._toxics}"
        for name in names:
            await self._toxiproxy.add_toxic(
                name, args["type"], dict(args["attributes"]), stream=args["stream"], toxicity=args["toxicity"], name=toxic
            )

        async def heal() -> str:
            for name in names:
                with contextlib.suppress(NotFound):
                    await self._toxiproxy.remove_toxic(name, toxic)
            for name in names:
                if any(t.name == toxic for t in await self._toxiproxy.toxics(name)):
                    raise ToxiproxyError(f"toxic {toxic} is still on proxy {name}")
            return f"{toxic} removed from {', '.join(names)}"

        return f"{toxic} {args['stream']} on {', '.join(names)}", args["seconds"], heal

    async def down(self, args: Mapping[str, Any], instance: str | None) -> tuple[str, float, Heal]:
        """Take the proxies of an edge down: connections are refused and dropped. Where two outages overlap, the last heals."""
        names = self.chosen(args["proxy"], instance)
        async with self._switching:
            self._down.update(names)
            for name in names:
                await self._toxiproxy.disable(name)

        async def heal() -> str:
            async with self._switching:
                self._down.subtract(names)
                over = [name for name in names if not self._down[name]]
                for name in over:
                    await self._toxiproxy.enable(name)
                proxies = await self._toxiproxy.proxies()
            dead = [name for name in over if not proxies[name].enabled]
            if dead:
                raise ToxiproxyError(f"still disabled: {', '.join(dead)}")
            return f"{', '.join(over)} up again" if over else "another outage goes on"

        return f"{', '.join(names)} down", args["seconds"], heal
