"""A load as load.json has it: figures, ratios, limits, and the verdict of the contracts over its whole history."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anechoic import exits
from chaos.plan import Plan
from contracts import verdict
from contracts.document import to_json
from contracts.partition import judge_file
from contracts.verdict import Judgement
from fakes.gateway.profile import Profile
from load.compare import Ratio, ratio
from load.measure import SLOT, Phase, Recovery, Series, Summary, recoveries, summary
from load.run import HARNESS, LOCUST, REPLICAS, Run
from load.side import Side

FORMAT_VERSION = 1
EFFECTS = ("C1", "C7", "C11")
"""Contracts that a duplicate breaks: what `--max-duplicates` tolerates is a violation of one of these."""
REACHED = 0.95
"""A rate counts as reached when so much of it ended while it was asked for, as far as chance allows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a load must hold: milliseconds, percent, duplicates per 1,000 calls; None asks for nothing."""

    max_p95: float | None = None
    max_throughput_loss: float | None = None
    max_duplicates: float | None = None


def judged(side: Side, profile: Profile, plans: Sequence[Plan], tell: Callable[[str, float], None]) -> Judgement:
    """The contracts over the whole history of one side, in bounded memory; `tell` takes what is being done, from 0 to 1."""
    rules = [(rule.id, False) for plan in plans for rule in plan.rules]
    return judge_file(side.history, profile, expected_rules=rules, tell=tell)


def document(run: Run, judgements: Sequence[Judgement], limits: Limits) -> dict[str, Any]:
    """The content of load.json. Rates are turns per second, latencies milliseconds, times seconds since the load began."""
    load, settings = run.load, run.load.settings
    sides = [_side(side, judgement, run) for side, judgement in zip(run.sides, judgements, strict=True)]
    ratios = _ratios(run)
    held = _held(sides, ratios, limits, len(run.sides) == 2)
    unreached = _unreached(run)
    notes = [*unreached, *([run.broke] if run.broke else [])]
    code = _exit_code(run, judgements[0], sides[0], held, limits, bool(unreached))
    return {
        "format_version": FORMAT_VERSION,
        "exit_code": code,
        "coordinator": run.sides[0].label,
        "against": run.sides[1].label if len(run.sides) == 2 else None,
        "gateway": settings.gateway.name, "instances": settings.instances, "store": settings.store.rpartition("@")[2],
        "seed": settings.seed, "shape": load.order.shape, "arrivals": load.order.options.get("arrivals", "poisson"),
        "streams": load.order.streams, "workers": load.order.workers,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "sides": sides,
        "ratios": [dataclasses.asdict(r) for r in ratios],
        "ceiling": _ceiling(run),
        "limits": held,
        "usage": {name: role.to_json() for name, role in run.usage.roles.items()},
        "tasks": {"at_first": run.tasks_at_first, "at_the_end": run.tasks},
        "complete": run.complete, "notes": notes, "reproduce": load.reproduce,
    }


def healthy(side: Side) -> list[Phase]:
    """The phases in which nothing was broken."""
    return [phase for phase in side.series.phases if phase.kind in ("healthy", "step")]


def _side(side: Side, judgement: Judgement, run: Run) -> dict[str, Any]:
    series = side.series
    well = summary(series, healthy(side))
    counts = judgement.counts
    thousands = max(counts["tool_calls"], 1) / 1000
    ended = max(1, summary(series, series.phases).ended)
    roles = (HARNESS, REPLICAS, LOCUST, side.role)
    return {
        "coordinator": side.label,
        "phases": [_phase(series, phase) for phase in series.phases],
        "healthy": well.to_json(),
        "recoveries": [_recovery(r) for r in recoveries(series, well)] if run.load.search is None else [],
        "per_1000_calls": {
            "duplicates": round(counts["duplicates"] / thousands, 3), "lost": round(counts["lost"] / thousands, 3),
            "repeated_requests": round(side.tally.repeats / thousands, 3),
        },
        "cpu_ms_per_lifecycle": {
            role: round(1000 * sum(p.cpu.get(role, 0.0) for p in series.phases) / ended, 2) for role in roles
        },
        "http": side.http, "at_rest": side.at_rest,
        "series": _series(series),
        "verdict": to_json(judgement, header={"coordinator": side.label, "seed": side.settings.seed}, reproduce=""),
    }


def _phase(series: Series, phase: Phase) -> dict[str, Any]:
    figures = summary(series, [phase])
    end = min(phase.end, len(series.slots) * SLOT)
    return {
        "name": phase.name, "kind": phase.kind, "plan": phase.plan, "start": round(phase.start, 2), "end": round(end, 2),
        "calm": None if phase.calm is None else round(phase.calm, 2), **figures.to_json(),
        "most_open": max((slot.open for slot in series.between(phase.start, end)), default=0),
    }


def _recovery(recovery: Recovery) -> dict[str, Any]:
    seconds = recovery.seconds
    return {
        "plan": recovery.plan, "seconds": None if seconds is None else round(seconds, 2),
        "healed_at": round(recovery.calm, 2), "limit_ms": round(recovery.limit * 1000, 1),
    }


def _series(series: Series) -> dict[str, Any]:
    def ms(share: float) -> list[float | None]:
        return [None if (v := slot.latencies.quantile(share)) is None else round(v * 1000, 1) for slot in series.slots]

    return {
        "slot": SLOT, "due": [s.due for s in series.slots], "ended": [s.ended for s in series.slots],
        "dropped": [s.dropped for s in series.slots], "failed": [s.failed for s in series.slots],
        "open": [s.open for s in series.slots], "p50_ms": ms(0.5), "p95_ms": ms(0.95),
    }


def _ratios(run: Run) -> list[Ratio]:
    """The first coordinator over the second, pair by pair of healthy slices; CPU is that of the coordinators alone."""
    if len(run.sides) != 2:
        return []
    first, second = run.sides
    pairs = list(zip(healthy(first), healthy(second), strict=False))
    both = [(summary(first.series, [a]), summary(second.series, [b])) for a, b in pairs]
    cpu = [
        (a.cpu.get(first.role, 0.0) / max(1, x.ended), b.cpu.get(second.role, 0.0) / max(1, y.ended))
        for (a, b), (x, y) in zip(pairs, both, strict=True)
    ]
    found = (
        ratio("throughput", [(_of_offered(a, run), _of_offered(b, run)) for a, b in both]),
        ratio("p50", [(a.p50, b.p50) for a, b in both]),
        ratio("p95", [(a.p95, b.p95) for a, b in both]),
        ratio("coordinator CPU per lifecycle", cpu),
    )
    return [r for r in found if r is not None]


def _of_offered(figures: Summary, run: Run) -> float | None:
    """Throughput: in open loop as a part of what was offered, so that chance in the arrivals is no difference."""
    if run.load.order.options.get("arrivals") == "closed":
        return figures.throughput
    return figures.throughput / figures.offered if figures.offered else None


def _ceiling(run: Run) -> dict[str, Any] | None:
    if run.load.search is None:
        return None
    held = [step.rate for step in run.steps if step.why is None]
    why = min((step for step in run.steps if step.why is not None), key=lambda s: s.rate, default=None)
    return {
        "rate": round(max(held), 1) if held else None, "max_p95_ms": run.load.search.max_p95 * 1000,
        "beyond": why.why if why else None, "steps": [step.to_json() for step in run.steps],
    }


def _held(
    sides: Sequence[Mapping[str, Any]], ratios: Sequence[Ratio], limits: Limits, compared: bool
) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = []

    def limit(name: str, most: float | None, seen: float | None, unit: str) -> None:
        if most is not None:
            held.append({
                "name": name, "limit": most, "seen": None if seen is None else round(seen, 2), "unit": unit,
                "held": seen is not None and seen <= most,
            })

    mine = sides[0]
    limit("p95, healthy", limits.max_p95, mine["healthy"]["p95_ms"], "ms")
    limit(
        "throughput loss " + (f"against {sides[1]['coordinator']}" if compared else "in fault windows"),
        limits.max_throughput_loss, _loss(mine, ratios, compared), "%",
    )
    limit("duplicates", limits.max_duplicates, mine["per_1000_calls"]["duplicates"], "per 1,000 calls")
    return held


def _loss(side: Mapping[str, Any], ratios: Sequence[Ratio], compared: bool) -> float | None:
    """Percent of throughput that is lost: against the other coordinator, or from the healthy phase to the worst window."""
    if compared:
        return next((100 * max(0.0, 1 - r.ratio) for r in ratios if r.name == "throughput"), None)
    windows = [phase["throughput"] for phase in side["phases"] if phase["kind"] == "fault"]
    well = side["healthy"]["throughput"]
    return 100 * max(0.0, 1 - min(windows) / well) if windows and well else None


def _unreached(run: Run) -> list[str]:
    """What to say of a rate that was asked for and did not come about; in a search that is the result."""
    if run.load.search is not None or run.load.order.options.get("arrivals") == "closed":
        return []
    said: list[str] = []
    for side in run.sides:
        phases = healthy(side)
        figures = summary(side.series, phases)
        chance = 3 * math.sqrt(max(figures.asked, 1e-9) / max(figures.seconds, 1e-9))
        if not phases or figures.throughput >= figures.asked * REACHED - chance:
            continue
        used = sum(p.cpu.get(LOCUST, 0.0) for p in phases) / max(figures.seconds, 1e-9)
        client = f"; Locust itself used {used:.0%} of a core, --processes 2 or more share its work" if used > 0.8 else ""
        said.append(
            f"{side.label}: the rate was not reached: {figures.asked:.0f} turns/s were asked for, {figures.throughput:.0f} "
            f"ended while healthy, {figures.dropped} were dropped{client}. --find-max tells which rate it holds"
        )
    return said


def _exit_code(
    run: Run, judgement: Judgement, side: Mapping[str, Any], held: Sequence[Mapping[str, Any]], limits: Limits, unreached: bool
) -> int:
    """Fail comes before invalid before unknown; a limit that is not held is a fail, a run that broke down is invalid."""
    code = judgement.exit_code
    most = limits.max_duplicates
    if most is not None and side["per_1000_calls"]["duplicates"] <= most:
        _, code = verdict.excusing(judgement, lambda violation: violation.contract in EFFECTS)
    codes = [code, *(1 for limit in held if not limit["held"])]
    if run.broke:
        codes.append(2)
    if unreached or (run.load.search is not None and not any(step.why is None for step in run.steps)):
        codes.append(3)
    return exits.worst(codes)


