"""The gate as a search: cases drawn instead of plans given, in the simulation or on the wire, and the smallest that fails."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from anechoic import baseline, exits
from anechoic.baseline import Baseline
from anechoic.budget import Budget
from chaos.simulation.errors import BadCoordinator
from chaos.wire.settings import Coordinator
from contracts.catalogue import CONTRACTS
from contracts.counterexample import Counterexample, readable, versions
from contracts.document import to_json
from contracts.profiles import demand
from contracts.property import EXAMPLES, SHRINK_SECONDS, Found, Survived, Tally, search
from contracts.trial import InSimulation, OnWire, OutOfTime, Runner
from contracts.verdict import Verdict
from fakes.gateway.profile import Profile
from fakes.history import save

T = TypeVar("T")

CONFIRMATIONS = 3
"""How often a case that was found on the wire is run again there."""
DATABASE = Path(".hypothesis") / "anechoic"
"""Where failing cases are kept, next to what Hypothesis itself keeps."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is asked of a search. `started` says how instances are started on the wire; None in the simulation."""

    coordinator: str
    gateway: Profile
    world: str = "simulation"
    started: Coordinator | None = None
    by: str = "name"
    examples: int = EXAMPLES
    seed: int = 0
    derandomize: bool = False
    max_time: float | None = None
    wanted: Sequence[str] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """further settings of the chamber on the wire"""
    database: Path | None = None
    report_dir: Path | None = None
    reproduce: str = ""
    baseline: Baseline | None = None
    update_baseline: bool = False
    budget: Budget | None = None
    """the wall time of the whole search, shrinking included"""


def run(
    asked: Search, *, on_trial: Callable[[Tally], None] = lambda tally: None, say: Callable[[str], None] = lambda line: None
) -> tuple[Found | Survived, dict[str, Any]]:
    """Search, and write what was found; returns that, and the content of verdict.json.

    Raises SimulationError, WireError, ImpossibleDemand, UnknownContract.
    """
    runner, shrinker = _runners(asked, say)
    limits = [seconds for seconds in (asked.max_time, _searching(asked.budget)) if seconds is not None]
    result = search(
        asked.coordinator, asked.gateway, examples=asked.examples, seed=asked.seed, derandomize=asked.derandomize,
        max_time=min(limits, default=None), shrink_seconds=_shrinking(asked.budget),
        runner=runner, shrinker=shrinker, demanded=asked.wanted, fixed=asked.fixed,
        confirmations=CONFIRMATIONS if asked.world == "wire" else 1, database=asked.database, on_trial=on_trial,
        known=asked.baseline.accepts if asked.baseline is not None else lambda violation: False,
    )
    said = data(asked, result)
    if asked.report_dir is not None:
        for name in ("counterexample.json", "history.jsonl"):  # of an earlier search
            (asked.report_dir / name).unlink(missing_ok=True)
        if isinstance(result, Found):
            counterexample(asked, result).save(asked.report_dir / "counterexample.json")
            save(asked.report_dir / "history.jsonl", header(asked), result.trial.events)
        path = asked.report_dir / "verdict.json"
        path.write_text(readable(said) + "\n", encoding="utf-8")
    return result, said


def counterexample(asked: Search, found: Found) -> Counterexample:
    """The file of what was found."""
    return Counterexample(case=found.case, expect=found.violation, world=found.world, way=asked.by)


def exit_code(result: Found | Survived) -> int:
    """The verdict's exit code."""
    codes = {"pass": exits.PASS, "fail": exits.FAIL, "invalid": exits.INVALID, "unknown": exits.UNKNOWN}
    return codes[str(result.verdict)]


def header(asked: Search) -> dict[str, Any]:
    """What every file of a search says of it."""
    return {"seed": asked.seed, "coordinator": asked.coordinator, "gateway": asked.gateway.name}


