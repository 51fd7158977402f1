"""Contracts as tests: `contract_test` makes a test function for pytest out of a coordinator.

    from anechoic import contract_test

    test_contracts = contract_test("my_package.app:create_app", gateway="keyed")
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from anechoic import gate, search
from anechoic.live import plan_of
from chaos.plan import Plan, PlanError
from chaos.simulation.errors import SimulationError
from chaos.simulation.settings import Settings as SimulationSettings
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, by_command, by_name
from chaos.wire.settings import Settings as WireSettings
from chaos.words import unknown
from contracts.case import REPEATS
from contracts.counterexample import WORLDS, Counterexample
from contracts.profiles import demand
from contracts.property import Found, Survived, broken
from contracts.property import search as hunt
from contracts.story import story
from contracts.trial import InSimulation, OnWire
from contracts.verdict import Judgement, Verdict
from fakes import loop
from fakes.gateway.profile import PROFILES, Profile

EXAMPLES = 100
TURNS = 60
STORIES = 3
"""Of so many violations of different kinds the story is told."""
_OWN = {"coordinator", "gateway", "seed", "instances", "environ", "repeat_submit", "report_dir", "sink"}
"""Settings that have a parameter of their own, or none."""


class Undecided(AssertionError):
    """Nothing was proven: the run was invalid or vacuous, or something could not be decided. The message says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What one contract test is about; `contract_test` describes the fields."""

    coordinator: object
    command: str | None
    gateway: Profile
    world: str
    examples: int | None
    turns: int
    plans: tuple[Plan, ...] | None
    contracts: tuple[str, ...]
    fixed: Mapping[str, Any]
    max_time: float | None
    derandomize: bool
    environ: Mapping[str, str]
    more: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What the coordinator is called."""
        if self.command is not None:
            return self.command
        if isinstance(self.coordinator, str):
            return self.coordinator
        return str(getattr(self.coordinator, "__name__", self.coordinator))

    def started(self) -> Coordinator:
        """How instances are started on the wire. Raises WireError."""
        return by_command(self.command) if self.command is not None else by_name(str(self.coordinator))


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where and how one test runs: its seed, a folder of its own, and the line that runs it again."""

    seed: int
    folder: Path
    again: str


def contract_test(
    coordinator: object = None,
    *,
    command: str | None = None,
    gateway: str = "keyless",
    world: str | None = None,
    examples: int | None = None,
    turns: int | None = None,
    plans: Sequence[object] | None = None,
    seed: int | None = None,
    contracts: Sequence[str] = (),
    instances: int | None = None,
    repeat_submit: str | None = None,
    max_time: float | None = None,
    derandomize: bool = False,
    shards: int = 1,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> Callable[..., None]:
    """A test function that passes when every contract that the gateway makes possible holds.

    It fails with AssertionError: BrokenContract with the violation, its story and the line that runs it again, or Undecided
    where nothing was proven. Mistakes in the arguments are ValueError, when the test is made.

    Args:
        coordinator: `module:attribute`, the name of a reference coordinator, or the thing itself (a factory, an ASGI app, a
            class), run in the simulation.
        command: the command line that starts one instance, run on the wire.
        gateway: the gateway's profile.
        world: simulation or wire; by default what fits.
        examples: search: so many cases are drawn, and one that fails is made small. In the simulation always, by default 100.
        turns: on the wire, without `examples`: so many turns are delivered, by default 60.
        plans: on the wire, without `examples`: fault plans as `plan_of` takes them; the built-in set when left out.
        seed: fixed, instead of that of the session.
        contracts: what must hold, by default all that is possible.
        max_time: seconds after which no further example is begun.
        derandomize: the same examples in every run.
        shards: so many test items, each with a seed of its own, for pytest-xdist to distribute.
        environ: further environment of the coordinator.
        settings: further settings of the simulation or of the chamber, such as `poll_interval`.
    """
    if (coordinator is None) == (command is None):
        raise ValueError("give either a coordinator or a command")
    world = world or ("simulation" if command is None else "wire")
    if world not in WORLDS:
        raise ValueError(unknown("world", world, WORLDS))
    if world == "simulation" and command is not None:
        raise ValueError('a command names processes, which no simulation can run: give a coordinator, or world="wire"')
    if world == "wire" and command is None and not isinstance(coordinator, str):
        raise ValueError('an object cannot be started as a process: give command="...", or run it in the simulation')
    if (turns, plans) != (None, None) and (world == "simulation" or examples is not None):
        raise ValueError("a search draws turns and plans itself: give `examples`, or on the wire `turns` and `plans`")
    if gateway not in PROFILES:
        raise ValueError(unknown("gateway profile", gateway, PROFILES))
    if repeat_submit is not None and repeat_submit not in REPEATS:
        raise ValueError(unknown("repeat_submit", repeat_submit, REPEATS))
    for name, value in (("examples", examples), ("turns", turns), ("instances", instances), ("shards", shards)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if plans is not None and not plans:
        raise ValueError("plans is empty; leave it out for the built-in set, or give ['none'] where nothing is to break")
    demand(PROFILES[gateway], list(contracts) or None)
    record = SimulationSettings if world == "simulation" else WireSettings
    known = {field.name for field in dataclasses.fields(record)} - _OWN
    for name in settings:
        if name not in known:
            raise ValueError(unknown(f"setting of the {world}", name, known))
    fixed = {"instances": instances, "repeat_submit": repeat_submit}
    subject = Subject(
        coordinator=coordinator, command=command, gateway=PROFILES[gateway], world=world,
        examples=EXAMPLES if examples is None and world == "simulation" else examples,
        turns=TURNS if turns is None else turns,
        plans=None if plans is None else tuple(plan_of(p, f"plan-{n}") for n, p in enumerate(plans, 1)),
        contracts=tuple(contracts), fixed={k: v for k, v in fixed.items() if v is not None}, max_time=max_time,
        derandomize=derandomize, environ=dict(environ or {}), more=settings,
    )

    def test(request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        check(subject, _place(request, seed, None))

    def test_shard(request: pytest.FixtureRequest, shard: int) -> None:
        __tracebackhide__ = True
        check(subject, _place(request, seed, shard))

    made = test if shards == 1 else pytest.mark.parametrize("shard", range(shards))(test_shard)
    made.__doc__ = f"{subject.label} keeps its contracts at gateway {gateway}."
    return made


def check(subject: Subject, place: Place) -> None:
    """Run it. Raises BrokenContract or Undecided."""
    __tracebackhide__ = True
    print(f"anechoic: {subject.label} at gateway {subject.gateway.name}, {subject.world}, seed {place.seed}")
    try:
        if subject.examples is None:
            outcome: Judgement | Found | Survived = _gate(subject, place)
        else:
            outcome = _search(subject, place)
    except (SimulationError, WireError, PlanError, ToxiproxyError) as error:
        raise Undecided(f"invalid: {error}\nagain: {place.again}") from None
    if isinstance(outcome, Found):
        raise broken(outcome.violation, _found(subject, place, outcome))
    if isinstance(outcome, Survived):
        print(f"{outcome.examples} examples, {outcome.tally.calls} tool calls, {outcome.tally.fired} faults: {outcome.verdict}")
        if outcome.verdict is not Verdict.PASS:
            raise Undecided("\n".join([f"{outcome.verdict}: nothing was proven", *outcome.why, f"again: {place.again}"]))
        return
    print(", ".join(f"{count} {name}" for name, count in outcome.counts.items()))
    if outcome.verdict is not Verdict.PASS:
        told = f"{explain(outcome)}\nhistory: {place.folder / 'history.jsonl'}\nagain: {place.again}"
        if outcome.violations:  # the exception begins with the first one by itself
            raise broken(outcome.violations[0], told.partition("\n")[2])
        raise Undecided(told)


def explain(judgement: Judgement) -> str:
    """A judgement in words: each kind of violation with its story, the three verdicts, and the reasons of what is not green."""
    lines: list[str] = []
    kinds = list(dict.fromkeys(judgement.violations))
    for violation in kinds[:STORIES]:
        lines.append(f"{violation.contract}: {violation.message}")
        if judgement.index is not None:
            lines += [f"    {line}" for line in story(judgement.index, violation)]
    if len(judgement.violations) > len(kinds[:STORIES]):
        lines.append(f"{len(judgement.violations)} violations in all")
    verdicts = f"SAFE {judgement.safe}, LIVE {judgement.live}, HONEST {judgement.honest}"
    return "\n".join([*lines, verdicts, *judgement.reasons])


def _search(subject: Subject, place: Place) -> Found | Survived:
    assert subject.examples is not None
    runner: InSimulation | OnWire
    shrinker: InSimulation | None = None
    label: object = subject.label
    if subject.world == "wire":
        runner = OnWire(subject.started(), say=print, environ=subject.environ, **subject.more)
        if subject.command is None:
            shrinker = InSimulation(subject.coordinator, environ=subject.environ)
    else:
        runner = InSimulation(subject.coordinator, environ=subject.environ, **subject.more)
        label = subject.coordinator
    return hunt(
        label, subject.gateway, examples=subject.examples, seed=place.seed, derandomize=subject.derandomize,
        max_time=subject.max_time, runner=runner, shrinker=shrinker, demanded=subject.contracts, fixed=subject.fixed,
        confirmations=search.CONFIRMATIONS if subject.world == "wire" else 1, database=place.folder / "failed",
    )


def _gate(subject: Subject, place: Place) -> Judgement:
    settings = WireSettings(
        coordinator=subject.started(), gateway=subject.gateway, seed=place.seed, environ=subject.environ,
        report_dir=place.folder, **subject.fixed, **subject.more,
    )
    asked = gate.Gate(
        settings, turns=subject.turns, plans=subject.plans, wanted=list(subject.contracts) or None, reproduce=place.again
    )
    return loop.run(gate.run(asked, _Told())).judgement


class _Told(gate.Observer):
    """Prints what the gate has to say, for pytest to capture."""

    def say(self, text: str) -> None:
        print(text)


def _found(subject: Subject, place: Place, found: Found) -> str:
    """The case, its story, and how to see it again."""
    path = place.folder / "counterexample.json"
    way = "name" if subject.command is None else "command"
    Counterexample(case=found.case, expect=found.violation, world=found.world, way=way).save(path)
    index = found.trial.judgement.index
    lines = [str(found.case), *(f"    {line}" for line in (story(index, found.violation) if index is not None else ()))]
    lines.append(
        f"found at example {found.examples} of {subject.examples} ({found.world}, seed {place.seed}), made small in "
        f"{found.tried} tries, reproduced {found.confirmed}/{found.confirmations}"
    )
    lines.append(f"counterexample: {path}")
    if isinstance(subject.coordinator, str) or subject.command is not None:
        words = ["python", "-m", "anechoic", "replay", str(path)]
        lines.append(f"again: {shlex.join(words + (['--command', subject.command] if subject.command else []))}")
    return "\n".join([*lines, f"again: {place.again}"])


def _place(request: pytest.FixtureRequest, seed: int | None, shard: int | None) -> Place:
    """The seed (of the test, else of the session, with a shard one derived from it), and what belongs to this item."""
    node = request.node.nodeid
    again = f"pytest {shlex.quote(node)}"
    if seed is None:
        seed = int(request.getfixturevalue("anechoic_seed"))
        again += f" --anechoic-seed {seed}"
    if shard is not None:
        seed = random.Random(f"{seed}/shard/{shard}").randrange(1_000_000)
    request.node.user_properties.append(("anechoic_seed", seed))  # pytest writes it into its JUnit file
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', node)[-60:]}-{hashlib.sha256(node.encode()).hexdigest()[:8]}"
    return Place(seed, request.getfixturevalue("anechoic_folder") / name.strip("-"), again)
