"""`anechoic check`."""

from __future__ import annotations

import json
from pathlib import Path

from anechoic import exits
from anechoic.commands import options
from anechoic.gate import budget_notes, expected_rules
from anechoic.report.console import report, terminal
from chaos.plan import Plan, PlanError, parse
from contracts import verdict
from contracts.catalogue import UnknownContract
from contracts.document import to_json
from contracts.profiles import ImpossibleDemand
from contracts.profiles import demand as terms_for
from fakes.history import HistoryError, read


def run(*, history: Path, gateway: str | None, demand: str | None, as_json: bool) -> None:
    """Read, judge, print, and end with the verdict's exit code."""
    try:
        header, events, warning = read(history)
    except HistoryError as error:
        exits.invalid(error)
    profile = options.profile(gateway or str(header.get("gateway", "keyless")))
    wanted = options.wanted(demand)
    try:
        terms_for(profile, wanted)
    except (ImpossibleDemand, UnknownContract) as error:
        exits.invalid(error)
    rules = expected_rules(_plans(header, history), events, explicit=bool(header.get("explicit", True)))
    judgement = verdict.judge(events, profile, wanted=wanted, expected_rules=rules)
    data = to_json(judgement, header=header, reproduce=str(header.get("reproduce", "")))
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        report(terminal(), data, judgement, [*([warning] if warning else []), *budget_notes(data)])
    raise SystemExit(judgement.exit_code)


def _plans(header: dict[str, object], history: Path) -> list[Plan]:
    """The plans that were in force, from the history's header; without them nobody can say what never happened."""
    recorded = header.get("plans", [])
    try:
        return [parse(plan, f"{history}, line 1, plans") for plan in recorded] if isinstance(recorded, list) else []
    except PlanError as error:
        exits.invalid(error)
