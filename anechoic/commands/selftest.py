"""`anechoic selftest`."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from anechoic import exits, selftest
from anechoic.report.console import terminal
from anechoic.report.selftest import around, markdown, progress, table, write


def run(
    *, mutants: list[str], gateways: list[str], examples: int, jobs: int, seed: int, state: Path | None, into: Path | None,
    as_json: bool,
) -> None:
    """Run the matrix, print it, and end with 0 when every cell is as expected."""
    for flag, value in (("--examples", examples), ("--jobs", jobs)):
        if value < 1:
            exits.invalid(f"{flag} {value} must be at least 1")
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        chosen = selftest.subjects(mutants)
        matrix = selftest.cells(chosen, gateways)
        if not matrix:
            exits.invalid(f"nothing is expected of {', '.join(mutants)} at {', '.join(gateways)}")
        known = selftest.Finished(state, examples, seed)
        if into is not None:
            around(into)
    except selftest.SelftestError as error:
        exits.invalid(error)
    try:
        ran = selftest.run(
            matrix, examples=examples, seed=seed, jobs=jobs, finished=known,
            on_cell=lambda cell, left: err.print(progress(cell, left)),
        )
    except KeyboardInterrupt:
        exits.interrupted()
    if into is not None:
        write(into, markdown(chosen, ran))
    if as_json:
        print(json.dumps(selftest.to_json(ran), indent=2))
    else:
        table(terminal(), ran)
    raise SystemExit(exits.PASS if all(cell.as_expected for cell in ran) else exits.FAIL)
