"""A load: one coordinator under arrivals that do not wait for it, or two in turn; healthy, broken, and recovering."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from chaos.plan import Plan
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, Settings
from load import ceiling
from load.process import Order
from load.side import Observer, Side
from load.timetable import Stage
from load.usage import Usage

DRAIN = 3.0
"""Seconds that open turns have to end before the other coordinator has its turn."""
HARNESS = "harness: fakes, proxies, history"
REPLICAS = "harness: LLM replicas"
LOCUST = "locust"


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a load. `settings` say everything but how turns arrive, which `order` says.

    With `search` the highest rate is looked for, and `stages` are not gone through.
    """

    settings: Settings
    order: Order
    stages: Sequence[Stage] = ()
    search: ceiling.Search | None = None
    other: Coordinator | None = None
    share: float = 1.0
    reproduce: str = ""

    @property
    def plans(self) -> list[Plan]:
        """What is broken in some stage."""
        return list({stage.plan.name: stage.plan for stage in self.stages if stage.plan is not None}.values())


class Run:
    """A load as it goes, and what came of it, also where it ended before its time: then `broke` says why.

    Args:
        folder: where the histories go; one directory for each coordinator, `a` and `b`, where there are two.
    """

    def __init__(self, load: Load, observer: Observer, folder: Path) -> None:
        self.load = load
        self._observer = observer
        self.sides: list[Side] = []
        for letter, coordinator in zip("ab", filter(None, (load.settings.coordinator, load.other)), strict=False):
            settings = dataclasses.replace(
                load.settings, coordinator=coordinator, report_dir=folder / letter if load.other is not None else folder,
                keep_events=False,
            )
            self.sides.append(
                Side(
                    settings, load.order, observer, plans=load.plans, share=load.share, reproduce=load.reproduce,
                    role=f"coordinator {letter if load.other is not None else ''}".strip() + f": {coordinator.label}",
                )
            )
        began = time.monotonic()
        self.usage = Usage(self._roles, lambda: time.monotonic() - began)
        self.steps: list[ceiling.Step] = []
        self.tasks_at_first = self.tasks = 0
        self.broke: str | None = None
        self.complete = False

    async def go(self) -> None:
        """All of it. Raises WireError where it could not even begin."""
        self._observer.phase("starting fakes, proxies, coordinators and Locust")
        async with contextlib.AsyncExitStack() as stack:
            for side in self.sides:
                await stack.enter_async_context(side.up())
            zero = time.time()
            for side in self.sides:
                side.series.zero = zero
            self.usage.look()
            self.tasks_at_first = len(asyncio.all_tasks())
            watching = asyncio.ensure_future(self.usage.watch())
            stack.callback(watching.cancel)
            self._observer.started(self.sides)
            try:
                if self.load.search is not None:
                    self.steps = await ceiling.find(self.sides[0], self.load.search, self._observer, self._measured)
                else:
                    await self._stages()
                self._observer.phase("quiesce")
                await asyncio.gather(*(side.finish() for side in self.sides))
                self.complete = True
            except WireError as error:
                self.broke = str(error)
                self._observer.say(str(error))
            self.usage.look()
            self.tasks = len(asyncio.all_tasks()) - 1  # but for the one that looks at usage
            self._observer.phase("stopping")

    async def _stages(self) -> None:
        stages = self.load.stages
        for number, stage in enumerate(stages):
            side = self.sides[stage.side]
            self._observer.stage(side, stage)
            with self._measured(side):
                await side.stage(stage)
                if number + 1 < len(stages) and stages[number + 1].side != stage.side:
                    await side.drain(DRAIN)

    @contextlib.contextmanager
    def _measured(self, side: Side) -> Iterator[None]:
        """The phase that begins and ends herein gets the CPU time that was used meanwhile."""
        self.usage.look()
        before = {name: role.cpu for name, role in self.usage.roles.items()}
        yield
        self.usage.look()
        side.series.phases[-1].cpu = {name: role.cpu - before.get(name, 0.0) for name, role in self.usage.roles.items()}

    def _roles(self) -> Mapping[str, Sequence[int]]:
        roles: dict[str, list[int]] = {HARNESS: [os.getpid()], REPLICAS: [], LOCUST: []}
        for side in self.sides:
            if side.locust is None:
                continue
            roles[LOCUST] += side.locust.pids
            roles[REPLICAS] += side.chamber.backends.serving.pids
            units = [i.process.pid for i in side.chamber.instances.all if i.process is not None and i.process.pid is not None]
            roles[side.role] = [pid for unit in units for pid in _family(unit)]
        return roles


def _family(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except (psutil.Error, OSError):
        return []
