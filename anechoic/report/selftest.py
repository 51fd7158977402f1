"""The self-test's matrix on a terminal, and as the table that documents show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console as Rich
from rich.markup import escape
from rich.table import Table

from anechoic.selftest import FAIL, GATEWAYS, INVALID, PASS, Cell, SelftestError, Subject, summary
from fakes.whole import write_whole


def progress(cell: Cell, left: int) -> str:
    """One line for a cell that has just ended."""
    return f"{cell.subject} at {cell.gateway}: {escape(words(cell))} · {left} left"


def words(cell: Cell) -> str:
    """What came out of a cell, in a few words."""
    if cell.outcome == FAIL:
        out = f"killed at {cell.examples} by {cell.contract}, {cell.seconds:.1f} s"
    elif cell.outcome == PASS:
        out = f"survived {cell.examples}"
    else:
        out = f"invalid: {cell.plan}"
    return out if cell.as_expected else f"{out}, EXPECTED {cell.expected}"


def table(out: Rich, cells: Sequence[Cell]) -> None:
    """The matrix, the smallest plan of each kill, and the figures."""
    gateways = list(dict.fromkeys(cell.gateway for cell in cells))
    by = {(cell.subject, cell.gateway): cell for cell in cells}
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", *gateways):
        drawn.add_column(column, no_wrap=True)
    for subject in dict.fromkeys(cell.subject for cell in cells):
        drawn.add_row(subject, *(_mark(by.get((subject, gateway))) for gateway in gateways))
    out.print(drawn)
    out.print()
    for cell in cells:
        if cell.outcome == FAIL and cell.plan:
            out.print(f"[bold]{cell.subject}[/bold] at {cell.gateway}: {escape(words(cell))}")
            for line in cell.plan.splitlines():
                out.print(f"  {escape(line)}")
    for cell in cells:
        if not cell.as_expected:
            out.print(f"[bold red]not as expected[/bold red] {cell.subject} at {cell.gateway}: {escape(words(cell))}")
        elif cell.outcome == INVALID:
            out.print(f"{cell.subject} at {cell.gateway}: {escape(words(cell))}")
    figures = summary(cells)
    turns, calls, faults = figures["largest_minimal_case"]
    median = figures["median_kill_seconds"]
    out.print(
        f"\n{figures['as_expected']} of {figures['cells']} cells as expected, {figures['killed']} killed"
        + (f", median {median:.1f} s to kill and shrink, the last at example {figures['latest_kill']}" if median else "")
        + f"; the largest smallest case has {turns} turns, {calls} calls, {faults} faults"
    )


BEGIN, END = "<!-- selftest: made by `anechoic selftest --write FILE` -->", "<!-- /selftest -->"


def markdown(subjects: Sequence[Subject], cells: Sequence[Cell]) -> str:
    """The matrix as a Markdown table: by which contract a mutant was killed, and at which example."""
    by = {(cell.subject, cell.gateway): cell for cell in cells}
    lines = ["| | wrong in one way: | " + " | ".join(GATEWAYS) + " |", "|---|---" + "|---" * len(GATEWAYS) + "|"]
    for subject in subjects:
        marks = [_cell(by.get((subject.name, gateway))) for gateway in GATEWAYS]
        harmless = " (harmless)" if subject.harmless else ""
        elsewhere = [f"{g}: {_cell(by.get((subject.name, g)))}" for g in subject.expected if g not in GATEWAYS]
        about = subject.about + harmless + "".join(f" ({one})" for one in elsewhere)
        lines.append(f"| {subject.number or ''} | `{subject.name}`: {about} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def around(path: Path) -> tuple[str, str]:
    """What stands before and after the table in a document. Raises SelftestError where it has no place for one."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SelftestError(f"{path} has no place for the table: it takes two lines, {BEGIN} and {END}")
    return before, after


def write(path: Path, table_of: str) -> None:
    """Put the table between its two marks in a document."""
    before, after = around(path)
    write_whole(path, f"{before}{BEGIN}\n{table_of}\n{END}{after}")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    wrong = "" if cell.as_expected else " **!!**"
    return (f"{cell.contract} @{cell.examples}" if cell.outcome == FAIL else "·" if cell.outcome == PASS else "invalid") + wrong


def _mark(cell: Cell | None) -> str:
    if cell is None:
        return ""
    word = f"{cell.contract} @{cell.examples}" if cell.outcome == FAIL else "survived" if cell.outcome == PASS else "invalid"
    return f"[green]{escape(word)}[/green]" if cell.as_expected else f"[bold red]{escape(word)} !![/bold red]"
