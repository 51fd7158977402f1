"""`anechoic report`."""

from __future__ import annotations

from pathlib import Path

from anechoic import exits
from anechoic.report.files import JUNIT, PAGE, Reports
from anechoic.report.record import RecordError, load


def run(*, folder: Path, out: Path | None, junit: Path | None, summary: Path | None) -> None:
    """Read what a run left, and write its reports again; exit code of that run's verdict is not repeated."""
    if not folder.is_dir():
        exits.invalid(f"{folder} is no folder; give the --report-dir of a run")
    into = folder if out is None else out
    try:
        Reports(into, junit, summary).keep(load(folder))
    except (RecordError, OSError) as error:
        exits.invalid(error)
    for path in (into / PAGE, into / JUNIT, junit, summary):
        if path is not None:
            print(path)
