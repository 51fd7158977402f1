"""One side of a load: a coordinator in its chamber, with a Locust in front of it that is turned up and down."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from chaos.containers import chamber as containers
from chaos.plan import Plan
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings
from fakes.history import Event, FaultHealed, FaultInjected
from load.driver import LoadDriver
from load.measure import Phase, Series
from load.process import Locust, Order
from load.tally import Tally
from load.timetable import Stage

ALL_DOWN = 10.0
"""Seconds without a single instance that is ready, after which a coordinator counts as dead."""
LOOK = 0.1
"""Seconds between two looks at how many turns are open."""


class Observer:
    """What a load tells while it runs; the command line draws it."""

    def started(self, sides: Sequence[Side]) -> None:
        """Everything is up."""

    def stage(self, side: Side, stage: Stage) -> None:
        """A stage begins."""

    def tick(self, side: Side) -> None:
        """A moment has passed."""

    def phase(self, text: str) -> None:
        """What is being done now, besides stages."""

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""


class Share:
    """A share of all conversations: always the same ones for the same seed, none of them known beforehand."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._seed = seed

    def __contains__(self, conversation: object) -> bool:
        digest = hashlib.blake2b(f"{self._seed}/{conversation}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) < self._share * 2**32


class Side:
    """One coordinator under load. Its settings need a report directory, for the history.

    Args:
        plans: what is broken in some stage, for the history's first line.
        share: the share of the conversations that begin while a plan is in force that are bound to it.
        reproduce: the command that does it again.
        role: what its processes are called in tables of usage.
    """

    def __init__(
        self, settings: Settings, order: Order, observer: Observer, *, plans: Sequence[Plan] = (), share: float = 1.0,
        reproduce: str = "", role: str = "coordinator",
    ) -> None:
        self.settings = settings
        self.label = settings.coordinator.label
        self.role = role
        self.plans = plans
        self.series = Series(time.time())
        self.tally = Tally()
        self.http: list[dict[str, Any]] = []
        """the rows of Locust's table, at the end"""
        self.at_rest: bool | None = None
        self.chamber: Chamber
        self.locust: Locust | None = None
        self.driver: LoadDriver
        self._order = order
        self._observer = observer
        self._hit = None if share >= 1 else Share(share, settings.seed)
        self._reproduce = reproduce
        self._last_fault = 0.0

    @property
    def history(self) -> Path:
        """The file of its history."""
        assert self.settings.report_dir is not None
        return self.settings.report_dir / "history.jsonl"

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Everything of it is started, and given back. Raises WireError."""
        header = {
            "reproduce": self._reproduce, "plans": [p.to_json() for p in self.plans], "explicit": True, "load": True,
            "versions": {"anechoic": importlib.metadata.version("anechoic"), "python": platform.python_version()},
        }
        chamber = containers.chamber(self.settings, header=header, say=self._observer.say)
        chamber.history.subscribe(self._notice)
        chamber.history.subscribe(self.tally)
        async with chamber:
            self.chamber = chamber
            urls = {instance.url: instance.name for instance in chamber.instances.all}
            self.driver = LoadDriver(
                chamber.history, chamber.nemesis, chamber.http, urls,
                due=lambda at: self.series.due(at), ended=lambda turn: self.series.ended(turn),
                dropped=lambda at: self.series.dropped(at),
            )
            chamber.take_over(self.driver)
            told = {"turn_seed": self.settings.seed, "turn_budget": self.settings.turn_budget}
            order = dataclasses.replace(self._order, urls=tuple(urls), options={**self._order.options, **told})
            async with Locust(order, self.driver.told, chamber.logs) as self.locust:
                yield

    async def stage(self, stage: Stage) -> None:
        """Go through one stage. Raises WireError when a part that is needed goes away for good."""
        assert self.locust is not None
        phase = Phase(stage.kind, time.time() - self.series.zero, stage.rate, stage.plan.name if stage.plan else None)
        self.series.phases.append(phase)
        if stage.plan is not None:
            self.driver.plans, self.driver.hit = (stage.plan.name,), self._hit
            self.chamber.nemesis.restart_clock()
            self.chamber.nemesis.arm(stage.plan, self._hit)
        await self.locust.rate(stage.rate)
        await self._watch(stage.seconds)
        if stage.plan is not None:
            self.driver.plans = ()
            await self.chamber.nemesis.relieve()
            phase.calm = max(phase.start, self._last_fault)
        phase.end = time.time() - self.series.zero

    async def drain(self, seconds: float) -> None:
        """No further arrivals; wait for the turns that are open."""
        assert self.locust is not None
        await self.locust.rate(0)
        await self._watch(seconds, until=lambda: not self.driver.open)

    async def finish(self) -> None:
        """Stop arrivals, heal, come to rest, and keep what Locust has counted."""
        assert self.locust is not None
        await self.drain(self.settings.turn_budget)
        self.at_rest = await self.chamber.quiesce()
        self.http = await self.locust.stop()

    def _notice(self, event: Event) -> None:
        if isinstance(event, FaultInjected | FaultHealed):
            self._last_fault = time.time() - self.series.zero

    async def _watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        await self.chamber.while_whole(self._look(seconds, until))

    async def _look(self, seconds: float, until: Callable[[], bool]) -> None:
        assert self.locust is not None
        loop = asyncio.get_running_loop()
        end, alive = loop.time() + seconds, loop.time()
        while (now := loop.time()) < end and not until():
            self.series.opened(time.time(), self.driver.open)
            self._observer.tick(self)
            if self.locust.lost.done():
                await self.locust.lost
            if self.chamber.nemesis.lasting or any(instance.ready.is_set() for instance in self.chamber.instances.all):
                alive = now
            elif now - alive > ALL_DOWN:
                raise WireError(
                    f"no instance of {self.label} has been ready for {ALL_DOWN:g} s, and no fault is the reason.\n  "
                    + "\n  ".join(self.chamber.troubles[-1:])
                )
            await asyncio.sleep(min(LOOK, max(0.0, end - now)))
