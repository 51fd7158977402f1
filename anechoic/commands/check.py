"""`anechoic check`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from anechoic import exits
from anechoic.commands import options
from anechoic.gate import Manner, budget_notes, expected_rules
from anechoic.report.console import report, terminal
from anechoic.report.progress import progress
from chaos.plan import Plan, PlanError, parse
from contracts import verdict
from contracts.catalogue import UnknownContract
from contracts.document import to_json
from contracts.partition import LARGE, MOST, dealt_out
from contracts.profiles import ImpossibleDemand
from contracts.profiles import demand as terms_for
from fakes.gateway.profile import Profile
from fakes.history import HistoryError, HistoryFile


def run(*, history: Path, gateway: str | None, demand: str | None, as_json: bool, parts: int | None) -> None:
    """Read, judge, print, and end with the verdict's exit code."""
    if parts is not None and not 1 <= parts <= MOST:
        exits.invalid(f"--parts {parts} must be at least 1 and at most {MOST}")
    try:
        file = HistoryFile(history)
    except HistoryError as error:
        exits.invalid(error)
    header = file.header
    profile = options.profile(gateway or str(header.get("gateway", "keyless")))
    wanted = options.wanted(demand)
    try:
        terms_for(profile, wanted)
    except (ImpossibleDemand, UnknownContract) as error:
        exits.invalid(error)
    plans = _plans(header, history)
    try:
        judgement = _judged(file, profile, wanted, plans, parts)
    except HistoryError as error:
        exits.invalid(error)
    except OSError as error:
        exits.invalid(
            f"{error}. To judge it in parts takes about {file.size / 1e6:.0f} MB in {tempfile.gettempdir()}; "
            "set TMPDIR to a folder with more space"
        )
    except KeyboardInterrupt:
        exits.interrupted()
    named = {**header, "plans": [plan.to_json() for plan in plans]}
    data = to_json(judgement, header=named, reproduce=str(header.get("reproduce", "")))
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        report(terminal(), data, judgement, [*([file.warning] if file.warning else []), *budget_notes(data)])
    raise SystemExit(judgement.exit_code)


def _judged(
    file: HistoryFile, profile: Profile, wanted: list[str] | None, plans: list[Plan], parts: int | None
) -> verdict.Judgement:
    """Whole where it is small; what is large goes into parts on disk, since it may not fit into memory."""
    explicit = bool(file.header.get("explicit", True))
    if parts is None and file.size <= LARGE:
        events = list(file)
        rules = expected_rules(plans, events, explicit=explicit)
        return verdict.judge(events, profile, wanted=wanted, expected_rules=rules)
    manner = Manner()
    with progress() as tell, dealt_out(file, parts=parts, watch=manner.see, tell=tell) as dealt:
        return dealt.judge(profile, wanted=wanted, expected_rules=manner.expected_rules(plans, explicit=explicit))


def _plans(header: dict[str, object], history: Path) -> list[Plan]:
    """The plans that were in force, from the history's header; without them nobody can say what never happened."""
    recorded = header.get("plans", [])
    try:
        return [parse(plan, f"{history}, line 1, plans") for plan in recorded] if isinstance(recorded, list) else []
    except PlanError as error:
        exits.invalid(error)
