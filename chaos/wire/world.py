"""What the nemesis can break on the wire: processes, edges, the store, delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.aim import Aim
from chaos.driver import Deliveries
from chaos.nemesis import Heal, Moot
from chaos.vocabulary import SIMULATION_ONLY
from chaos.wire.edges import Edges
from chaos.wire.instances import Instance, Instances, Unit
from chaos.wire.store import RedisStore, Store
from fakes.history import Event, History
from fakes.llm.serving import Serving

HEALTHY = 60.0
"""Seconds that all replicas have to be healthy again after a fault of theirs."""

Done = tuple[str, float, Heal | None]


class WireWorld:
    """Carries out the faults of `chaos.vocabulary.WORLD_FAULTS` on a running chamber, whose parts are set as they start."""

    edges: Edges
    instances: Instances
    serving: Serving
    store: Store
    driver: Deliveries

    def __init__(self, history: History) -> None:
        self._aim = Aim(history)

    async def carry_out(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        """Do it now (see `chaos.nemesis.World`)."""
        if fault in SIMULATION_ONLY:
            raise OSError(f"{fault} has no meaning on the wire; run this plan in the simulation")
        if fault == "toxic":
            return await self.edges.toxic(args, self._aim.owner(args["which"], cause, self.instances.all))
        if fault == "proxy_down":
            return await self.edges.down(args, self._aim.owner(args["which"], cause, self.instances.all))
        if fault == "store_outage":
            return await self.store.outage(args["seconds"])
        if fault == "resend_turn":
            return self.driver.resend(cause.conversation if cause else None, args["to"], args["after"]), 0.0, None
        if args["target"] == "replica":
            return await self._replica(fault, args, cause)
        if args["target"] == "store":
            return await self._store(fault, args)
        return await self._coordinator(fault, args, cause)

    async def _coordinator(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        wanted = self._aim.pick(args["which"], cause, self.instances.all)
        chosen = [i for i in wanted if i.ready.is_set() and not (i.process and i.process.paused)]
        if not chosen:
            raise Moot("the instance is down or paused already")
        if fault == "pause":
            return await self._pause(chosen, args["seconds"])
        if fault == "disconnect":
            return await self._disconnect([i.process for i in chosen if i.process is not None], args["seconds"])
        seconds = args.get("seconds", 0.0)
        if fault == "kill":
            said = [await self.instances.down(i, graceful=False) for i in chosen]
            return ", ".join(said), seconds, self._start_again(chosen, [])
        # a graceful stop may wait for the very answer that this protocol point holds back: do not wait for it here
        stops = [asyncio.get_running_loop().create_task(self.instances.down(i, graceful=True)) for i in chosen]
        await asyncio.sleep(0)
        return f"SIGTERM to {', '.join(i.name for i in chosen)}", seconds, self._start_again(chosen, stops)

    def _start_again(self, chosen: list[Instance], stops: list[asyncio.Task[str]]) -> Heal:
        async def heal() -> str:
            said = await asyncio.gather(*stops)
            for instance in chosen:
                await self.instances.start_one(instance)
            return ", ".join([*said, *(f"{i.name} ready again, life {i.life}" for i in chosen)])

        return heal

    async def _pause(self, chosen: list[Instance], seconds: float) -> Done:
        given = [i.process for i in chosen if i.process is not None]
        if not given:
            raise OSError("an instance that was not started by this run cannot be paused")
        processes = [process for process in given if await process.pause()]
        if not processes:
            raise Moot("the instance went down by itself")

        async def heal() -> str:
            for process in processes:
                await process.resume()
            return f"{', '.join(p.name for p in processes)} running again"

        return f"SIGSTOP to {', '.join(p.name for p in processes)} for {seconds:g} s", seconds, heal

    async def _disconnect(self, units: Sequence[Unit], seconds: float) -> Done:
        for unit in units:
            await unit.disconnect()

        async def heal() -> str:
            for unit in units:
                await unit.reconnect()
            return f"{', '.join(unit.name for unit in units)} on the network again"

        return f"{', '.join(unit.where for unit in units)} off the network", seconds, heal

    async def _store(self, fault: str, args: Mapping[str, Any]) -> Done:
        store = self.store
        process = store.process if isinstance(store, RedisStore) else None
        if not isinstance(store, RedisStore) or process is None:
            raise OSError("the store is no process of this run: only --store redis starts one")
        if not process.up or process.paused:
            raise Moot("the store is down or paused already")
        if fault == "pause":
            if not await process.pause():
                raise Moot("the store went down by itself")

            async def resume() -> str:
                await process.resume()
                return "redis running again"

            return f"SIGSTOP to redis for {args['seconds']:g} s", args["seconds"], resume
        if fault == "disconnect":
            return await self._disconnect([process], args["seconds"])
        said = await store.down(process, graceful=fault != "kill")
        return said, args.get("seconds", 0.0), store.start

    async def _replica(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        wanted = self._aim.replicas(args["which"], cause, self.serving.names)
        up = {replica.name for replica in self.serving.healthy}
        chosen = [name for name in wanted if name in up]
        if not chosen:
            raise Moot(f"{', '.join(wanted)} is down already")
        said = ", ".join(chosen)
        if fault == "disconnect":
            return await self._disconnect([self.serving.unit(name) for name in chosen], args["seconds"])
        if fault == "kill":
            if not any([await self.serving.kill(name) for name in chosen]):
                raise Moot(f"{said} went down by itself")
            return f"{said} OOM-killed", 0.0, self._healthy(said)
        # the others take their time, and are not waited for at the protocol point
        if fault == "pause":
            work = [self.serving.pause(name, args["seconds"]) for name in chosen]
        else:
            work = [self.serving.restart(name) for name in chosen]
        tasks = [asyncio.get_running_loop().create_task(w) for w in work]
        await asyncio.sleep(0)
        return f"{fault} of {said}", args.get("seconds", 0.0), self._healthy(said, tasks)

    def _healthy(self, said: str, tasks: Sequence[asyncio.Task[None]] = ()) -> Heal:
        async def heal() -> str:
            await asyncio.gather(*tasks)
            if not await self.serving.wait_healthy(timeout=HEALTHY):
                raise OSError(f"after {said}: not every replica is healthy after {HEALTHY:g} s")
            return f"{said} healthy again"

        return heal
