"""The simulated LLM serving: the same model behind the same router, without processes and HTTP.

The events, the repeats and the faults are those of `fakes.llm`: a replica that is killed loses the generations that it was
doing, the router does them again on another one, and the replica comes back after a while. There is no queue: a replica
takes any number of generations at a time.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import random
from collections.abc import Callable
from typing import Any

from chaos.simulation.loop import VirtualLoop
from chaos.simulation.network import ConnectionLost, Edge, NotConnected
from fakes.faults import Nemesis
from fakes.history import Event, GenerationEnded, GenerationStarted, History, ReplicaExited, ReplicaStarted
from fakes.ids import Ids
from fakes.llm.brain import answer
from fakes.llm.client import GenerateError
from fakes.llm.conversation import BadRequest, Conversation, read
from fakes.llm.profiles import named
from fakes.llm.router import ATTEMPTS, HANDOVERS
from fakes.llm.serving import OOM_KILLED

RESTART_AFTER = 0.5
"""Seconds from a replica's exit to its next start."""
BOOT = 0.05
"""Seconds from a replica's start until it answers."""
PATIENCE = 10.0
"""Seconds that the router waits for a healthy replica."""
TRIES = 5
"""How often the fake Assistants API asks the router for one generation."""


@dataclasses.dataclass(slots=True, eq=False)
class Replica:
    """One replica. `doing` are the generations that end with it."""

    name: str
    life: int = 0
    up: bool = False
    paused_until: float = 0.0
    doing: dict[asyncio.Future[None], None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """What goes over the edge to the serving layer."""

    data: dict[str, Any]
    body: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What comes back: a chat completion, or an HTTP error status and its message."""

    data: dict[str, Any]
    status: int = 200
    body: bytes = b""


class SimulatedServing:
    """The router and its replicas.

    Args:
        profile: name of a latency profile.
        wall: unix time in seconds.
    """

    def __init__(
        self, history: History, nemesis: Nemesis, loop: VirtualLoop, *,
        replicas: int, profile: str, seed: int, wall: Callable[[], float],
    ) -> None:
        self._history = history
        self._nemesis = nemesis
        self._loop = loop
        self._latency = named(profile)
        self._dice = random.Random(f"{seed}/llm-latency")
        self._ids = Ids(seed, "llm-router")
        self._wall = wall
        self._replicas = {name: Replica(name) for name in (f"serve-llm-{n}" for n in range(1, replicas + 1))}
        self._turn = 0
        self._changed = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._context = contextvars.Context()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all replicas, in order."""
        return tuple(self._replicas)

    @property
    def healthy(self) -> list[Replica]:
        """The replicas that are up, in order. A paused one counts: nobody has noticed."""
        return [replica for replica in self._replicas.values() if replica.up]

    def start(self) -> None:
        """Every replica is up."""
        for replica in self._replicas.values():
            self._up(replica)

    # --- faults ---------------------------------------------------------------------------------------------------------

    async def kill(self, name: str) -> bool:
        """End a replica with what it is doing; False when it was down already. It comes back after a while."""
        return self._down(self._replicas[name], OOM_KILLED, "OOMKilled", RESTART_AFTER)

    async def restart(self, name: str) -> None:
        """End a replica in good order and start it again at once; returns when it is up."""
        replica = self._replicas[name]
        self._down(replica, 0, "Completed", 0.0)
        while not replica.up:
            await self._changed.wait()

    async def pause(self, name: str, seconds: float) -> None:
        """Have a replica stand still; returns when it goes on."""
        replica = self._replicas[name]
        replica.paused_until = max(replica.paused_until, self._loop.time() + seconds)
        await asyncio.sleep(seconds)

    async def wait_healthy(self, count: int | None = None, timeout: float = 10.0) -> bool:
        """Wait until at least `count` replicas (default: all) are up; False when they are not within `timeout` seconds."""
        wanted = len(self._replicas) if count is None else count
        try:
            async with asyncio.timeout(timeout):
                while len(self.healthy) < wanted:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _up(self, replica: Replica) -> None:
        replica.life += 1
        replica.up = True
        replica.paused_until = 0.0
        self._tell(ReplicaStarted, replica=replica.name, life=replica.life)
        self._notify()

    def _down(self, replica: Replica, code: int, reason: str, restart_after: float) -> bool:
        if not replica.up:
            return False
        replica.up = False
        for doing in replica.doing:
            _done(doing)
        self._tell(ReplicaExited, replica=replica.name, life=replica.life, code=code, reason=reason)
        self._loop.call_later(restart_after + BOOT, self._up, replica, context=self._context)
        self._notify()
        return True

    # --- generations ----------------------------------------------------------------------------------------------------

    async def generate(self, prompt: Prompt) -> Completion:
        """Do one generation, again on another replica when it was lost."""
        try:
            conversation = read(prompt.data)
            completion = answer(conversation, created=int(self._wall()))
        except BadRequest as error:
            return Completion(error.body(), 400)
        request_id = self._ids.new("req")
        attempt, tried = 1, list[str]()
        for _ in range(HANDOVERS):
            replica = await self._pick(tried)
            if replica is None:
                return _unavailable(f"no replica was healthy for {PATIENCE:g} s")
            tried.append(replica.name)
            if await self._try(replica, request_id, attempt, conversation, completion):
                return Completion(completion)
            attempt += 1
            if attempt > ATTEMPTS:
                break
        return _unavailable(f"the generation was lost {attempt - 1} times")

    async def _pick(self, tried: list[str]) -> Replica | None:
        """The next healthy replica in turn, one that was not tried for this request where there is one."""
        if not self.healthy and not await self.wait_healthy(1, PATIENCE):
            return None
        healthy = self.healthy
        fresh = [r for r in healthy if r.name not in tried] or healthy
        self._turn += 1
        return fresh[self._turn % len(fresh)]

    async def _try(
        self, replica: Replica, request_id: str, attempt: int, conversation: Conversation, completion: dict[str, Any]
    ) -> bool:
        """Generate once; False when it was lost."""
        life = replica.life
        told = {
            "request_id": request_id, "replica": replica.name, "attempt": attempt, "run_id": conversation.run_id,
            "conversation": conversation.conversation_id,
        }
        faults = await self._nemesis.at(self._history.record(GenerationStarted, **told))
        ttft, itl = self._latency.draw(self._dice)
        await self._work(replica, life, ttft + itl * (completion["usage"]["completion_tokens"] - 1))
        lost = not replica.up or replica.life != life
        for fault in faults:
            if fault.name == "lose_generation":
                fault.injected(f"the answer of {replica.name} to {request_id} was thrown away")
                lost = True
        await self._nemesis.at(self._history.record(GenerationEnded, outcome="lost" if lost else "ok", **told))
        return not lost

    async def _work(self, replica: Replica, life: int, seconds: float) -> None:
        """Take one's time, which ends early with the replica's life, and waits with its pauses."""
        while replica.up and replica.life == life and seconds > 0:
            doing: asyncio.Future[None] = self._loop.create_future()
            replica.doing[doing] = None
            timer = self._loop.call_later(seconds, _done, doing)
            await doing
            timer.cancel()
            del replica.doing[doing]
            seconds = replica.paused_until - self._loop.time()

    # --- plumbing -------------------------------------------------------------------------------------------------------

    def _tell(self, cls: type[Event], **fields: Any) -> None:
        event = self._history.record(cls, **fields)

        async def ask() -> None:
            await self._nemesis.at(event)

        task = self._loop.create_task(ask(), context=self._context)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class EdgeGenerate:
    """What the fake Assistants API asks: over the llm edge, with the repeats of `fakes.llm.client`."""

    def __init__(self, edge: Callable[[], Edge]) -> None:
        self._edge = edge

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Generate. Raises GenerateError after a 4xx at once, otherwise when every attempt failed."""
        error = GenerateError("not tried")
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(min(1.0, 0.1 * 2 ** (attempt - 1)))
            try:
                answered: Completion = await self._edge().ask(Prompt(body), 60.0)
            except (NotConnected, ConnectionLost) as failed:
                error = GenerateError(f"the serving layer: {failed}")
                continue
            if answered.status == 200:
                return answered.data
            error = GenerateError(f"the serving layer: HTTP {answered.status}: {answered.data}", answered.status)
            if answered.status < 500:
                break
        raise error


def _done(doing: asyncio.Future[None]) -> None:
    if not doing.done():
        doing.set_result(None)


def _unavailable(message: str) -> Completion:
    return Completion({"error": {"message": message, "type": "server_error", "code": "unavailable"}}, 503)
