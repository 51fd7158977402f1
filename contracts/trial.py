"""A trial: a case that was run in one of the two worlds, and the judgement of what happened."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from chaos.containers.chamber import chamber as chamber_of
from chaos.simulation import simulate
from chaos.simulation.imports import prepare
from chaos.simulation.settings import Settings as SimulationSettings
from chaos.wire.settings import Coordinator as Started
from chaos.wire.settings import Settings as WireSettings
from contracts.case import Case
from contracts.result import Violation
from contracts.verdict import Judgement, judge
from fakes.faults import FAKE_FAULTS
from fakes.history import Event

IN_FLIGHT = 32
"""How many turns run at once on the wire."""
SIMULATED_ONLY = ("clock_skew", "replica_lag")


class OutOfTime(Exception):
    """A runner has no time left: what was being tried is not judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One case that was run. `violations` are those of this case; a judgement on the wire is over a whole batch.

    `among` is the case together with those of its batch whose faults were everybody's, where there were any.
    """

    case: Case
    judgement: Judgement
    violations: tuple[Violation, ...]
    events: Sequence[Event] = dataclasses.field(repr=False)
    among: Case | None = None

    def breaks(self, target: Violation) -> bool:
        """Whether it breaks the same contract in the same way."""
        return any(violation.like(target) for violation in self.violations)


class Runner(Protocol):
    """A world in which cases can be tried, so many at once as a `batch` holds."""

    world: str
    batch: int

    def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
        """Try the cases, and give the trials in their order, each as it is asked for where they are not tried together.

        `apart`: no case may be disturbed by the faults of another one.
        """
        ...


class InSimulation:
    """Tries cases in virtual time, one at a time.

    Args:
        coordinator: the thing itself, or another word for it; the case's word when left out. Raises BadCoordinator.
        more: further settings of the simulation.
    """

    world = "simulation"
    batch = 1

    def __init__(self, coordinator: object = None, **more: Any) -> None:
        self._coordinator = None if coordinator is None else prepare(coordinator, more.get("environ"))
        self._more = more

    @property
    def label(self) -> str | None:
        """What the coordinator is called, where it was given."""
        return self._coordinator.label if self._coordinator is not None else None

    def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
        """Raises SimulationError when the coordinator cannot be run in the simulation."""
        for case in cases:
            yield self.run(case)

    def run(self, case: Case) -> Trial:
        """One case."""
        bound = case.bound()
        more: dict[str, Any] = {**self._more, **case.settings}
        settings = SimulationSettings(
            coordinator=self._coordinator or case.coordinator, gateway=case.profile, seed=case.seed,
            instances=case.instances, repeat_submit=case.repeat_submit, **more,
        )
        history = simulate(settings, [turn for turn, _ in bound], [plan for _, plan in bound if plan.rules])
        judgement = _judge(case, history.events)
        return Trial(case, judgement, judgement.violations, history.events)


class OnWire:
    """Tries cases on real processes and sockets: one chamber for a batch, all its cases in flight in it together.

    Args:
        coordinator: how it is started.
        run: what runs a coroutine to its end.
        say: told what is amiss.
        more: further settings of the chamber.
    """

    world = "wire"

    def __init__(
        self, coordinator: Started, *, batch: int = 32, run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run,
        say: Callable[[str], None] = lambda line: None, **more: Any,
    ) -> None:
        self.batch = batch
        self._coordinator = coordinator
        self._run = run
        self._say = say
        self._more = more

    def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
        """Cases that differ in more than turns, rules and seed are tried in chambers of their own. Raises WireError."""
        together: list[Case] = []
        for case in cases:
            if together and not self._fits(case, together, apart):
                yield from self._run(self._together(together))
                together = []
            together.append(case)
        if together:
            yield from self._run(self._together(together))

    def _fits(self, case: Case, together: Sequence[Case], apart: bool) -> bool:
        first = together[0]
        alike = dataclasses.replace(case, turns=first.turns, seed=first.seed).key == first.key
        return alike and len(together) < self.batch and not (apart and (_disturbs(case) or _disturbs(first)))

    async def _together(self, cases: Sequence[Case]) -> list[Trial]:
        first = cases[0]
        more = {**self._more, **{k: v for k, v in first.settings.items() if k not in SIMULATED_ONLY}}
        settings = WireSettings(
            coordinator=self._coordinator, gateway=first.profile, seed=first.seed, instances=first.instances,
            repeat_submit=first.repeat_submit, in_flight=IN_FLIGHT, **more,
        )
        owner: dict[str, int] = {}
        async with chamber_of(settings, say=self._say) as chamber:
            turns = []
            for number, case in enumerate(cases):
                for turn, plan in case.bound(salt=f"{number}x" if len(cases) > 1 else ""):
                    chamber.nemesis.arm(plan, {turn.conversation_id})
                    owner[turn.conversation_id] = number
                    turns.append(turn)
            await chamber.run(turns)
            await chamber.quiesce()
        events = chamber.history.events
        judgement = _judge(first, events)
        found: dict[int, list[Violation]] = {}
        for violation in judgement.violations:
            for number in {owner[c] for c in _conversations(violation, events) if c in owner}:
                found.setdefault(number, []).append(violation)
        return [
            Trial(case, judgement, tuple(found.get(n, ())), events, _among(case, cases) if n in found else None)
            for n, case in enumerate(cases)
        ]


def _disturbs(case: Case) -> bool:
    """Whether it has a fault that is everybody's."""
    return any(do.fault not in FAKE_FAULTS for rule in case.rules for do in rule.do)


def _among(case: Case, cases: Sequence[Case]) -> Case | None:
    """The case with those beside it that disturb others."""
    turns = [turn for other in cases if other is not case and _disturbs(other) for turn in other.turns]
    return dataclasses.replace(case, turns=(*case.turns, *turns)) if turns else None


def _judge(case: Case, events: Sequence[Event]) -> Judgement:
    return judge(events, case.profile, wanted=list(case.demand) or None, retry_budget=case.retry_budget)


def _conversations(violation: Violation, events: Sequence[Event]) -> set[str]:
    """The conversations that a violation is about; events are numbered from 1 without gaps."""
    return {c for seq in violation.events if 0 < seq <= len(events) and (c := events[seq - 1].conversation) is not None}
