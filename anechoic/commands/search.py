"""`anechoic gate --world simulation`, and `--examples N` in either world."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from anechoic import exits
from anechoic import search as searching
from anechoic.budget import Budget
from anechoic.commands import options, profiles
from anechoic.report.record import Record
from anechoic.report.search import SearchConsole
from chaos.plan import PlanError
from chaos.simulation.errors import SimulationError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.store import SQLITE
from chaos.words import unknown
from contracts.case import REPEATS
from contracts.catalogue import UnknownContract
from contracts.counterexample import WORLDS
from contracts.profiles import ImpossibleDemand
from contracts.profiles import demand as demanded
from contracts.property import EXAMPLES, Found

REFUSALS = (SimulationError, WireError, PlanError, ToxiproxyError, ImpossibleDemand, UnknownContract)
"""Why a search can end before there is anything to judge."""


def run(
    *, coordinator: str | None, command: str | None, url: list[str], container: list[str],
    instances: int | None, gateway: list[str], plans: list[str],
    seed: int | None, toxiproxy: str | None, tools: str | None, env: list[str], setup_command: str | None,
    teardown_command: str | None, store: str, demand: str | None,
    repeat_submit: str, ready_timeout: float, turn_budget: float, quiesce: float, report_dir: Path | None,
    junit: Path | None, summary: Path | None, baseline: Path | None, update_baseline: bool, budget: Budget | None, world: str,
    examples: int | None, max_time: float | None, derandomize: bool, database: Path | None, **rest: Any,
) -> None:
    """Check the words, search, draw it, and end with the verdict's exit code."""
    if world not in WORLDS:
        exits.invalid(unknown("--world", world, WORLDS))
    if plans:
        exits.invalid("--plan beside --world simulation or --examples: a search draws its own plans; leave one of them out")
    if examples is not None and examples < 1:
        exits.invalid(f"--examples {examples} must be at least 1; a search without an example proves nothing")
    if max_time is not None and max_time <= 0:
        exits.invalid(f"--max-time {max_time:g} must be more than 0 seconds")
    if instances is not None and instances < 1:
        exits.invalid(f"instances={instances} must be at least 1")
    if repeat_submit not in REPEATS:
        exits.invalid(unknown("--repeat-submit", repeat_submit, REPEATS))
    seed = options.seed_or_new(seed)
    fixed: dict[str, Any] = {} if instances is None else {"instances": instances}
    if repeat_submit != "400":
        fixed["repeat_submit"] = repeat_submit
    more: dict[str, Any] = {}
    started = None
    if world == "simulation":
        if store != SQLITE:
            exits.invalid(f"--store {store} beside --world simulation: the store is a file there; use --world wire")
        word, by = _simulated(coordinator, command, url or container), "name"
    else:
        if url or container or options.project() is not None:
            exits.invalid("a search starts instances afresh for each batch: give --coordinator or --command, none that runs")
        started = options.coordinator(coordinator, command, url)
        word, by = started.label, "name" if coordinator else "command"
        more = {
            "setup_command": setup_command, "teardown_command": teardown_command, "store": store, "toxiproxy": toxiproxy,
            "ready_timeout": ready_timeout, "tools": tools, "turn_budget": turn_budget, "quiesce_budget": quiesce,
        }
    gateways = options.profiles(gateway)
    several = len(gateways) > 1
    known = options.baselines(baseline, gateways, update_baseline)
    folder = options.report_dir(report_dir)
    asked = {
        profile.name: searching.Search(
            coordinator=word, gateway=profile, world=world, started=started, by=by,
            examples=EXAMPLES if examples is None else examples, seed=seed, derandomize=derandomize, max_time=max_time,
            wanted=options.wanted(demand) or (), fixed=fixed, environ=options.environ(env), more=more,
            database=searching.DATABASE if database is None else database,
            report_dir=options.place(folder, profile, gateways),
            reproduce=options.reproduce(seed, profile.name if several else None),
            baseline=known[profile.name], update_baseline=update_baseline,
        )
        for profile in gateways
    }
    reports = options.reports(folder, junit, summary)
    if several:  # all of it is looked at before the first is begun
        try:
            for one in asked.values():
                demanded(one.gateway, one.wanted or None)
        except REFUSALS as error:
            exits.invalid(error)
    profiles.run(asked, _one, reports, seed=seed, budget=budget)


def _one(asked: searching.Search, budget: Budget | None) -> Record:
    with SearchConsole(asked) as console:
        try:
            result, data = searching.run(dataclasses.replace(asked, budget=budget), on_trial=console.on_trial, say=console.say)
        except REFUSALS as error:
            console.stop()
            return profiles.refused(
                error, asked.report_dir, {**searching.header(asked), "search": {}, "reproduce": asked.reproduce}
            )
        except KeyboardInterrupt:
            console.stop()
            exits.interrupted()
        console.verdict(result, data)
    return Record(data, result.trial.judgement.index if isinstance(result, Found) else None)


def _simulated(coordinator: str | None, command: str | None, url: list[str]) -> str:
    if command or url:
        exits.invalid(
            "--command, --url and --container name processes, which no simulation can run: give --coordinator with "
            "module:attribute (or a name), or use --world wire"
        )
    if not coordinator:
        exits.invalid("give --coordinator: a name such as hardened, or module:attribute")
    return coordinator
