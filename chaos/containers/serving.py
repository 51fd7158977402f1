"""The serving replicas where each is a container: OOM-killed for real, and restarted by the engine's own policy."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from chaos.containers.container import Container
from chaos.containers.engine import EngineError
from fakes.faults import Nemesis
from fakes.history import History
from fakes.llm.serving import Place, Serving, ServingError


class ContainerServing(Serving):
    """The fleet, under the names of its containers' services.

    Args:
        containers: by the replica's name, with the address at which it answers.
        http: asks each replica whether it is ready.
    """

    def __init__(
        self, history: History, nemesis: Nemesis, containers: Mapping[str, tuple[Container, str]], http: aiohttp.ClientSession,
        *, log: Callable[[str], None],
    ) -> None:
        super().__init__(history, nemesis, seed=0, names=list(containers), log=log)
        self._containers = {name: container for name, (container, _) in containers.items()}
        self._urls = {name: url for name, (_, url) in containers.items()}
        self._http = http
        self._dying: set[str] = set()

    @property
    def pids(self) -> list[int]:
        """None: they run in containers."""
        return []

    async def start(self, timeout: float = 60.0) -> None:
        """Start every replica, or find it running; returns when all answer. Raises ServingError after `timeout` seconds."""
        for place in self._places.values():
            self._start(place)
        try:
            if not await self.wait_healthy(len(self._places), timeout):
                down = next(p for p in self._places.values() if p.up is None)
                raise ServingError(self._failure or f"{down.name} was not up after {timeout:g} s; {self._why(down)}")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Give every container back as it was found, running; safe to call twice."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for container in self._containers.values():
            await container.give_back()

    async def kill(self, which: int | str) -> bool:
        """OOM-kill one replica; returns when it is gone. Raises OSError when it did not come to an OOM kill.

        False when it was down already, or is being killed by another one.
        """
        place = self._find(which)
        if place.up is None or place.name in self._dying:
            return False
        self._dying.add(place.name)
        try:
            return await self._kill(place)
        finally:
            self._dying.discard(place.name)

    async def _kill(self, place: Place) -> bool:
        await self._containers[place.name].kill_by_oom()
        await self._until(lambda: place.up is None)
        return True

    def unit(self, which: str) -> Container:
        """The container of a replica."""
        return self._containers[self._find(which).name]

    async def pause(self, which: int | str, seconds: float) -> None:
        """Freeze one replica for `seconds`; returns when it goes on."""
        container = self._containers[self._find(which).name]
        if not await container.pause():
            return
        try:
            await asyncio.sleep(seconds)
        finally:
            await container.resume()

    def _start(self, place: Place) -> None:
        place.life += 1
        place.at_once = False
        self._spawn(self._live(place))

    def _signal(self, pid: int | None, number: signal.Signals) -> None:
        place = next(p for p in self._places.values() if p.pid == pid)
        if number == signal.SIGTERM:
            self._spawn(self._terminate(place))

    async def _terminate(self, place: Place) -> None:
        await self._containers[place.name].terminate(5)

    async def _live(self, place: Place) -> None:
        """One life: started, waited for, announced, and its end reported."""
        container = self._containers[place.name]
        await container.start()
        ended: asyncio.Future[Any] = asyncio.ensure_future(container.wait())
        ready = asyncio.ensure_future(self._ready(place))
        try:
            await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not ended.done():
                self._on_ready(place, list(self._places).index(place.name) + 1, self._urls[place.name])
                self._notify()
            self._on_exited(place, await ended)
            self._notify()
        finally:
            ended.cancel()
            ready.cancel()

    async def _ready(self, place: Place) -> None:
        while True:
            try:
                async with self._http.get(f"{self._urls[place.name]}/health", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.05)

    def _why(self, place: Place) -> str:
        try:
            words = self._containers[place.name].last_words()
        except EngineError as error:
            words = str(error)
        return f"the last lines of its log:\n{words}"
