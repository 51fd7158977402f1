"""Faults of instances and of replicas: chosen, broken and healed in the same way in both worlds."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from chaos.aim import Aim, Named
from chaos.nemesis import Heal, Moot
from fakes.history import Event, History

HEALTHY = 60.0
"""Seconds that all replicas have to be healthy again after a fault of theirs."""

Done = tuple[str, float, Heal | None]
"""What was done, after how many seconds it heals, and how (see `chaos.nemesis.World`)."""


class Breakable(Named, Protocol):
    """An instance, as far as faults go. `ready` is set while it is up, `life` counts its starts from 1."""

    ready: asyncio.Event

    @property
    def life(self) -> int:
        """How often it was started."""
        ...

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        ...


B = TypeVar("B", bound=Breakable)


class Instances(Protocol[B]):
    """All instances of the coordinator, in order."""

    @property
    def all(self) -> Sequence[B]:
        """Every instance."""
        ...

    async def down(self, instance: B, *, graceful: bool) -> str:
        """Take one down on purpose; how it went, in a few words."""
        ...

    async def start_one(self, instance: B) -> None:
        """Start one again; returns when it is ready."""
        ...


class Replicas(Protocol):
    """The serving replicas, by their names."""

    @property
    def names(self) -> Sequence[str]:
        """All, in order."""
        ...

    @property
    def healthy(self) -> Sequence[Named]:
        """Those that are up."""
        ...

    async def kill(self, which: str, /) -> bool:
        """OOM-kill one; False when it was down already."""
        ...

    async def restart(self, which: str, /) -> None:
        """End one in good order and start it again; returns when it is up."""
        ...

    async def pause(self, which: str, seconds: float, /) -> None:
        """Have one stand still; returns when it goes on."""
        ...

    async def wait_healthy(self, count: int | None = None, timeout: float = 10.0) -> bool:
        """Wait until all (or `count`) are up; False when they are not within `timeout` seconds."""
        ...


class Parts(abc.ABC, Generic[B]):
    """The parts that every world has, and what can be done to them. A world adds its edges, its store and its own faults."""

    instances: Instances[B]
    serving: Replicas

    def __init__(self, history: History) -> None:
        self._aim = Aim(history)

    @abc.abstractmethod
    async def _pause(self, chosen: list[B], seconds: float) -> Done:
        """Have these instances stand still."""

    def _standing(self, args: Mapping[str, Any], cause: Event | None) -> list[B]:
        """The instances that are meant and can be broken. Raises Moot when there is none."""
        wanted = self._aim.pick(args["which"], cause, self.instances.all)
        chosen = [i for i in wanted if i.ready.is_set() and not i.paused]
        if not chosen:
            raise Moot("the instance is down or paused already")
        return chosen

    def _serving_now(self, args: Mapping[str, Any], cause: Event | None) -> list[str]:
        """The replicas that are meant and can be broken. Raises Moot when there is none."""
        wanted = self._aim.replicas(args["which"], cause, self.serving.names)
        up = {replica.name for replica in self.serving.healthy}
        chosen = [name for name in wanted if name in up]
        if not chosen:
            raise Moot(f"{', '.join(wanted)} is down already")
        return chosen

    async def _coordinator(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        """Kill, pause, restart or terminate instances."""
        chosen = self._standing(args, cause)
        if fault == "pause":
            return await self._pause(chosen, args["seconds"])
        seconds = args.get("seconds", 0.0)
        if fault == "kill":
            said = [await self.instances.down(i, graceful=False) for i in chosen]
            return ", ".join(said), seconds, self._start_again(chosen, [])
        # a graceful stop may wait for the very answer that this protocol point holds back: do not wait for it here
        loop = asyncio.get_running_loop()
        stops = [loop.create_task(self.instances.down(i, graceful=True)) for i in chosen]
        await asyncio.sleep(0)
        return f"graceful stop of {names(chosen)}", seconds, self._start_again(chosen, stops)

    def _start_again(self, chosen: list[B], stops: list[asyncio.Task[str]]) -> Heal:
        async def heal() -> str:
            said = await asyncio.gather(*stops)
            for instance in chosen:
                await self.instances.start_one(instance)
            return ", ".join([*said, *(f"{i.name} ready again, life {i.life}" for i in chosen)])

        return heal

    async def _replica(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        """OOM-kill, pause or restart replicas."""
        chosen = self._serving_now(args, cause)
        said = ", ".join(chosen)
        if fault == "kill":
            if not any([await self.serving.kill(name) for name in chosen]):
                raise Moot(f"{said} went down by itself")
            return f"{said} OOM-killed", 0.0, self._healthy(said, [])
        # the others take their time, and are not waited for at the protocol point
        if fault == "pause":
            work = [self.serving.pause(name, args["seconds"]) for name in chosen]
        else:
            work = [self.serving.restart(name) for name in chosen]
        tasks = [asyncio.get_running_loop().create_task(w) for w in work]
        await asyncio.sleep(0)
        return f"{fault} of {said}", args.get("seconds", 0.0), self._healthy(said, tasks)

    def _healthy(self, said: str, tasks: list[asyncio.Task[None]]) -> Heal:
        async def heal() -> str:
            await asyncio.gather(*tasks)
            if not await self.serving.wait_healthy(timeout=HEALTHY):
                raise OSError(f"after {said}: not every replica is healthy after {HEALTHY:g} s")
            return f"{said} healthy again"

        return heal


def names(things: Iterable[Named]) -> str:
    """Their names, for people."""
    return ", ".join(thing.name for thing in things)
