"""One proxy: its listener, its connections, and its toxics."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from chaos.toxiproxy import toxics
from chaos.toxiproxy.addresses import BACKLOG, Address, bound, listen, resolve
from chaos.toxiproxy.connection import Connection
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.meters import Meter, Meters
from chaos.toxiproxy.toxics import STREAMS, Toxic


class Proxy:
    """Listens at one address and passes what it gets to an upstream.

    Args:
        listen: "host:port" as it was asked for; the real one once enabled.
        seed: with the same seed, name, number of connection, direction and toxic, the dice fall the same.
    """

    def __init__(self, name: str, listen: str, upstream: str, seed: int, meters: Meters) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.connections: set[Connection] = set()
        self._toxics: dict[str, list[Toxic]] = {stream: [] for stream in STREAMS}
        self._seed = seed
        self._meters = meters
        self._metered: dict[str, Meter] = {}
        self._listener: asyncio.Server | None = None
        self._accepted = 0

    def __repr__(self) -> str:
        state = "enabled" if self.enabled else "disabled"
        return f"<Proxy {self.name} {self.listen} -> {self.upstream} {state}, {len(self.connections)} connections>"

    @property
    def enabled(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def toxics(self) -> list[Toxic]:
        """All toxics: upstream ones first, then downstream ones, each in the order in which they were added."""
        return [toxic for stream in STREAMS for toxic in self._toxics[stream]]

    def to_json(self) -> dict[str, Any]:
        """As the admin API shows it."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": [toxic.to_json() for toxic in self.toxics],
        }

    async def enable(self) -> None:
        """Listen; nothing happens when it does already. Raises ApiError 500 when the address cannot be had."""
        if self._listener is not None:
            return
        address = await resolved(self.listen)
        try:
            listening = listen(address)
        except OSError as error:
            raise ApiError(500, f"listen tcp {self.listen}: {error.strerror or error}") from None
        self.listen = str(bound(listening))
        self._metered = {stream: self._meters.meter(stream, self.name, self.listen, self.upstream) for stream in STREAMS}
        self._listener = await asyncio.get_running_loop().create_server(self._accept, sock=listening, backlog=BACKLOG)

    async def disable(self) -> None:
        """Close the listener and every connection; returns when they are closed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for _ in range(100):  # accepted sockets become connections in the next rounds of the loop
            for connection in list(self.connections):
                connection.abort()
            await asyncio.sleep(0)
            if not self.connections:
                break

    async def move(self, listen: str, upstream: str, enabled: bool) -> None:
        """Take another address, upstream or state. A change of an address closes every connection.

        Raises:
            ApiError: 500 when the new address cannot be had; the proxy is then again what it was, without its connections.
        """
        wanted = await resolved(listen)
        before = self.listen, self.upstream, self.enabled
        if str(wanted) != self.listen or upstream != self.upstream:
            await self.disable()
            self.listen, self.upstream = listen, upstream
        if not enabled:
            await self.disable()
            return
        try:
            await self.enable()
        except ApiError:
            self.listen, self.upstream, was_enabled = before
            if was_enabled:
                await self.enable()
            raise

    def find(self, name: str) -> Toxic:
        """The toxic of that name. Raises ApiError 404."""
        for toxic in self.toxics:
            if toxic.name == name:
                return toxic
        raise ApiError(404, "toxic not found")

    def add_toxic(self, value: Any) -> Toxic:
        """Add the toxic that a decoded body asks for, to live connections too. Raises ApiError 400 or 409."""
        toxic = toxics.parse(value, lambda name: any(one.name == name for one in self.toxics))
        self._toxics[toxic.stream].append(toxic)
        for connection in list(self.connections):
            connection.links[toxic.stream].add(toxic)
        return toxic

    def update_toxic(self, name: str, value: Any) -> Toxic:
        """Change a toxic's attributes and toxicity, on live connections too. Raises ApiError 404 or 400."""
        toxic = self.find(name)
        toxics.change(toxic, value)
        for connection in list(self.connections):
            connection.links[toxic.stream].update(toxic)
        return toxic

    def remove_toxic(self, name: str) -> None:
        """Take a toxic away, from live connections too; what it held goes on at once. Raises ApiError 404."""
        toxic = self.find(name)
        self._toxics[toxic.stream].remove(toxic)
        for connection in list(self.connections):
            connection.links[toxic.stream].remove(toxic)

    def _accept(self) -> asyncio.Protocol:
        number, self._accepted = self._accepted, self._accepted + 1
        connection = Connection(
            asyncio.get_running_loop(),
            self.upstream,
            self._metered,
            self._toxics,
            lambda stream, toxic: random.Random(f"{self._seed}/{self.name}/{number}/{stream}/{toxic}"),
            self.connections.discard,
        )
        self.connections.add(connection)
        return connection.client


async def resolved(listen: str) -> Address:
    """Where `listen` is. Raises ApiError 500 when that is no address."""
    try:
        return await resolve(listen)
    except (ValueError, OSError) as error:
        raise ApiError(500, f"listen tcp: {error}") from None