def data(asked: Search, result: Found | Survived) -> dict[str, Any]:
    """verdict.json of a search: as that of a gate, and beside it what was searched."""
    tally = result.tally
    out: dict[str, Any] = {"format_version": 1, "verdict": str(result.verdict), "exit_code": exit_code(result), **header(asked)}
    out["seconds"] = round(result.seconds, 1)
    out["contracts"] = _contracts(asked, result)
    if isinstance(result, Found):
        found = to_json(result.trial.judgement, header(asked), asked.reproduce)
        for of_the_case_alone in ("unsound", "reasons", "plans"):
            found.pop(of_the_case_alone, None)
        mine = {violation.events for violation in result.trial.violations}  # others of its batch were judged with it
        found["violations"] = [v for v in found["violations"] if tuple(v["events"]) in mine]
        out = found | out
        out["counterexample"] = counterexample(asked, result).to_json()
        out["reproduced"] = [result.confirmed, result.confirmations]
        out["shrinking"] = {"tried": result.tried, "seconds": round(result.seconds - tally.seconds, 3)}
    elif result.why:
        out["reasons"] = out["unsound"] = list(result.why)
    out["search"] = {
        "world": asked.world, "examples": tally.examples, "turns": tally.turns, "tool_calls": tally.calls,
        "asked": asked.examples, "out_of_time": isinstance(result, Survived) and result.out_of_time,
        "effects": tally.effects, "faults": tally.fired, "seconds": round(tally.seconds, 3), "reached": dict(tally.reached),
        "derandomize": asked.derandomize, "versions": versions(),
    }
    if asked.budget is not None and out["search"]["out_of_time"]:
        done = f"{tally.examples} of {asked.examples} examples"
        out["notes"] = [f"the budget of {asked.budget.seconds:g} s ended the search: {done}"]
    out["reproduce"] = asked.reproduce
    if asked.baseline is not None:
        _hold_against(asked.baseline, asked, result, out)
    return out


def _hold_against(known: Baseline, asked: Search, result: Found | Survived, out: dict[str, Any]) -> None:
    """The plans of a search have no names, and a new violation ends it: only one that ran to its end tells what is fixed."""
    violations = out.setdefault("violations", [])
    violations += [
        {"contract": v.contract, "shape": v.shape, "message": v.message, "plans": [], "effects": [], "events": []}
        for v in result.tally.known
    ]
    found = [baseline.Known(v["contract"], v["shape"], seen=v["message"]) for v in violations]
    wanted = demand(asked.gateway, asked.wanted or None).wanted
    to_the_end = isinstance(result, Survived) and not result.out_of_time and result.verdict is Verdict.PASS

    def code(accepting: Baseline) -> int:
        left = [one for one in found if accepting.accepting(one) is None]
        return exits.FAIL if left else exits.PASS if isinstance(result, Found) else exit_code(result)

    baseline.record(
        known, found, lambda entry: to_the_end and not entry.plans and entry.contract in wanted, out, code,
        update=asked.update_baseline,
    )
    if violations:
        out["verdict"] = str(Verdict.FAIL)


def _contracts(asked: Search, result: Found | Survived) -> list[dict[str, Any]]:
    """Each contract and what the search says of it; the first violation ends a search, so that the others are left open."""
    tried = f"{result.tally.examples} examples"
    found = result.trial.violations if isinstance(result, Found) else ()
    broken = Counter(v.contract for v in (*found, *result.tally.known))
    terms = demand(asked.gateway, asked.wanted or None)
    rows: list[dict[str, Any]] = []
    for contract in CONTRACTS.values():
        status, note = str(result.verdict), ""
        if contract.id not in terms.wanted:
            status, note = "not_demanded", "not asked for, or not possible at this gateway"
        elif contract.id in broken:
            status = "fail"
        elif found:
            ended = dict.fromkeys(v.contract for v in found)
            status, note = "not_reached", f"the search ended with the violation of {', '.join(ended)}, after {tried}"
        rows.append({
            "id": contract.id, "name": contract.name, "class": contract.klass, "status": status,
            "checked": 0 if status == "not_demanded" else result.tally.examples,
            "violations": broken[contract.id], "note": note,
        })
    return rows


SEARCHING = 0.6
"""The part of a budget in which examples are begun; the rest is for shrinking and confirming."""


def _searching(budget: Budget | None) -> float | None:
    return None if budget is None else budget.running * SEARCHING


def _shrinking(budget: Budget | None) -> float:
    return SHRINK_SECONDS if budget is None else min(SHRINK_SECONDS, budget.seconds * (1 - SEARCHING) / 2)


def _in_time(budget: Budget | None, work: Coroutine[Any, Any, T]) -> T:
    """Run a batch on the wire; it is stopped and given back when the budget is over. Raises OutOfTime then."""
    if budget is None:
        return exits.run(work)
    try:
        return exits.run(asyncio.wait_for(work, max(0.1, budget.running)))
    except TimeoutError:
        raise OutOfTime(f"the budget of {budget.seconds:g} s was over") from None


def _runners(asked: Search, say: Callable[[str], None]) -> tuple[Runner, Runner | None]:
    if asked.started is None:
        return InSimulation(asked.coordinator, environ=asked.environ), None
    wire = OnWire(asked.started, run=lambda work: _in_time(asked.budget, work), say=say, environ=asked.environ, **asked.more)
    try:
        return wire, InSimulation(asked.coordinator, environ=asked.environ) if asked.by == "name" else None
    except BadCoordinator:
        return wire, None
