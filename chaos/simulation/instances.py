"""The simulated instances of the coordinator: started, asked, paused, crashed, started again."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from chaos.simulation.coordinator import Coordinator, Running
from chaos.simulation.errors import BadCoordinator, SimulationError
from chaos.simulation.lives import Life
from chaos.simulation.loop import VirtualLoop
from chaos.simulation.network import ConnectionLost, NoAnswerInTime, NotConnected
from chaos.simulation.store import SimulatedStore
from chaos.turns import Turn
from fakes.exchange import Reply, Request
from fakes.history import History, InstanceExited, InstanceReady, InstanceStarted

STOP_PATIENCE = 5.0
"""Seconds that a graceful stop may take before it becomes a crash."""
BOOT = 0.2
"""Seconds from the start of an instance until its code runs."""
LOOK = 0.02
"""Seconds between two looks whether it is ready."""

T = TypeVar("T")


class Instance:
    """One instance, life after life. `given` makes what a life of it is given by name."""

    def __init__(
        self, name: str, port: int, *, coordinator: Coordinator, loop: VirtualLoop, store: SimulatedStore,
        environ: Mapping[str, str], given: Callable[[Life], Mapping[str, Any]], clock_offset: float,
    ) -> None:
        self.name = name
        self.port = port
        self.life = 0
        self.current: Life | None = None
        self.ready = asyncio.Event()
        self.clock_offset = clock_offset
        self.capabilities: dict[str, Any] = {}
        self._coordinator = coordinator
        self._loop = loop
        self._store = store
        self._environ = environ
        self._given = given
        self._running: Running | None = None
        self._context = contextvars.Context()
        self._asked: dict[asyncio.Future[Any], asyncio.Task[None]] = {}

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self.current is not None and self.current.frozen is not None

    async def start(self) -> None:
        """Begin a new life. Raises BadCoordinator when it cannot be begun."""
        self.life += 1
        life = Life(self.name, self.life, self._environ, self.clock_offset)
        self._context = life.context()
        self.current = life
        await self.within(self._begin(life), None)

    async def _begin(self, life: Life) -> None:
        running = self._coordinator.begin(self._given(life), self.port)
        await running.open()
        self._running = running

    def pause(self) -> None:
        """Stand still: nothing of it runs until `resume`."""
        if self.current is not None:
            self.current.frozen = []

    def resume(self) -> None:
        """Go on, with everything that was due meanwhile."""
        if self.current is not None and self.current.frozen is not None:
            self._loop.resume(self.current)

    def crash(self) -> None:
        """It stops where it awaits and never runs again: no `finally`, no commit, memory gone, connections broken."""
        life, self.current, running, self._running = self.current, None, self._running, None
        if life is None:
            return
        self.ready.clear()
        self._loop.crash(life)
        life.wreck.append(running)
        self._store.drop(life)
        for asked in list(self._asked):
            if not asked.done():
                asked.set_exception(ConnectionLost(f"{self.name} is gone"))

    async def stop(self) -> bool:
        """Stop gracefully, then be gone; False when it took longer than it may."""
        self.ready.clear()
        try:
            if self._running is not None:
                await self.within(self._running.stop(), STOP_PATIENCE)
        except NoAnswerInTime:
            return False
        except ConnectionLost:
            return True
        finally:
            self.crash()
        return True

    def set_clock(self, seconds: float) -> None:
        """Have its clock jump by so many seconds."""
        self.clock_offset += seconds
        if self.current is not None:
            self.current.clock_offset = self.clock_offset

    async def ask(self, question: Callable[[Running], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        """Ask the running life something. Raises NotConnected, ConnectionLost, NoAnswerInTime."""
        if self.current is None or self._running is None:
            raise NotConnected(f"{self.name} is down")
        return await self.within(question(self._running), timeout)

    async def within(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Do something as part of the current life, so that it crashes and stands still with it."""
        answered: asyncio.Future[T] = self._loop.create_future()
        self._asked[answered] = self._loop.create_task(_answer(work, answered), context=self._context.copy())
        timer = self._loop.call_later(timeout, _give_up, answered, self.name, timeout) if timeout is not None else None
        try:
            return await answered
        finally:
            if timer is not None:
                timer.cancel()
            del self._asked[answered]


