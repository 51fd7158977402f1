"""What the nemesis can break in the simulation: the same words as on the wire, and clocks and single messages besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chaos.driver import Driver
from chaos.nemesis import Moot
from chaos.parts import Done, Parts, names
from chaos.plan import Plan, PlanError
from chaos.simulation.instances import Instance, Instances
from chaos.simulation.network import Edge, Network, Trouble
from chaos.simulation.serving import SimulatedServing
from chaos.simulation.store import SimulatedStore
from chaos.simulation.toxics import Toxic, ToxicError
from chaos.vocabulary import CONTAINERS_ONLY
from fakes.history import Event, History


class SimulatedWorld(Parts[Instance]):
    """Carries out the faults of `chaos.vocabulary.WORLD_FAULTS`.

    Args:
        jump: has the clock of the whole world jump by some seconds.
    """

    driver: Driver[Instance]

    def __init__(
        self, history: History, *, network: Network, instances: Instances, serving: SimulatedServing, store: SimulatedStore,
        jump: Callable[[float], None],
    ) -> None:
        super().__init__(history)
        self._network = network
        self.instances = instances
        self.serving = serving
        self._store = store
        self._jump = jump
        self._toxics = 0

    async def carry_out(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> Done:
        """Do it now (see `chaos.nemesis.World`)."""
        if fault == "toxic":
            return self._toxic(args, self._edges(args, cause))
        if fault == "proxy_down":
            return self._down(args, self._edges(args, cause))
        if fault == "network":
            return self._trouble(args, self._edges(args, cause))
        if fault == "clock_jump":
            return self._clock_jump(args, cause)
        if fault == "store_outage":
            return await self._store.lock.outage(args["seconds"])
        if fault == "resend_turn":
            return self.driver.resend(cause.conversation if cause else None, args["to"], args["after"]), 0.0, None
        if args["target"] == "replica":
            return await self._replica(fault, args, cause)
        return await self._coordinator(fault, args, cause)

    # --- edges ----------------------------------------------------------------------------------------------------------

    def _edges(self, args: Mapping[str, Any], cause: Event | None) -> list[Edge]:
        owner = self._aim.owner(args["which"], cause, self.instances.all)
        edges = self._network.chosen(args["proxy"], owner)
        if not edges:
            raise Moot(f"this run has no proxy on the edge {args['proxy']}")
        return edges

    def _toxic(self, args: Mapping[str, Any], edges: list[Edge]) -> Done:
        self._toxics += 1
        toxic = Toxic.of(f"{args['type']}-{self._toxics}", args)
        for edge in edges:
            edge.toxics.append(toxic)

        async def heal() -> str:
            for edge in edges:
                edge.remove(toxic)
            return f"{toxic.name} removed from {_labels(edges)}"

        return f"{toxic.name} {toxic.stream} on {_labels(edges)}", args["seconds"], heal

    def _down(self, args: Mapping[str, Any], edges: list[Edge]) -> Done:
        for edge in edges:
            edge.take_down()

        async def heal() -> str:
            for edge in edges:
                edge.bring_up()
            over = [edge for edge in edges if not edge.down]
            return f"{_labels(over)} up again" if over else "another outage goes on"

        return f"{_labels(edges)} down", args["seconds"], heal

    def _trouble(self, args: Mapping[str, Any], edges: list[Edge]) -> Done:
        troubles = [(edge, Trouble(args["what"], args["n"], args["delay"])) for edge in edges]
        for edge, trouble in troubles:
            edge.troubles.append(trouble)

        async def heal() -> str:
            left = sum(trouble.left for _, trouble in troubles)
            for edge, trouble in troubles:
                if trouble in edge.troubles:
                    edge.troubles.remove(trouble)
            return f"{args['what']} on {_labels(edges)} met {args['n'] * len(edges) - left} messages"

        return f"{args['what']} for the next {args['n']} messages on {_labels(edges)}", args["seconds"], heal

    # --- clocks ---------------------------------------------------------------------------------------------------------

    def _clock_jump(self, args: Mapping[str, Any], cause: Event | None) -> Done:
        seconds = -args["seconds"] if args["back"] == "yes" else args["seconds"]
        if args["which"] == "all":
            self._jump(seconds)
            said = "every clock"
        else:
            (instance,) = self._aim.pick(args["which"], cause, self.instances.all)
            instance.set_clock(seconds)
            said = f"the clock of {instance.name}"

        async def heal() -> str:
            return f"{said} goes on from there"

        return f"{said} jumped by {seconds:g} s", 0.0, heal

    # --- instances ------------------------------------------------------------------------------------------------------

    async def _pause(self, chosen: list[Instance], seconds: float) -> Done:
        for instance in chosen:
            instance.pause()

        async def heal() -> str:
            for instance in chosen:
                instance.resume()
            return f"{names(chosen)} running again"

        return f"{names(chosen)} paused for {seconds:g} s", seconds, heal


def check(plans: Iterable[Plan]) -> None:
    """Raises PlanError for a fault that has no meaning in the simulation."""
    for plan in plans:
        if only := plan.faults & CONTAINERS_ONLY:
            raise PlanError(f"plan {plan.name!r} uses {', '.join(only)}, which only containers can do: use proxy_down here")
        if plan.needs_server:
            raise PlanError(
                f"plan {plan.name!r} breaks a store that is a server, and in the simulation it is a file: use store_outage, "
                "or run it on the wire with --store redis"
            )
        for rule in plan.rules:
            for do in rule.do:
                if do.fault == "toxic":
                    try:
                        Toxic.of(do.fault, do.args)
                    except ToxicError as error:
                        raise PlanError(f"rule {rule.id}: {error}") from None


def _labels(edges: list[Edge]) -> str:
    return ", ".join(edge.label for edge in edges)
