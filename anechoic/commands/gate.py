"""`anechoic gate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from anechoic import exits, gate
from anechoic.budget import Budget
from anechoic.commands import options, profiles
from anechoic.report.console import Console
from anechoic.report.record import Record
from chaos.plan import PlanError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings
from chaos.words import unknown
from contracts.catalogue import UnknownContract
from contracts.profiles import ImpossibleDemand

REPEATS = ("400", "200", "409")
REFUSALS = (WireError, PlanError, ToxiproxyError, ImpossibleDemand, UnknownContract)
"""Why a run can end before there is anything to judge."""


def run(
    *, config: Path | None, coordinator: str | None, command: str | None, url: list[str], container: list[str],
    container_port: int | None, proxy_host: str, instances: int | None, gateway: list[str], plans: list[str],
    turns: int, seed: int | None, in_flight: int, toxiproxy: str | None, tools: str | None, env: list[str],
    setup_command: str | None, teardown_command: str | None, store: str, demand: str | None, repeat_submit: str,
    ready_timeout: float, turn_budget: float, quiesce: float, base_port: int | None,
    report_dir: Path | None, junit: Path | None, summary: Path | None, baseline: Path | None,
    update_baseline: bool, budget: str | None, world: str | None = None,
    examples: int | None = None, **more: Any,
) -> None:
    """Check the words, run the gate, draw it, and end with the verdict's exit code. With examples to draw it is a search."""
    time = options.budget(budget)
    if examples is not None or world not in (None, "wire"):
        from anechoic.commands import search

        search.run(
            coordinator=coordinator, command=command, url=url, container=container, instances=instances, gateway=gateway,
            plans=plans, seed=seed,
            toxiproxy=toxiproxy, tools=tools, env=env, setup_command=setup_command, teardown_command=teardown_command,
            store=store, demand=demand, repeat_submit=repeat_submit,
            ready_timeout=ready_timeout, turn_budget=turn_budget, quiesce=quiesce, report_dir=report_dir,
            junit=junit, summary=summary, baseline=baseline, update_baseline=update_baseline,
            budget=time, world=world or "wire", examples=examples, **more,
        )
    for flag, given in (("--max-time", more.get("max_time")), ("--derandomize", more.get("derandomize"))):
        if given:
            exits.invalid(f"{flag} is about a search: give --examples or --world simulation as well")
    tested = options.coordinator(coordinator, command, url, container)
    if repeat_submit not in REPEATS:
        exits.invalid(unknown("--repeat-submit", repeat_submit, REPEATS))
    if turns < 1:
        exits.invalid(f"--turns {turns} must be at least 1; a run without a turn proves nothing")
    seed = options.seed_or_new(seed)
    gateways = options.profiles(gateway)
    several = len(gateways) > 1
    known = options.baselines(baseline, gateways, update_baseline)
    try:
        settings = options.placed(Settings(
            coordinator=tested, gateway=gateways[0], seed=seed, container_port=container_port,
            proxy_host=proxy_host, instances=options.instances(tested, instances),
            in_flight=in_flight, tools=tools, environ=options.environ(env), setup_command=setup_command,
            teardown_command=teardown_command, store=store, toxiproxy=toxiproxy,
            base_port=base_port if base_port is not None else None if tested.started else options.URL_BASE_PORT,
            repeat_submit=repeat_submit, ready_timeout=ready_timeout, turn_budget=turn_budget, quiesce_budget=quiesce,
            report_dir=options.report_dir(report_dir),
        ))
    except WireError as error:
        exits.invalid(error)
    asked = {
        profile.name: gate.Gate(
            dataclasses.replace(
                settings, gateway=profile, seed=own, report_dir=options.place(settings.report_dir, profile, gateways)
            ),
            turns=turns, plans=options.plans(plans, config), wanted=options.wanted(demand),
            reproduce=options.reproduce(own, profile.name if several else None),
            baseline=known[profile.name], update_baseline=update_baseline,
        )
        # one that runs already remembers the turns of the profile before: the same seed would have the same ids
        for own, profile in ((seed if tested.started else seed + number, p) for number, p in enumerate(gateways))
    }
    reports = options.reports(settings.report_dir, junit, summary)
    if several:  # all of it is looked at before the first is begun
        try:
            for one in asked.values():
                gate.check(one)
        except REFUSALS as error:
            exits.invalid(error)
    profiles.run(asked, _one, reports, seed=seed, budget=time)


def _one(asked: gate.Gate, budget: Budget | None) -> Record:
    with Console() as console:
        try:
            outcome = exits.run(gate.run(dataclasses.replace(asked, budget=budget), console))
        except REFUSALS as error:
            settings = asked.settings
            return profiles.refused(error, settings.report_dir, {
                "coordinator": settings.coordinator.label, "gateway": settings.gateway.name, "seed": settings.seed,
                "reproduce": asked.reproduce,
            })
        console.verdict(outcome)
    return Record(outcome.data, outcome.judgement.index)
