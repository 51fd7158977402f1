"""The proxies of one server, and every change that can be made to them; the admin API is a skin over this."""

from __future__ import annotations

import asyncio
from typing import Any

from chaos.toxiproxy import body
from chaos.toxiproxy.errors import ApiError, bad_body, missing
from chaos.toxiproxy.meters import Meters
from chaos.toxiproxy.proxy import Proxy, resolved

VERSION = "2.12.0"
"""The version of Toxiproxy whose interface this server has."""


class ProxyCollection:
    """All proxies by name. Usable in-process, without HTTP; changes are made one at a time.

    Args:
        seed: of the toxicity, jitter and slices of every proxy.
    """

    def __init__(self, seed: int) -> None:
        self.proxies: dict[str, Proxy] = {}
        self.meters = Meters()
        self._seed = seed
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ProxyCollection seed={self._seed} {sorted(self.proxies)}>"

    def get(self, name: str) -> Proxy:
        """The proxy of that name. Raises ApiError 404."""
        proxy = self.proxies.get(name)
        if proxy is None:
            raise ApiError(404, "proxy not found")
        return proxy

    async def create(self, value: Any) -> Proxy:
        """Make the proxy that a decoded body asks for.

        Raises:
            ApiError: 400 for a missing or wrong field, 409 for a name that is taken, 500 for an address that is.
        """
        proxy, enabled = self._make(value, "")
        async with self._changing:
            if proxy.name in self.proxies:
                raise ApiError(409, "proxy already exists")
            if enabled:
                await proxy.enable()
            self.proxies[proxy.name] = proxy
        return proxy

    async def update(self, name: str, value: Any) -> Proxy:
        """Change listen, upstream and enabled of a proxy; other fields are ignored. Raises ApiError 400, 404 or 500."""
        self.get(name)
        given = body.fields(value, "a proxy")
        async with self._changing:
            proxy = self.get(name)
            await proxy.move(
                body.text(given, "listen", proxy.listen),
                body.text(given, "upstream", proxy.upstream),
                body.flag(given, "enabled", proxy.enabled),
            )
        return proxy

    async def delete(self, name: str) -> None:
        """Close a proxy and forget it. Raises ApiError 404."""
        async with self._changing:
            await self.get(name).disable()
            del self.proxies[name]

    async def reset(self) -> None:
        """Enable every proxy and remove every toxic. Raises ApiError 500 when an address was taken meanwhile, at the end."""
        failed: ApiError | None = None
        async with self._changing:
            for proxy in list(self.proxies.values()):
                for toxic in proxy.toxics:
                    proxy.remove_toxic(toxic.name)
                try:
                    await proxy.enable()
                except ApiError as error:
                    failed = error
        if failed is not None:
            raise failed

    async def populate(self, value: Any, done: list[Proxy]) -> None:
        """Create or replace many proxies; one with the same listen and upstream stays as it is, toxics and all.

        Args:
            value: the decoded body, a list.
            done: gets the proxies in order, also those before one that fails.

        Raises:
            ApiError: 400 before anything was made, or 500 for an address that is taken.
        """
        if not isinstance(value, list):
            raise bad_body(f"a list of proxies was expected, not {body.kind(value)}")
        made = [self._make(one, f" at proxy {number}") for number, one in enumerate(value, 1)]
        async with self._changing:
            for proxy, enabled in made:
                done.append(await self._put(proxy, enabled))

    async def close(self) -> None:
        """Close every proxy."""
        async with self._changing:
            for proxy in self.proxies.values():
                await proxy.disable()
            self.proxies.clear()

    def _make(self, value: Any, where: str) -> tuple[Proxy, bool]:
        given = body.fields(value, "a proxy")
        name, upstream = body.text(given, "name", ""), body.text(given, "upstream", "")
        listen, enabled = body.text(given, "listen", ""), body.flag(given, "enabled", True)
        if not name:
            raise missing(f"name{where}")
        if not upstream:
            raise missing(f"upstream{where}")
        return Proxy(name, listen, upstream, self._seed, self.meters), enabled

    async def _put(self, proxy: Proxy, enabled: bool) -> Proxy:
        old = self.proxies.get(proxy.name)
        was_enabled = old is not None and old.enabled
        if old is not None:
            if str(await resolved(proxy.listen)) == old.listen and proxy.upstream == old.upstream:
                return old
            await old.disable()
        try:
            if enabled:
                await proxy.enable()
        except ApiError:
            if old is not None and was_enabled:
                await old.enable()
            raise
        self.proxies[proxy.name] = proxy
        return proxy
