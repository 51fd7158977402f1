"""A chamber whose instances are containers, and in a compose project the replicas, the store and the fakes as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from chaos.containers.container import Container
from chaos.containers.engine import Engine
from chaos.containers.health import Health, trouble_of
from chaos.containers.layout import STATE, Layout
from chaos.containers.selection import address, name_of
from chaos.containers.serving import ContainerServing
from chaos.toxiproxy.client import Toxiproxy, ToxiproxyError
from chaos.wire.chamber import Chamber
from chaos.wire.edges import Edges
from chaos.wire.errors import WireError
from chaos.wire.instances import Unit
from chaos.wire.store import RedisStore, Store, watch
from fakes.llm.serving import Serving

T = TypeVar("T")

STOP_PATIENCE = 2.0
"""Seconds that an instance of an earlier run has to stop, before this one starts it afresh."""


def chamber(settings: Any, **more: Any) -> Chamber:
    """The chamber for these settings: of containers where they name some, of processes otherwise."""
    kind = ContainerChamber if settings.layout or settings.coordinator.containers else Chamber
    return kind(settings, **more)


def _first(count: int, found: Sequence[Any], labels: Sequence[str]) -> Sequence[Any]:
    """So many of them. Raises WireError where there are fewer."""
    if len(found) < count:
        raise WireError(
            f"{len(found)} containers have the label {' and '.join(labels)}, and {count} are asked for: start more, or ask for "
            "fewer with --instances"
        )
    return found[:count]


class ContainerChamber(Chamber):
    """The chamber of containers. In a `layout` all of them are its own; otherwise they are somebody's, and given back as found.

    Needs to be in the network of the containers, or to reach their published ports. Raises WireError as `Chamber` does, also
    when no engine answers or a container is not there.
    """

    _health: Health | None = None

    async def _start(self) -> None:
        await self.while_whole(super()._start())

    async def while_whole(self, work: Coroutine[Any, Any, T]) -> T:
        """As `Chamber.while_whole`; in a project an error also tells the last lines of every container that is not well."""
        try:
            return await super().while_whole(work)
        except (WireError, ToxiproxyError) as error:
            if self._health is None:
                raise
            raise WireError(await self._health.report(str(error))) from None

    async def _prepare(self) -> None:
        layout = self.settings.layout
        self.engine = Engine(self._part_lost)
        self._exit.push_async_callback(self.engine.aclose)
        if layout is None:
            given = self.settings.coordinator.containers
            labels = [word for word in given if "=" in word]
            chosen = await self.engine.find(names=() if labels else given, labels=labels)
            self._found: Sequence[Any] = _first(self.settings.instances, chosen, labels)
            for found in self._found:
                if found["State"]["Restarting"]:
                    raise WireError(f"container {trouble_of(found, self.engine)}")
            self._instances = [Container(name_of(f), self.engine, f, ours=False) for f in self._found]
            return
        self._health = Health(self.engine, layout, self._part_lost)
        await self._health.watch()
        self._found = await self._part("coordinator", self.settings.instances)
        self._instances = [Container(name_of(f), self.engine, f, ours=True) for f in self._found]
        # what an earlier run has left in their memory is not this run's
        await asyncio.gather(*(self._stopped(container) for container in self._instances))
        self._replicas = {
            name_of(f): (Container(name_of(f), self.engine, f, ours=True), f"http://{name_of(f)}:{layout.replica_port}")
            for f in await self._part("replica", self.settings.replicas)
        }

    async def _part(self, part: str, count: int) -> Sequence[Any]:
        assert self.settings.layout is not None
        labels = self.settings.layout.labels(part)
        return _first(count, await self.engine.find(labels=labels), labels)

    async def _stopped(self, container: Container) -> None:
        await self.engine.call(self.engine.api.stop, container.id, timeout=round(STOP_PATIENCE))

    def _serving(self, log: Callable[[str], None]) -> Serving:
        if self.settings.layout is None:
            return super()._serving(log)
        return ContainerServing(self.history, self.nemesis, self._replicas, self.http, log=log)

    def _edges(self, toxiproxy: Toxiproxy) -> Edges:
        if self.settings.layout is None:
            return super()._edges(toxiproxy)
        return Edges(toxiproxy, self._prefix, "0.0.0.0", Layout.TOXIPROXY)  # noqa: S104 - within the network of the project

    async def _store(self) -> Store:
        if self.settings.layout is None:
            return await super()._store()
        self.state = STATE
        (found,) = await self._part("store", 1)
        store = RedisStore(Layout.REDIS, self.edges, Container(name_of(found), self.engine, found, ours=True))
        await store.start()
        await store.empty()
        self._exit.push_async_callback(self._give_back, store)
        watching = asyncio.ensure_future(watch(store, self._part_lost))
        self._exit.callback(watching.cancel)
        return store

    async def _give_back(self, store: RedisStore) -> None:
        assert store.process is not None
        store.wanted = False
        await store.process.give_back(0)

    def _address(self, index: int, taken: set[int]) -> tuple[int, str]:
        upstream, port = address(
            self._found[index], self.settings.container_port, inside=self.settings.layout is not None
        )
        return port, upstream

    def _unit(self, index: int, name: str, environ: dict[str, str]) -> Unit | None:
        return self._instances[index]