class Instances:
    """All instances, in order; the driver's door to them."""

    def __init__(self, history: History, loop: VirtualLoop, *, ready_timeout: float) -> None:
        self._all: list[Instance] = []
        self._history = history
        self._loop = loop
        self._ready_timeout = ready_timeout

    @property
    def all(self) -> Sequence[Instance]:
        """Every instance, in order."""
        return self._all

    def add(self, instance: Instance) -> None:
        """One more."""
        self._all.append(instance)

    async def start(self) -> None:
        """Start all; returns when each is ready. Raises SimulationError when one is not."""
        await asyncio.gather(*(self.start_one(instance) for instance in self._all))

    async def start_one(self, instance: Instance) -> None:
        """Start one (again); returns when it is ready."""
        self._history.record(InstanceStarted, instance=instance.name, life=instance.life + 1)
        await asyncio.sleep(BOOT)
        try:
            await instance.start()
        except SimulationError as error:
            self._loop.doom = self._loop.doom or error
            raise
        except Exception as error:
            wrong = BadCoordinator(f"{instance.name} ended before it was ready: {type(error).__name__}: {error}")
            self._loop.doom = self._loop.doom or wrong
            raise wrong from error
        await self._until_ready(instance)
        instance.ready.set()
        self._history.record(
            InstanceReady, instance=instance.name, life=instance.life, capabilities=instance.capabilities
        )

    async def _until_ready(self, instance: Instance) -> None:
        deadline = self._loop.time() + self._ready_timeout
        while True:
            try:
                status, data = await instance.ask(lambda running: running.health(), 2.0)
                seen = f"GET /healthz answered {status} {str(data)[:200] if data else ''}".rstrip()
                if status == 200:
                    instance.capabilities = data
                    return
            except (NotConnected, ConnectionLost) as error:
                seen = f"GET /healthz: {error}"
            if self._loop.time() >= deadline:
                wrong = BadCoordinator(
                    f"{instance.name} was not ready after {self._ready_timeout:g} s of virtual time; last seen: {seen}. "
                    "A coordinator answers GET /healthz with 200 when it is ready"
                )
                self._loop.doom = self._loop.doom or wrong
                raise wrong
            await asyncio.sleep(LOOK)

    async def down(self, instance: Instance, *, graceful: bool) -> str:
        """Take one down on purpose; how it went, in a few words."""
        life = instance.life
        within = True
        if graceful:
            within = await instance.stop()
        else:
            instance.crash()
        code = 0 if graceful and within else -9
        self._history.record(InstanceExited, instance=instance.name, life=life, code=code, expected=True)
        if not graceful:
            return f"{instance.name} crashed"
        return f"{instance.name} stopped" + ("" if within else f", but only by a crash after {STOP_PATIENCE:g} s")

    # --- the driver's door ----------------------------------------------------------------------------------------------

    async def deliver(self, instance: Instance, turn: Turn) -> tuple[int | None, str | None]:
        """POST /turns, ten seconds at most."""
        try:
            return await instance.ask(lambda running: running.deliver(turn.body()), 10.0)
        except (NotConnected, ConnectionLost) as error:
            return None, str(error)

    async def status(self, instance: Instance, turn_id: str) -> tuple[int | None, Mapping[str, object]]:
        """GET /turns/{turn_id}, five seconds at most."""
        try:
            return await instance.ask(lambda running: running.status(turn_id), 5.0)
        except (NotConnected, ConnectionLost):
            return None, {}

    async def results(self, instance: Instance, request: Request) -> Reply:
        """POST /tool-results. Raises NotConnected, ConnectionLost."""
        return await instance.ask(lambda running: running.results(request), None)

    async def in_doubt(self, instance: Instance) -> Any:
        """GET /in-doubt, five seconds at most; None where there is no answer."""
        try:
            return await instance.ask(lambda running: running.in_doubt(), 5.0)
        except (NotConnected, ConnectionLost, ValueError):
            return None


async def _answer(work: Coroutine[Any, Any, T], answered: asyncio.Future[T]) -> None:
    try:
        result = await work
    except Exception as error:
        if not answered.done():
            answered.set_exception(error)
    else:
        if not answered.done():
            answered.set_result(result)


def _give_up(answered: asyncio.Future[Any], name: str, seconds: float) -> None:
    if not answered.done():
        answered.set_exception(NoAnswerInTime(f"{name} did not answer within {seconds:g} s"))
