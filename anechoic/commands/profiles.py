"""The same question at several gateway profiles, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rich.markup import escape

from anechoic import exits
from anechoic.budget import Budget
from anechoic.commands import options
from anechoic.gate import write
from anechoic.report import console
from anechoic.report.files import Reports
from anechoic.report.record import VERDICT, Record, of_gateways
from anechoic.report.record import refused as record_of

T = TypeVar("T")


def run(
    asked: Mapping[str, T], one: Callable[[T, Budget | None], Record], reports: Reports, *, seed: int, budget: Budget | None
) -> NoReturn:
    """Run what is asked at each profile, write the reports, and end with the worst exit code: 1, 2, 3, then 0.

    A single profile has the report directory for itself, several have a folder each in it. `budget` is shared out between
    those that are still to be run. An interruption ends with exit code 130; what was done until then is reported.
    """
    if len(asked) == 1:
        (question,) = asked.values()
        record = one(question, budget)
        reports.write(record)
        raise SystemExit(record.data["exit_code"])
    made: dict[str, Record] = {}
    out = console.terminal()
    try:
        for number, (gateway, question) in enumerate(asked.items()):
            out.print(f"[bold]── gateway {escape(gateway)}, {number + 1} of {len(asked)} ──[/bold]")
            made[gateway] = one(question, budget and budget.share(len(asked) - number))
            if reports.folder is not None:
                Reports(reports.folder / gateway).keep(made[gateway])
            out.print()
    except KeyboardInterrupt:  # between two of them
        exits.interrupted()
    finally:
        if made:
            whole = of_gateways(made, [gateway for gateway in asked if gateway not in made], options.reproduce(seed))
            if reports.folder is not None:
                write(reports.folder / VERDICT, dict(whole.data))
            reports.write(whole)
            console.gateways(out, whole.data)
    raise SystemExit(whole.data["exit_code"])


def refused(error: object, folder: Path | None, about: Mapping[str, Any]) -> Record:
    """Say why a run has ended before there was anything to judge, and leave that as its verdict.json."""
    exits.say(error)
    record = record_of(error, about)
    if folder is not None:
        write(folder / VERDICT, dict(record.data))
    return record
