"""The simulation: a coordinator among the same fakes as on the wire, in one thread and in virtual time.

    history = simulate(Settings(coordinator="hardened", gateway=PROFILES["keyless"], seed=1), turns, plans)

The same settings, turns, plans and versions give the same history, byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chaos.collector import collector_paused
from chaos.driver import Driver
from chaos.nemesis import PlanNemesis
from chaos.plan import Plan
from chaos.quiesce import STILL, STUCK, Stillness, in_doubt
from chaos.simulation import folders
from chaos.simulation.clients import Assistants, Tools
from chaos.simulation.imports import prepare
from chaos.simulation.instances import Instance, Instances
from chaos.simulation.lives import LIFE, Life
from chaos.simulation.loop import VirtualLoop
from chaos.simulation.network import ConnectionLost, Edge, Network, NotConnected
from chaos.simulation.serving import EdgeGenerate, SimulatedServing
from chaos.simulation.settings import Settings
from chaos.simulation.store import SimulatedStore
from chaos.simulation.surroundings import Surroundings
from chaos.simulation.transport import MemoryTransport, carry
from chaos.simulation.watchdog import Watchdog
from chaos.simulation.world import SimulatedWorld, check
from chaos.turns import Turn
from fakes import history as h
from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.encoding import encode
from fakes.exchange import Reply, Request
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.ids import Ids
from fakes.script import ASSISTANT

EPOCH = 1_773_309_600.0
"""Unix time at which every simulation begins."""
CALLBACK_TIMEOUT = 5.0
"""Seconds that the gateway waits for the answer to a callback."""
_ASSISTANT = encode(ASSISTANT)

T = TypeVar("T")


@collector_paused()
def simulate(
    settings: Settings, turns: Sequence[Turn], plans: Iterable[Plan] = (), *,
    every: float = 0.0, path: Path | None = None, header: Mapping[str, Any] | None = None,
) -> h.History:
    """Run turns under plans, quiesce, and return the history.

    Args:
        plans: each is in force for the conversations of the turns that name it (`Turn.plans`), a plan that no turn names
            for all of them.
        every: virtual seconds between two deliveries.
        path: a file that the history is written to as well.
        header: what the history's first line says besides the settings.

    Raises BadCoordinator, PlanError, or another SimulationError when the simulation cannot go on.
    """
    simulation = Simulation(settings, path=path, header=header)
    with simulation.inside():
        try:
            simulation.run(turns, plans, every)
        except BaseException as error:
            simulation.history.record(h.RunInterrupted, reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            simulation.close()
    return simulation.history


def jsonl(history: h.History) -> bytes:
    """The history as the bytes of its file."""
    return b"".join(encode(line) + b"\n" for line in (history.header, *map(h.to_json, history.events)))


class Simulation:
    """One simulation, step by step: enter it, `bind` and `arm` plans, `deliver` turns, `advance` time, `quiesce`.

    Between these calls time stands still and everything real is as it was. Leaving it gives everything back.
    """

    def __init__(
        self, settings: Settings, *, path: Path | None = None, header: Mapping[str, Any] | None = None
    ) -> None:
        self.settings = settings
        self.loop = VirtualLoop(max_steps=settings.max_steps, max_time=settings.max_time)  # type: ignore[abstract]  # see its end
        self._watchdog = Watchdog(self.loop, settings.stall)
        self._entered = False
        self.coordinator = prepare(settings.coordinator, settings.environ, settings.stall)
        self.history = h.History(
            clock=self.loop.time,
            path=path,
            header={
                "world": "simulation", "seed": settings.seed, "coordinator": self.coordinator.label,
                "gateway": settings.gateway.name, "instances": settings.instances, "repeat_submit": settings.repeat_submit,
                **(header or {}),
            },
        )
        self._jumped = 0.0
        self._folder = folders.take()
        self._store = SimulatedStore(self._folder, settings.replica_lag)
        self._surroundings = Surroundings(self.loop, seed=settings.seed, wall=self._told, connect=self._store.connect)
        self._reroute()
        self._network = Network(self.loop, seed=settings.seed, latency=settings.latency, wall=self._wall)
        self.instances = Instances(self.history, self.loop, ready_timeout=settings.ready_timeout)
        self._stillness = Stillness(self.history, self.loop.time)

    def __enter__(self) -> Simulation:
        """Start it all. Raises BadCoordinator when the coordinator does not get ready."""
        try:
            self._run(self._start())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.history.record(h.RunInterrupted, reason=f"{type(error).__name__}: {error}")
        self.close()

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.loop.time()

    # --- what can be done -----------------------------------------------------------------------------------------------

    def run(self, turns: Sequence[Turn], plans: Iterable[Plan] = (), every: float = 0.0) -> None:
        """All of it in one go, from the start to the end of quiesce; not to be entered before."""
        chosen = list(plans)
        check(chosen)

        async def whole() -> None:
            await self._start()
            self._bind(turns, chosen)
            await self._deliver(turns, every, wait=True)
            await self._quiesce()

        self._run(whole())

    def bind(self, turns: Iterable[Turn], plans: Iterable[Plan]) -> None:
        """Put plans in force, each for the turns that name it, or for all where none does. Raises PlanError."""
        chosen = list(plans)
        check(chosen)

        async def bind() -> None:
            self._bind(turns, chosen)

        self._run(bind())

    def arm(self, plan: Plan, conversations: set[str] | None = None) -> None:
        """Put one plan in force, for these conversations or for all. Raises PlanError."""
        check([plan])

        async def arm() -> None:
            self.nemesis.arm(plan, conversations)

        self._run(arm())

    def deliver(self, turns: Iterable[Turn], every: float = 0.0, *, wait: bool = True) -> None:
        """Deliver turns, one each `every` seconds; `wait` until they have ended, or nothing moves any more."""
        self._run(self._deliver(turns, every, wait))

    def advance(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self._run(asyncio.sleep(seconds))

    def quiesce(self) -> bool:
        """Heal everything, give the system its budget to come to rest, ask for what is in doubt. True when it rests."""
        return self._run(self._quiesce())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something of one's own in the simulation."""
        return self._run(work)

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
        if self.loop.is_closed():
            return
        with self.inside():
            self._store.close()
            self._dispose()
        self.loop.close()
        self.history.close()
        folders.give_back(self._folder)

    # --- running --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The surroundings are those of the simulation, and it is watched; several steps are quicker inside one of these."""
        if self._entered:
            yield
            return
        self._entered = True
        try:
            with collector_paused(), self._watchdog, self._surroundings:
                yield
        finally:
            self._entered = False

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            with self.inside():
                return self.loop.run(work)
        finally:
            self.loop.doom = None

    def _dispose(self) -> None:
        """End what is under way and what crashed. Python runs `finally` blocks then, and cannot be kept from it: so this comes
        when the simulation is over, where they reach no edge, no open database and no history.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in sorted(asyncio.all_tasks(self.loop), key=hash):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                for _ in range(20):
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()
                        break

    def _wall(self) -> float:
        """Unix time as the fakes have it."""
        return EPOCH + self.loop.time() + self._jumped

    def _told(self) -> float:
        """Unix time as whoever asks is told it."""
        life = LIFE.get()
        return self._wall() + (life.clock_offset if life is not None else 0.0)

    def _jump(self, seconds: float) -> None:
        self._jumped += seconds

    def _reroute(self) -> None:
        network = self._network_of_life

        async def handle(transport: object, request: Any) -> Any:
            return await carry(network(), request)

        for name in ("httpx", "httpx2"):
            if name in sys.modules:
                self._surroundings.reroute(sys.modules[name], handle)

    def _network_of_life(self) -> Network:
        return self._network

    # --- parts ----------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings, loop = self.settings, self.loop
        serving = SimulatedServing(
            self.history, _Late(self), loop,
            replicas=settings.replicas, profile=settings.latency_profile, seed=settings.seed, wall=self._wall,
        )
        self._world = SimulatedWorld(
            self.history, network=self._network, instances=self.instances, serving=serving, store=self._store, jump=self._jump
        )
        self.nemesis = PlanNemesis(self.history, self._world, seed=settings.seed, clock=loop.time)
        self._llm = self._edge("llm", None, serving.generate)
        self._assistants = AssistantsEndpoint(
            Core(self._wall, Ids(settings.seed, "assistants")), self.history, self.nemesis, EdgeGenerate(lambda: self._llm),
            repeat_submit=settings.repeat_submit, poll_after_ms=round(settings.poll_interval * 1000),
        )
        self.nemesis.runs = self._assistants
        self._gateway = GatewayEndpoint(
            GatewayCore(settings.gateway, clock=self._wall, ids=Ids(settings.seed, "gateway")),
            self.history, self.nemesis, post=self._post, log=lambda line: None, admin_token="", clock=self._wall,
            seed=settings.seed,
        )
        serving.start()
        reply = await self._assistants.handle(Request("POST", "/v1/assistants", body=_ASSISTANT))
        self.assistant_id = str(json.loads(reply.body)["id"])
        dice = random.Random(f"{settings.seed}/skew")
        for number in range(1, settings.instances + 1):
            self._place(number, dice.uniform(-settings.clock_skew, settings.clock_skew))
        self.driver = self._world.driver = Driver(
            self.history, self.nemesis, self.instances, in_flight=settings.in_flight, budget=settings.turn_budget
        )
        await self.instances.start()
        self.nemesis.restart_clock()

    def _edge(self, name: str, instance: str | None, handle: Callable[[Any], Any]) -> Edge:
        address = self._network.open(name, instance, handle)
        host, _, port = address.partition(":")
        return self._network.find(host, int(port))

    def _place(self, number: int, clock_offset: float) -> None:
        settings = self.settings
        name, port = f"coordinator-{number}", 10_000 + number

        async def results(request: Request) -> Reply:
            return await self.instances.results(instance, request)

        assistants = self._network.open("assistants", name, self._assistants.handle)
        gateway = self._network.open("tool-gateway", name, self._gateway.handle)
        results_url = f"http://{self._network.open('tool-results', name, results)}/tool-results"
        environ = {
            "PORT": str(port),
            "INSTANCE_ID": name,
            "STATE_DIR": self._folder,
            "ASSISTANTS_BASE_URL": f"http://{assistants}/v1",
            "OPENAI_BASE_URL": f"http://{assistants}/v1",
            "OPENAI_API_KEY": "sk-anechoic-no-secret",
            "ASSISTANT_ID": self.assistant_id,
            "TOOL_GATEWAY_URL": f"http://{gateway}",
            "TOOL_RESULTS_URL": results_url,
            "POLL_INTERVAL": f"{settings.poll_interval:g}",
            "TOOL_TIMEOUT": f"{settings.tool_timeout:g}",
            "CLIENT_TIMEOUT": f"{settings.client_timeout:g}",
            **self._store.environ,
            **settings.environ,
        }

        def given(life: Life) -> Mapping[str, Any]:
            edges = self._network.edges
            mine = {edge.name: edge for edge in edges if edge.instance == name}
            return {
                "environ": environ,
                "transport": MemoryTransport(self._network),
                "clock": lambda: self._wall() + life.clock_offset,
                "sink": settings.sink,
                "assistants": Assistants(mine["assistants"], settings.client_timeout, self.assistant_id),
                "tools": Tools(mine["tool-gateway"], settings.tool_timeout, results_url),
            }

        instance = Instance(
            name, port, coordinator=self.coordinator, loop=self.loop, store=self._store, environ=environ, given=given,
            clock_offset=clock_offset,
        )
        self.instances.add(instance)

    async def _post(self, url: str, body: dict[str, Any]) -> int:
        """A callback of the gateway. Raises OSError when no answer comes."""
        address, _, path = url.removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        try:
            edge = self._network.find(host, int(port or 80))
            reply = await edge.ask(Request("POST", f"/{path}", body=encode(body)), CALLBACK_TIMEOUT)
        except (NotConnected, ConnectionLost, ValueError) as error:
            raise ConnectionError(f"POST {url}: {error}") from None
        return int(reply.status)

    # --- phases ---------------------------------------------------------------------------------------------------------

    def _bind(self, turns: Iterable[Turn], plans: Iterable[Plan]) -> None:
        bound: dict[str, set[str]] = {}
        for turn in turns:
            for name in turn.plans:
                bound.setdefault(name, set()).add(turn.conversation_id)
        for plan in plans:
            self.nemesis.arm(plan, bound.get(plan.name))

    async def _deliver(self, turns: Iterable[Turn], every: float, wait: bool) -> None:
        await self.driver.deliver(turns, every)
        if not wait:
            return
        while self.nemesis.pending:
            await asyncio.sleep(0.05)
        deadline = self.now + self.settings.turn_budget
        self._stillness.restart()
        while self.now < deadline and (self._stillness.seconds < STUCK or self.nemesis.lasting):
            if await self.driver.settle(0.2):
                return

    async def _quiesce(self) -> bool:
        await self.nemesis.heal()
        budget = self.settings.quiesce_budget
        self.history.record(h.QuiesceStarted, budget=budget)
        self._stillness.restart()
        start = self.now
        settled = False
        while self.now - start < budget and not settled:
            await asyncio.sleep(max(0.05, STILL - self._stillness.seconds))
            settled = not self.driver.open and self._stillness.reached
        await self.driver.close(budget)
        for instance in self.instances.all:
            for call, run in in_doubt(await self.instances.in_doubt(instance)):
                self.history.record(h.InDoubtReported, instance=instance.name, tool_call_id=call, run_id=run)
        self.history.record(h.QuiesceEnded, settled=settled, open_turns=self.driver.unanswered)
        return settled


class _Late:
    """The nemesis, for what is made before it is."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def at(self, event: h.Event) -> Sequence[Any]:
        """Ask the nemesis."""
        return await self._simulation.nemesis.at(event)
