"""What the nemesis can break on the wire: processes, edges, the store, delivery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.driver import Deliveries
from chaos.nemesis import Moot
from chaos.parts import Done, Parts, names
from chaos.vocabulary import SIMULATION_ONLY
from chaos.wire.edges import Edges
from chaos.wire.instances import Instance, Instances, Unit
from chaos.wire.store import RedisStore, Store
from fakes.history import Event
from fakes.llm.serving import Serving


class WireWorld(Parts[Instance]):
    """Carries out the faults of `chaos.vocabulary.WORLD_FAULTS` on a running chamber, whose parts are set as they start."""

    edges: Edges
    instances: Instances
    serving: Serving
    store: Store
    driver: Deliveries

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
        if fault == "disconnect":
            return await self._disconnect(self._units(args, cause), args["seconds"])
        if args["target"] == "replica":
            return await self._replica(fault, args, cause)
        if args["target"] == "store":
            return await self._store(fault, args)
        return await self._coordinator(fault, args, cause)

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
            return f"{names(processes)} running again"

        return f"SIGSTOP to {names(processes)} for {seconds:g} s", seconds, heal

    # --- the network and the store --------------------------------------------------------------------------------------

    def _units(self, args: Mapping[str, Any], cause: Event | None) -> list[Unit]:
        """What is to be taken off its network. Raises Moot when that is down."""
        if args["target"] == "store":
            return [self._server()[1]]
        if args["target"] == "replica":
            return [self.serving.unit(name) for name in self._serving_now(args, cause)]
        units = [i.process for i in self._standing(args, cause) if i.process is not None]
        if not units:
            raise OSError("an instance that was not started by this run cannot be taken off a network")
        return units

    async def _disconnect(self, units: list[Unit], seconds: float) -> Done:
        for unit in units:
            await unit.disconnect()

        async def heal() -> str:
            for unit in units:
                await unit.reconnect()
            return f"{names(units)} on the network again"

        return f"{', '.join(unit.where for unit in units)} off the network", seconds, heal

    def _server(self) -> tuple[RedisStore, Unit]:
        """The store and what it runs in. Raises OSError where it is no process of this run, Moot when that is down."""
        store = self.store
        process = store.process if isinstance(store, RedisStore) else None
        if not isinstance(store, RedisStore) or process is None:
            raise OSError("the store is no process of this run: only --store redis starts one")
        if not process.up or process.paused:
            raise Moot("the store is down or paused already")
        return store, process

    async def _store(self, fault: str, args: Mapping[str, Any]) -> Done:
        store, process = self._server()
        if fault == "pause":
            if not await process.pause():
                raise Moot("the store went down by itself")

            async def resume() -> str:
                await process.resume()
                return "redis running again"

            return f"SIGSTOP to redis for {args['seconds']:g} s", args["seconds"], resume
        said = await store.down(process, graceful=fault != "kill")
        return said, args.get("seconds", 0.0), store.start
