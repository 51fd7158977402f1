"""A load: one coordinator under arrivals that do not wait for it, or two in turn; healthy, broken, and recovering."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from chaos.containers import chamber as containers
from chaos.plan import Plan
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, Settings
from fakes.history import Event, FaultHealed, FaultInjected
from load.driver import LoadDriver
from load.measure import Phase, Series
from load.process import Locust, Order
from load.timetable import Stage
from load.usage import Usage

ALL_DOWN = 10.0
"""Seconds without a single instance that is ready, after which a coordinator counts as dead."""
DRAIN = 3.0
"""Seconds that open turns have to end before the other coordinator has its turn."""
LOOK = 0.1
"""Seconds between two looks at how many turns are open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a load. `settings` say everything but how turns arrive, which `locust` says.

    `share` of the conversations that begin while a plan is in force are bound to it.
    """

    settings: Settings
    locust: Order
    stages: Sequence[Stage]
    other: Coordinator | None = None
    share: float = 1.0
    reproduce: str = ""


class Share:
    """A share of all conversations: always the same ones for the same seed, none of them known beforehand."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._seed = seed

    def __contains__(self, conversation: object) -> bool:
        digest = hashlib.blake2b(f"{self._seed}/{conversation}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) < self._share * 2**32


class Side:
    """One coordinator in its chamber, with a Locust of its own."""

    def __init__(self, settings: Settings, load: Load, observer: Observer) -> None:
        self.settings = settings
        self.label = settings.coordinator.label
        self._load = load
        self._observer = observer
        self.series = Series(time.time())
        self.http: list[dict[str, Any]] = []
        self.last_fault = 0.0
        self.at_rest: bool | None = None
        self.chamber: Chamber
        self.locust: Locust
        self.driver: LoadDriver

    @property
    def history(self) -> Path:
        """The file of its history."""
        assert self.settings.report_dir is not None
        return self.settings.report_dir / "history.jsonl"

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[Side]:
        """Everything of it is started, and given back."""
        header = {
            "reproduce": self._load.reproduce, "plans": [p.to_json() for p in self._plans()], "explicit": True, "load": True,
            "versions": {"anechoic": importlib.metadata.version("anechoic"), "python": platform.python_version()},
        }
        chamber = containers.chamber(self.settings, header=header, say=self._observer.say)
        chamber.history.subscribe(self._notice)
        async with chamber:
            self.chamber = chamber
            urls = {instance.url: instance.name for instance in chamber.instances.all}
            self.driver = LoadDriver(
                chamber.history, chamber.nemesis, chamber.http, urls,
                due=self.series.due, ended=self.series.ended, dropped=self.series.dropped,
            )
            chamber.take_over(self.driver)
            order = dataclasses.replace(
                self._load.locust, urls=tuple(urls),
                options={
                    **self._load.locust.options, "turn_seed": self.settings.seed, "turn_budget": self.settings.turn_budget,
                },
            )
            async with Locust(order, self.driver.told, chamber.logs) as self.locust:
                yield self

    async def stage(self, stage: Stage) -> None:
        """Go through one stage."""
        phase = Phase(stage.kind, time.time() - self.series.zero, stage.rate, stage.plan.name if stage.plan else None)
        self.series.phases.append(phase)
        if stage.plan is not None:
            self.driver.plans, self.driver.hit = (stage.plan.name,), Share(self._load.share, self.settings.seed)
            self.chamber.nemesis.restart_clock()
            self.chamber.nemesis.arm(stage.plan, None if self._load.share >= 1 else self.driver.hit)
        await self.locust.rate(stage.rate)
        await self.watched(stage.seconds)
        if stage.plan is not None:
            self.driver.plans = ()
            await self.chamber.nemesis.relieve()
            phase.calm = max(phase.start, self.last_fault)
        phase.end = time.time() - self.series.zero

    async def watched(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let it run for a while. Raises WireError when a part that is needed goes away for good."""
        await self.chamber.while_whole(self._watched(seconds, until))

    async def drain(self, seconds: float) -> None:
        """No further arrivals; wait for the turns that are open."""
        await self.locust.rate(0)
        await self.watched(seconds, until=lambda: not self.driver.open)

    async def finish(self) -> None:
        """Stop arrivals, heal, come to rest, and keep what Locust has counted."""
        await self.drain(self.settings.turn_budget)
        self.at_rest = await self.chamber.quiesce()
        self.http = await self.locust.stop()

    def _plans(self) -> list[Plan]:
        return list({stage.plan.name: stage.plan for stage in self._load.stages if stage.plan is not None}.values())

    def _notice(self, event: Event) -> None:
        if isinstance(event, FaultInjected | FaultHealed):
            self.last_fault = time.time() - self.series.zero
        self._observer.event(event)

    async def _watched(self, seconds: float, until: Callable[[], bool]) -> None:
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


class Observer:
    """What a load tells while it runs; the command line draws it."""

    def started(self, sides: Sequence[Side]) -> None:
        """Everything is up."""

    def stage(self, side: Side, stage: Stage) -> None:
        """A stage begins."""

    def tick(self, side: Side) -> None:
        """A moment has passed."""

    def event(self, event: Event) -> None:
        """One more event of the history."""

    def phase(self, text: str) -> None:
        """What is being done now, besides stages."""

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of it, also when it ended before its time: then `broke` says why."""

    sides: list[Side]
    usage: Usage
    tasks_at_first: int = 0
    tasks: int = 0
    broke: str | None = None
    cpu: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    """CPU seconds of each role while a phase lasted, by id() of the phase"""


async def run(load: Load, outcome: Outcome, observer: Observer) -> None:
    """Go through all stages, filling in the outcome. Raises WireError where it could not even begin."""
    observer.phase("starting fakes, proxies, coordinators and Locust")
    async with contextlib.AsyncExitStack() as stack:
        for side in outcome.sides:
            await stack.enter_async_context(side.up())
        zero = time.time()
        for side in outcome.sides:
            side.series.zero = zero
        outcome.usage.look()
        outcome.tasks_at_first = len(asyncio.all_tasks())
        watching = asyncio.ensure_future(outcome.usage.watch())
        stack.callback(watching.cancel)
        observer.started(outcome.sides)
        try:
            await _stages(load, outcome, observer)
            observer.phase("quiesce")
            await asyncio.gather(*(side.finish() for side in outcome.sides))
        except WireError as error:
            outcome.broke = str(error)
            observer.say(str(error))
        outcome.usage.look()
        outcome.tasks = len(asyncio.all_tasks())
        observer.phase("stopping")


async def _stages(load: Load, outcome: Outcome, observer: Observer) -> None:
    for number, stage in enumerate(load.stages):
        side = outcome.sides[stage.side]
        observer.stage(side, stage)
        outcome.usage.look()
        before = {name: role.cpu for name, role in outcome.usage.roles.items()}
        await side.stage(stage)
        others_next = number + 1 < len(load.stages) and load.stages[number + 1].side != stage.side
        if others_next:
            await side.drain(DRAIN)
        outcome.usage.look()
        outcome.cpu[id(side.series.phases[-1])] = {
            name: role.cpu - before.get(name, 0.0) for name, role in outcome.usage.roles.items()
        }


def begin(load: Load, observer: Observer, folder: Path) -> Outcome:
    """The outcome, as yet empty. Histories go into `folder`, one directory for each side where there are two."""
    sides: list[Side] = []
    for letter, coordinator in zip("ab", filter(None, (load.settings.coordinator, load.other)), strict=False):
        where = folder / letter if load.other is not None else folder
        sides.append(Side(dataclasses.replace(load.settings, coordinator=coordinator, report_dir=where), load, observer))
    zero = time.monotonic()
    return Outcome(sides, Usage(lambda: _roles(sides), lambda: time.monotonic() - zero))


def _roles(sides: Sequence[Side]) -> Mapping[str, Sequence[int]]:
    roles: dict[str, list[int]] = {"harness: fakes, proxies, history": [os.getpid()]}
    for side in sides:
        if not hasattr(side, "locust"):
            continue
        roles.setdefault("locust", []).extend(side.locust.pids)
        roles.setdefault("harness: LLM replicas", []).extend(side.chamber.backends.serving.pids)
        units = [i.process.pid for i in side.chamber.instances.all if i.process is not None and i.process.pid is not None]
        roles[f"coordinator: {side.label}"] = [pid for unit in units for pid in _family(unit)]
    return roles


def _family(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


@contextlib.contextmanager
def folder_for(given: Path | None) -> Any:
    """Where histories go: the report directory, or a temporary one that is removed."""
    if given is not None:
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="anechoic-load-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
