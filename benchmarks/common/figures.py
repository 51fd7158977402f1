"""Figures: what a benchmark found, and whether that meets its target."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ABSENT = 3
"""The exit code of a benchmark that needs what is not here."""

@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One number that was measured; without a bound it has no target."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The bounds in words; empty without one."""
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        return ", ".join(f"{sign} {bound:,g}" for sign, bound in bounds if bound is not None)

    def as_json(self) -> dict[str, Any]:
        """The fields, and whether the target is met."""
        return {**dataclasses.asdict(self), "met": self.met}

    def cells(self) -> tuple[str, str, str, str, str]:
        """Name, value, unit, target and whether it is met, as a table shows them."""
        shown = f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:,.2f}"
        return self.name, shown, self.unit, self.target, {None: "", True: "met", False: "MISSED"}[self.met]


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works: the figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    return parser


def finish(given: argparse.Namespace, found: Sequence[Figure]) -> int:
    """Say which targets are missed, write the file that was asked for; returns the exit code, 1 when one is missed."""
    if given.json is not None:
        given.json.write_text(json.dumps([figure.as_json() for figure in found]), encoding="utf-8")
    missed = [figure for figure in found if figure.met is False]
    for figure in missed:
        name, value, unit, target, _ = figure.cells()
        print(f"MISSED: {name}: {value} {unit}, target {target}")
    if not missed and any(figure.met for figure in found):
        print("targets met")
    return 1 if missed else 0


def load(path: Path) -> list[Figure]:
    """The figures in a file that `finish` wrote."""
    names = [field.name for field in dataclasses.fields(Figure)]
    return [Figure(**{name: made[name] for name in names}) for made in json.loads(path.read_text(encoding="utf-8"))]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; those that begin with a digit in every row but the first stand right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() for cell in column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, right, strict=True)
        return "  ".join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells).rstrip()

    return "\n".join(map(line, rows))
