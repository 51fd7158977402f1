"""The chamber: a coordinator among fakes, with a proxy on every edge, and a nemesis.

    async with Chamber(settings) as chamber:
        chamber.nemesis.arm(plan)
        await chamber.run(turns)
        await chamber.quiesce()
    judge(chamber.history.events, ...)
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from chaos.containers.backends import RemoteBackends
from chaos.driver import Deliveries, Driver
from chaos.nemesis import PlanNemesis
from chaos.quiesce import STUCK, Stillness, in_doubt
from chaos.toxiproxy.client import Toxiproxy
from chaos.toxiproxy.embedded import EmbeddedToxiproxy
from chaos.turns import Turn
from chaos.wire.backends import Backends
from chaos.wire.door import HttpDoor
from chaos.wire.edges import Edges
from chaos.wire.errors import WireError
from chaos.wire.instances import Instances, Unit
from chaos.wire.keeper import Keeper
from chaos.wire.logs import Logs
from chaos.wire.ports import free_port
from chaos.wire.process import Process
from chaos.wire.settings import Settings
from chaos.wire.side import Side
from chaos.wire.store import ANSWER, REDIS, SQLITE, RedisStore, SqliteStore, Store, own_redis, watch
from chaos.wire.world import WireWorld
from fakes import history as h
from fakes.llm.serving import Serving, ServingError

T = TypeVar("T")

AGED = 120.0
"""Seconds after which the fakes forget what is over, where a run is longer than memory; longer than any turn is waited for."""
FLUSH = 0.1
"""Seconds after which an event is on disk at the latest."""


class Chamber:
    """Everything of one run, started on entry and given back on exit, whatever happens in between.

    Args:
        header: what the history's first line says besides the settings.
        say: told at once when something is amiss, such as an instance that ended by itself.
        placed: called when `addresses` are known and before the coordinators are waited for.
        alone: fakes and proxies only; the coordinators are neither started nor waited for.
    """

    def __init__(
        self, settings: Settings, *, header: dict[str, Any] | None = None, say: Callable[[str], None] = lambda line: None,
        placed: Callable[[Chamber], None] = lambda chamber: None, alone: bool = False,
    ) -> None:
        self.settings = settings
        self._placed = placed
        self._alone = alone
        self._say = say
        self.folder = Path(tempfile.mkdtemp(prefix="anechoic-"))
        self.logs = (settings.report_dir or self.folder) / "logs"
        shutil.rmtree(self.logs, ignore_errors=True)  # of an earlier run with the same report directory
        self.token = secrets.token_urlsafe(24)
        path = settings.report_dir / "history.jsonl" if settings.report_dir else None
        self.history = h.History(
            path=path, keep=settings.keep_events,
            header={
                "seed": settings.seed, "coordinator": settings.coordinator.label, "gateway": settings.gateway.name,
                "instances": settings.instances, "repeat_submit": settings.repeat_submit, **(header or {}),
            },
        )
        self.world = WireWorld(self.history)
        self.nemesis = PlanNemesis(self.history, self.world, seed=settings.seed, clock=time.monotonic)
        self.addresses: dict[str, dict[str, str]] = {}
        """per instance: the environment that tells it where everything is"""
        self.troubles: list[str] = []
        self._keeper: Keeper | None = None
        self._exit = contextlib.AsyncExitStack()
        self._stillness = Stillness(self.history, time.monotonic)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Chamber:
        """Start it all. Raises WireError, and leaves nothing behind then."""
        try:
            await self._start()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Heal, stop the coordinators, then the fakes, and give back every port, process and file."""
        if error is not None:
            said = "stopped from outside" if isinstance(error, asyncio.CancelledError) else f"{type(error).__name__}: {error}"
            self.history.record(h.RunInterrupted, reason=said)
        closing = asyncio.ensure_future(self._exit.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
        except WireError as second:
            if error is None:
                raise
            self._say(f"not everything could be given back: {second}")

    def take_over(self, deliveries: Deliveries) -> None:
        """From now on somebody else delivers turns, and is asked about them instead of the driver."""
        self.deliveries = self.world.driver = deliveries

    async def run(self, turns: Iterable[Turn], every: float = 0.0) -> None:
        """Deliver the turns (one each `every` seconds), and wait until no timed rule is left to fire and all have ended.

        Turns that do not end are waited for until nothing moves any more, `turn_budget` seconds at most. Raises WireError
        when a part of the harness itself goes away meanwhile.
        """
        await self.while_whole(self._run(turns, every))

    async def quiesce(self, until: float = math.inf) -> bool:
        """Heal everything, give the system its budget to come to rest, and ask for what is in doubt. True when it rests.

        A turn that is still open when the budget is over, or at the time `until` (of time.monotonic), is unanswered. Raises
        WireError as `run` does.
        """
        return await self.while_whole(self._quiesce(until))

    async def _run(self, turns: Iterable[Turn], every: float) -> None:
        await self.driver.deliver(turns, every)
        while self.nemesis.pending:
            await asyncio.sleep(0.05)
        deadline = time.monotonic() + self.settings.turn_budget
        self._stillness.restart()
        while time.monotonic() < deadline and self._stillness.seconds < STUCK:
            if await self.driver.settle(0.2):
                return

    async def _quiesce(self, until: float) -> bool:
        await self.nemesis.heal()
        start = time.monotonic()
        full = self.settings.quiesce_budget
        budget = round(max(0.0, min(full, until - start)), 3)
        self.history.record(h.QuiesceStarted, budget=budget, full=full if budget < full else None)
        self._stillness.restart()
        settled = False
        while time.monotonic() - start < budget and not settled:
            await asyncio.sleep(0.05)
            settled = not self.deliveries.open and self._stillness.reached
        await self.deliveries.close(budget)
        if isinstance(self.world.store, RedisStore):
            await self.world.store.ready(ANSWER)
        for instance in self.instances.all:
            await self._in_doubt(instance.name, instance.url)
        self.history.record(h.QuiesceEnded, settled=settled, open_turns=self.deliveries.unanswered)
        return settled

    async def _start(self) -> None:
        settings, stack = self.settings, self._exit
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        stack.callback(self.history.close)
        self._keeper = Keeper()
        stack.callback(self._keeper.close)
        self._keeper.remove(self.folder)
        self.http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        )
        await self._prepare()
        toxiproxy = await self._toxiproxy()
        self.backends = self._backends()
        stack.push_async_callback(self.backends.stop)
        self.world.serving = self.backends.serving
        self.world.edges = self.edges = self._edges(toxiproxy)
        stack.push_async_callback(self.edges.close)
        try:
            router = await self.backends.start_serving()
        except ServingError as error:
            raise WireError(str(error)) from None
        self.llm_url = f"http://{await self.edges.open('llm', None, router)}"
        names = [f"coordinator-{i + 1}" for i in range(settings.instances)]
        self.assistant_id = await self.backends.start(self.llm_url, names)
        self.state = self.folder / "state"
        self.state.mkdir()
        store = self.world.store = await self._store()
        self.instances = self.world.instances = Instances(
            self.history, self.http, ready_timeout=settings.ready_timeout, on_trouble=self._trouble, tools=settings.tools
        )
        await self._place_instances(names, store)
        self._placed(self)
        self.driver = Driver(
            self.history, self.nemesis, HttpDoor(self.instances, self.http),
            in_flight=settings.in_flight, budget=settings.turn_budget,
        )
        self.take_over(self.driver)
        flusher = asyncio.get_running_loop().create_task(self._flush())
        stack.callback(flusher.cancel)
        side = Side({**os.environ, **self.addresses[names[0]]}, self.logs, self._keeper, self._trouble)
        stack.push_async_callback(side.tear_down, settings.teardown_command)
        if settings.setup_command is not None:
            await side.set_up(settings.setup_command)
        stack.push_async_callback(self.instances.stop)
        stack.push_async_callback(self.nemesis.heal)
        stack.push_async_callback(self.driver.close, 0.0)
        if not self._alone:
            await self.instances.start()
        self.nemesis.restart_clock()

    def _backends(self) -> Backends | RemoteBackends:
        settings = self.settings
        if settings.fakes is None:
            return Backends(settings, self.history, self.nemesis, self.token, self.logs)
        logs = Logs(self.logs)
        serving = self._serving(logs.open("llm-serve.log"))
        return RemoteBackends(settings, self.history, self.nemesis, settings.fakes, serving, logs, lost=self._part_lost)

    async def _prepare(self) -> None:
        """Whatever has to be there before the first part is started."""

    def _serving(self, log: Callable[[str], None]) -> Serving:
        settings = self.settings
        return Serving(
            self.history, self.nemesis, replicas=settings.replicas, profile=settings.latency_profile, seed=settings.seed,
            log=log,
        )

    def _edges(self, toxiproxy: Toxiproxy) -> Edges:
        return Edges(toxiproxy, self._prefix, self.settings.proxy_host)

    async def _store(self) -> Store:
        word = self.settings.store
        if word == SQLITE:
            file = SqliteStore(self.state / "store.db")
            self._exit.callback(file.lock.let_go)
            return file
        if word != REDIS:
            server = RedisStore(word, self.edges)
        else:
            assert self._keeper is not None
            server = own_redis(self.folder / "redis", self.logs, self.edges, self._keeper)
            assert server.process is not None
            self._exit.push_async_callback(server.process.kill)
        await server.start()
        watching = asyncio.ensure_future(watch(server, self._part_lost))
        self._exit.callback(watching.cancel)
        return server

    def _part_lost(self, reason: str) -> None:
        """A part that no run can do without went away by itself."""
        if not self._lost.done():
            self._lost.set_exception(WireError(reason))
            self._lost.exception()  # seen here, so that nobody is told of it twice

    async def while_whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, as long as no part goes away that no run can do without: then it is cancelled, and WireError raised."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, self._lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # also of one that failed: nobody is to be told of it twice
        if self._lost.done():
            await self._lost
        result: T = await task
        return result

    async def _toxiproxy(self) -> Toxiproxy:
        if self.settings.toxiproxy is None:
            self._prefix = "anechoic"  # fates are drawn by name: the same seed is to draw the same
            embedded = EmbeddedToxiproxy(seed=self.settings.seed)
            await embedded.start()
            self._exit.push_async_callback(embedded.stop)
            self.toxiproxy_url = embedded.url
        else:
            self._prefix = f"anechoic-{secrets.token_hex(3)}"  # others may use that server too
            self.toxiproxy_url = self.settings.toxiproxy
        client = Toxiproxy(self.toxiproxy_url)
        self._exit.callback(client.close)
        await client.version()
        return client

    async def _place_instances(self, names: list[str], store: Store) -> None:
        settings = self.settings
        taken: set[int] = set()
        for index, name in enumerate(names):
            port, upstream = self._address(index, taken)
            ends = {
                "assistants": self.backends.ends["assistants", name],
                "tool-gateway": self.backends.ends["tool-gateway", name],
                "tool-results": upstream,
                **({"store": store.upstream} if store.upstream else {}),
            }
            listens: dict[str, str] = {}
            for offset, (edge, end) in enumerate(ends.items()):
                fixed = settings.base_port + len(ends) * index + offset if settings.base_port else 0
                listens[edge] = await self.edges.open(edge, name, end, fixed)
            environ = self.addresses[name] = {
                "PORT": str(port),
                "INSTANCE_ID": name,
                "STATE_DIR": str(self.state),
                "ASSISTANTS_BASE_URL": f"http://{listens['assistants']}/v1",
                "OPENAI_BASE_URL": f"http://{listens['assistants']}/v1",
                "OPENAI_API_KEY": "sk-anechoic-no-secret",
                "ASSISTANT_ID": self.assistant_id,
                "TOOL_GATEWAY_URL": f"http://{listens['tool-gateway']}",
                "TOOL_RESULTS_URL": f"http://{listens['tool-results']}/tool-results",
                **store.environ(listens.get("store")),
                "POLL_INTERVAL": f"{settings.poll_interval:g}",
                "TOOL_TIMEOUT": f"{settings.tool_timeout:g}",
                "CLIENT_TIMEOUT": f"{settings.client_timeout:g}",
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
                **settings.environ,
            }
            self.instances.add(name, f"http://{upstream}", self._unit(index, name, {**os.environ, **environ}))

    def _address(self, index: int, taken: set[int]) -> tuple[int, str]:
        """The port that an instance listens on, and host:port where the harness reaches it."""
        urls = self.settings.coordinator.urls
        if not urls:
            port = free_port(taken)
            return port, f"127.0.0.1:{port}"
        url = urls[index]
        port = int(url.rsplit(":", 1)[1].split("/")[0]) if url.count(":") > 1 else 80
        return port, url.split("//", 1)[1].rstrip("/")

    def _unit(self, index: int, name: str, environ: dict[str, str]) -> Unit | None:
        """What is started and broken as that instance; None where somebody else has started it."""
        if self.settings.coordinator.urls:
            return None
        assert self._keeper is not None
        return Process(name, self.settings.coordinator.command, environ, self.logs, self._keeper)

    async def _in_doubt(self, name: str, url: str) -> None:
        try:
            async with self.http.get(f"{url}/in-doubt", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                if answer.status != 200:
                    return
                data = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return
        for call, run in in_doubt(data):
            self.history.record(h.InDoubtReported, instance=name, tool_call_id=call, run_id=run)

    async def _flush(self) -> None:
        aged = time.monotonic()
        while True:
            await asyncio.sleep(FLUSH)
            self.history.flush()
            if not self.history.keeps and time.monotonic() - aged > AGED / 10:
                aged = time.monotonic()
                self.backends.age(AGED)

    def _trouble(self, text: str) -> None:
        self.troubles.append(text)
        self._say(text)
