"""The gate: one coordinator, one gateway profile, some plans, many turns, one verdict."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anechoic import baseline
from anechoic.baseline import Baseline
from anechoic.budget import Budget
from chaos import builtin, schedule
from chaos.containers import chamber as containers
from chaos.nemesis import PlanNemesis
from chaos.plan import Plan, PlanError
from chaos.turns import Turn, make
from chaos.vocabulary import CONTAINERS_ONLY, SIMULATION_ONLY
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings
from chaos.wire.store import REDIS, SQLITE
from contracts import verdict
from contracts.document import to_json
from contracts.profiles import demand
from fakes.history import BudgetEnded, Event, History, InstanceReady, RunTold, ToolRequested, TurnPlanned, of_kind
from fakes.whole import write_whole

PROCESS_FAULTS = frozenset({"kill", "pause", "restart", "terminate"})


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of a gate. `plans` None means the built-in set, alone and in pairs."""

    settings: Settings
    turns: int = 200
    plans: Sequence[Plan] | None = None
    wanted: Sequence[str] | None = None
    reproduce: str = ""
    every: float = 0.0
    """seconds between two deliveries; 0 delivers as fast as the in-flight limit allows"""
    schedule: schedule.Schedule | None = None
    """which turn gets which plans, where somebody else has chosen; then no single rule has to fire"""
    baseline: Baseline | None = None
    update_baseline: bool = False
    budget: Budget | None = None
    """the wall time of the whole run; when it ends, what happened until then is judged"""


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of it: the history, the judgement over it, and what the run wants to say besides."""

    history: History
    judgement: verdict.Judgement
    schedule: schedule.Schedule
    notes: list[str]
    data: dict[str, Any]
    """the content of verdict.json"""


class Observer:
    """What a gate tells while it runs; the command line draws it."""

    def started(self, chamber: Chamber, planned: schedule.Schedule) -> None:
        """Everything is up; turns are about to be delivered."""

    def placed(self, chamber: Chamber) -> None:
        """The addresses are known; the coordinators are about to be waited for."""

    def event(self, event: Event) -> None:
        """One more event of the history."""

    def phase(self, text: str) -> None:
        """What is being done now."""

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""


async def run(gate: Gate, observer: Observer) -> Outcome:
    """Run it on the wire. Raises WireError, PlanError and ImpossibleDemand before or while it starts (exit code 2).

    When it is interrupted, the history so far ends with a RunInterrupted event, and everything is given back.
    """
    planned, notes = check(gate)
    header = {
        "plans": [p.to_json() for p in planned.plans], "explicit": gate.plans is not None, "turns": gate.turns,
        "reproduce": gate.reproduce,
        "versions": {"anechoic": importlib.metadata.version("anechoic"), "python": platform.python_version()},
        "settings": _numbers(gate.settings),
    }
    observer.phase("starting fakes, proxies and coordinators")
    chamber = containers.chamber(gate.settings, header=header, say=observer.say, placed=observer.placed)
    chamber.history.subscribe(observer.event)
    if gate.settings.report_dir is not None:
        write(gate.settings.report_dir / "plan.json", {
            "format_version": 1, "about": planned.about, "plans": [p.to_json() for p in planned.plans],
            "turns": [[p.name for p in bound] for bound in planned.turns],
        })
    budget = gate.budget or Budget(math.inf)
    async with contextlib.AsyncExitStack() as stack:
        if not await _within(budget.running, stack.enter_async_context(chamber)):
            raise WireError(f"the budget of {budget.seconds:g} s was over before every instance was ready; give it more time")
        observer.started(chamber, planned)
        turns = list(bind(chamber.nemesis, planned, gate.settings.seed))
        observer.phase("turns")
        if not await _within(budget.turns(gate.settings.quiesce_budget), chamber.run(turns, gate.every)):
            _record_end(chamber, budget, len(turns))
        observer.phase("quiesce")
        if not await _within(budget.running, chamber.quiesce(time.monotonic() + budget.running - 1.0)):
            _record_end(chamber, budget, len(turns))
        observer.phase("stopping")
    if chamber.driver.given_up:
        notes.append(f"stopped early: with {chamber.driver.unanswered} turns unanswered no further ones were delivered")
    if gate.settings.tools == "sync" and any(call.asynchronous for call in of_kind(chamber.history.events, ToolRequested)):
        notes.append("--tools sync, yet calls were answered later: plans about such results were left out; say --tools async")
    return judge(chamber.history, gate, planned, notes)


def check(gate: Gate) -> tuple[schedule.Schedule, list[str]]:
    """The schedule and the notes on it, when all that is asked can be had. Raises WireError, PlanError and ImpossibleDemand."""
    demand(gate.settings.gateway, list(gate.wanted) if gate.wanted else None)
    planned, notes = plan_turns(gate)
    check_bounds(planned.plans, gate.settings)
    return planned, notes


def _record_end(chamber: Chamber, budget: Budget, turns: int) -> None:
    begun = sum(1 for _ in of_kind(chamber.history.events, TurnPlanned))
    chamber.history.record(BudgetEnded, seconds=budget.seconds, delivered=begun, turns=turns)


def budget_notes(data: Mapping[str, Any]) -> list[str]:
    """What a report says of a run that its budget has ended."""
    ended = data.get("budget")
    if ended is None:
        return []
    done = f"{ended['delivered']} of {ended['turns']} turns were delivered"
    return [f"the budget of {ended['seconds']:g} s ended the run: {done}"]


async def _within(seconds: float, work: Awaitable[object]) -> bool:
    """Do it, for so many seconds at most; whether that was enough."""
    if math.isinf(seconds):
        await work
        return True
    try:
        async with asyncio.timeout(max(0.0, seconds)) as limit:
            await work
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


def judge(history: History, gate: Gate, planned: schedule.Schedule, notes: list[str]) -> Outcome:
    """The contracts over the history; written to the report directory where there is one."""
    judgement = verdict.judge(
        history.events, gate.settings.gateway,
        wanted=list(gate.wanted) if gate.wanted else None,
        expected_rules=_rules(gate, planned, history),
    )
    header = dict(history.header)
    data = to_json(judgement, header=header, reproduce=gate.reproduce)
    data["repeat_submit"] = gate.settings.repeat_submit
    notes += budget_notes(data)
    if notes:
        data["notes"] = notes
    if gate.baseline is not None:
        baseline.settle(gate.baseline, judgement, data, update=gate.update_baseline)
    if gate.settings.report_dir is not None:
        write(gate.settings.report_dir / "verdict.json", data)
    return Outcome(history, judgement, planned, notes, data)


def _rules(gate: Gate, planned: schedule.Schedule, history: History) -> list[tuple[str, bool]]:
    rules = expected_rules(planned.plans, history.events, explicit=gate.plans is not None)
    return [(rule, optional or gate.schedule is not None) for rule, optional in rules]


def plan_turns(gate: Gate) -> tuple[schedule.Schedule, list[str]]:
    """The schedule, and what was left out of it and why. Raises PlanError for a plan that this coordinator cannot be given."""
    notes: list[str] = []
    if gate.schedule is not None:
        return gate.schedule, notes
    if gate.plans is not None:
        check_usable(gate.plans, gate.settings)
        return schedule.rotate(gate.plans, gate.turns), notes
    chosen, left_out = usable_plans(gate.settings)
    if not gate.settings.coordinator.killable:
        notes.append(f"no kill faults: the coordinator is given by --url. Left out: {', '.join(left_out)}")
    return schedule.cover(chosen, gate.turns, gate.settings.seed), notes


def usable_plans(settings: Settings) -> tuple[list[Plan], list[str]]:
    """Those of the built-in set that can be carried out here, and the names of those that break what this run did not start."""
    plans = builtin.default_set()
    usable = [plan for plan in plans if unusable(plan, settings) is None]
    return usable, [plan.name for plan in plans if plan not in usable and _kills(plan)]


def check_usable(plans: Sequence[Plan], settings: Settings) -> None:
    """Raises PlanError for the first plan that was asked for and cannot be carried out with these settings."""
    for plan in plans:
        if (reason := unusable(plan, settings)) is not None:
            raise PlanError(f"plan {plan.name!r} {reason}, or leave the plan out")


def unusable(plan: Plan, settings: Settings) -> str | None:
    """Why a plan cannot be carried out on the wire with these settings, and what to do about it; None when it can."""
    if only := plan.faults & SIMULATION_ONLY:
        return f"uses {', '.join(sorted(only))}, which only the simulation can do. Run it there with --world simulation"
    if not settings.coordinator.killable and _kills(plan):
        return (
            "kills or pauses the coordinator, which is given by --url: this run did not start it. Give it with --command"
        )
    if plan.faults & CONTAINERS_ONLY and not (settings.layout or settings.coordinator.containers):
        return "disconnects containers, and here are processes. Use proxy_down, or run it in containers"
    if plan.needs_async and settings.tools == "sync":
        return "is about results that come later, and tools are answered at once here (--tools sync). Use --tools async"
    if plan.needs_server == "own" and settings.store != REDIS and settings.layout is None:
        return f"breaks the process of the store, and this run starts none (--store {settings.store}). Use --store redis"
    if plan.needs_server and settings.store == SQLITE:
        return "breaks the way to the store, which is a file that has no proxy. Use --store redis"
    return None


def bind(nemesis: PlanNemesis, planned: schedule.Schedule, seed: int) -> Sequence[Turn]:
    """The turns, with their plans in force for their conversations. Rules with a time of their own are for all."""
    turns: list[Turn] = []
    bound: dict[str, set[str]] = {}
    by_name = {plan.name: plan for plan in planned.plans}
    for number, plans in enumerate(planned.turns):
        turn = dataclasses.replace(make(seed, number), plans=tuple(p.name for p in plans))
        turns.append(turn)
        for plan in plans:
            bound.setdefault(plan.name, set()).add(turn.conversation_id)
    for name, conversations in bound.items():
        nemesis.arm(by_name[name], conversations)
    return turns


def expected_rules(plans: Sequence[Plan], events: Iterable[Event], *, explicit: bool) -> list[tuple[str, bool]]:
    """(rule, whether the run is not vacuous without it). In the built-in set, plans about asynchronous results are void for
    a coordinator whose tools are synchronous, and plans about streams for one that polls."""
    seen = Manner()
    for event in events:
        seen.see(event)
    return seen.expected_rules(plans, explicit=explicit)


class Manner:
    """Takes the events of a run in order, and tells from them how its coordinator works."""

    def __init__(self) -> None:
        self.asynchronous = False
        self.streams = False

    def see(self, event: Event) -> None:
        """One more event."""
        if isinstance(event, InstanceReady):
            self.asynchronous = self.asynchronous or bool(event.capabilities.get("async_tools"))
        elif isinstance(event, ToolRequested):
            self.asynchronous = self.asynchronous or event.asynchronous
        elif isinstance(event, RunTold):
            self.streams = self.streams or event.via == "stream"

    def expected_rules(self, plans: Sequence[Plan], *, explicit: bool) -> list[tuple[str, bool]]:
        """See `expected_rules`."""
        return [
            (rule.id, not explicit and void)
            for plan in plans
            for void in [(plan.needs_async and not self.asynchronous) or (plan.needs_streams and not self.streams)]
            for rule in plan.rules
        ]


def check_bounds(plans: Sequence[Plan], settings: Settings) -> None:
    """Raises WireError for a plan that has a request arrive later than the gateway profile promises."""
    bound = settings.gateway.delivery_bound
    if not settings.gateway.lookup or bound is None:
        return
    for plan in plans:
        for rule in plan.rules:
            for do in rule.do:
                if do.fault in ("slow", "pause") and do.args["seconds"] >= bound:
                    raise WireError(
                        f"rule {rule.id} holds a request for {do.args['seconds']:g} s, but gateway profile "
                        f"{settings.gateway.name!r} promises that a request lands within {bound:g} s or never. "
                        "Use a shorter time, or profile lookup-unbounded"
                    )


def _kills(plan: Plan) -> bool:
    return any(
        do.fault in PROCESS_FAULTS and do.args.get("target") == "coordinator" for rule in plan.rules for do in rule.do
    )


def _numbers(settings: Settings) -> dict[str, Any]:
    names = ("in_flight", "replicas", "latency_profile", "poll_interval", "tool_timeout", "client_timeout", "turn_budget",
             "quiesce_budget")
    numbers = {name: getattr(settings, name) for name in names} | {"store": settings.store.rpartition("@")[2]}
    return numbers | {"toxiproxy": settings.toxiproxy or "embedded"}


def write(path: Path, data: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
