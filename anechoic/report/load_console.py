"""A load on a terminal: a table that grows by a row for each phase while it runs, and the figures at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console as Rich
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from anechoic.report.console import coloured
from anechoic.report.record import THREE
from load.measure import SLOT, Phase, Summary, summary
from load.side import Observer, Side
from load.timetable import Stage

RECENT = 5.0
"""Seconds that the figures of the phase that goes on are about."""
DRAW = 0.5
"""Seconds between two pictures."""
PLAIN_EVERY = 10.0
"""Seconds between two progress lines where the output is no terminal."""
FIGURES = ("asked/s", "ended/s", "p50 ms", "p95 ms", "p99 ms", "dropped", "failed")


class LoadConsole(Observer):
    """Draws what a load tells. Progress goes to standard error, results to standard output."""

    def __init__(self) -> None:
        self._err = Rich(stderr=True, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._sides: Sequence[Side] = ()
        self._active: Side | None = None
        self._doing = ""
        self._until = 0.0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> LoadConsole:
        if self._err.is_terminal:
            self._live = Live(self._picture(), console=self._err, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, sides: Sequence[Side]) -> None:
        """From now on there are figures."""
        self._sides = sides

    def stage(self, side: Side, stage: Stage) -> None:
        """A stage begins."""
        self._active = side
        name = stage.kind if stage.plan is None else f"{stage.kind} ({stage.plan.name})"
        of = f" of {side.label}" if len(self._sides) > 1 else ""
        self._until = time.monotonic() + stage.seconds
        self.phase(f"{name}{of} at {stage.rate:g} turns/s")

    def tick(self, side: Side) -> None:
        """Draw now and then."""
        now = time.monotonic()
        if now - self._last >= (DRAW if self._live is not None else PLAIN_EVERY):
            self._last = now
            self._draw()

    def phase(self, text: str) -> None:
        """What is being done now."""
        self._doing = text
        self._last = time.monotonic()
        self._draw()

    def judging(self, what: str, share: float) -> None:
        """The history is being judged."""
        self._doing, self._active = f"the history: {what}, {share:.0%}", None
        now = time.monotonic()
        if now - self._last >= (DRAW if self._live is not None else PLAIN_EVERY):
            self._last = now
            self._draw()

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""
        self._err.print(f"[yellow]{escape(text)}[/yellow]")

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        else:
            self._err.print(escape(self._line()))

    def _line(self) -> str:
        words = [f"{time.monotonic() - self._start:5.0f} s", self._doing]
        left = self._until - time.monotonic()
        if left > 0.5:
            words.append(f"{left:.0f} s left")
        side = self._active
        if side is not None and side.series.phases:
            recent = _recent(side)
            words += [f"ended/s {recent.throughput:.1f}", f"p95 {_ms(recent.p95)} ms", f"open {side.driver.open}"]
            words += [f"{n} {what}" for n, what in ((side.tally.faults, "faults"), (side.tally.duplicates, "duplicates")) if n]
        return " · ".join(words)

    def _picture(self) -> Group:
        parts: list[Any] = []
        for side in self._sides:
            if not side.series.phases:
                continue
            table = _table(side.label if len(self._sides) > 1 else "")
            *done, now = side.series.phases
            for phase in done:
                table.add_row(phase.name, *_figures(summary(side.series, [phase])))
            table.add_row(f"> {now.name}", *_figures(_recent(side)), style="bold")
            parts.append(table)
        return Group(*parts, Text(self._line(), style="dim"))


def _recent(side: Side) -> Summary:
    now = time.time() - side.series.zero - SLOT
    rate = side.series.phases[-1].rate
    return summary(side.series, [Phase("now", max(0.0, now - RECENT), rate, end=max(0.0, now))])


def _table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(escape(title), no_wrap=True, min_width=24)
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figures(found: Summary) -> list[str]:
    return [
        f"{found.asked:.1f}", f"{found.throughput:.1f}", _ms(found.p50), _ms(found.p95), _ms(found.p99),
        str(found.dropped or ""), str(found.failed or ""),
    ]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


# --- at the end -----------------------------------------------------------------------------------------------------


def heading(out: Rich, data: Mapping[str, Any]) -> None:
    """What was done, in a line."""
    against = f" against {data['against']}" if data["against"] else ""
    out.print(
        f"[bold]anechoic load[/bold]  {escape(data['coordinator'])}{escape(against)} x {data['instances']}   "
        f"gateway {data['gateway']}   store {data['store']}   {data['shape']}, {data['arrivals']}   seed {data['seed']}"
    )


def report(out: Rich, data: Mapping[str, Any]) -> None:
    """Print load.json for people."""
    heading(out, data)
    for side in data["sides"]:
        _side(out, side, searched=data["ceiling"] is not None)
    for found in data["ratios"]:
        out.print(
            f"[bold]{found['name']}[/bold] of {escape(data['coordinator'])} over {escape(data['against'])}: "
            f"{found['ratio']:.3f} [dim](95 %: {found['low']:.3f} to {found['high']:.3f}, {found['pairs']} pairs)[/dim]"
        )
    if data["ceiling"] is not None:
        _ceiling(out, data["ceiling"])
    for note in data["notes"]:
        out.print(f"note: {escape(note)}")
    for limit in data["limits"]:
        word = "[green]held[/green]" if limit["held"] else "[bold red]not held[/bold red]"
        seen = "nothing" if limit["seen"] is None else f"{limit['seen']:g}"
        out.print(f"limit: {escape(limit['name'])} {seen} of at most {limit['limit']:g} {limit['unit']}: {word}")
    out.print(f"[bold]exit {data['exit_code']}[/bold]")
    if data["reproduce"]:
        out.print(f"reproduce: {escape(data['reproduce'])}")


def _side(out: Rich, side: Mapping[str, Any], *, searched: bool) -> None:
    table = _table(side["coordinator"])
    for phase in _merged(side["phases"]):
        table.add_row(
            phase["name"], f"{phase['asked']:.1f}", f"{phase['throughput']:.1f}",
            *("-" if phase[f"{p}_ms"] is None else f"{phase[f'{p}_ms']:.0f}" for p in ("p50", "p95", "p99")),
            str(phase["dropped"] or ""), str(phase["failed"] or ""),
        )
    if not searched:
        out.print(Padding(table, (1, 0)), soft_wrap=False)
    for recovery in side["recoveries"]:
        after = "did not recover" if recovery["seconds"] is None else f"recovered within {recovery['seconds']:.1f} s"
        out.print(f"{after} of {escape(recovery['plan'])} [dim](p95 of a second below {recovery['limit_ms']:.0f} ms)[/dim]")
    per, counts = side["per_1000_calls"], side["verdict"]["counts"]
    out.print(
        f"{counts['tool_calls']} calls; per 1,000 of them: {per['duplicates']:g} duplicates, {per['lost']:g} lost, "
        f"{per['repeated_requests']:g} requests that were repeats"
    )
    cpu = ", ".join(f"{role.removeprefix('harness: ')} {ms:g}" for role, ms in side["cpu_ms_per_lifecycle"].items())
    out.print(f"CPU per lifecycle, ms: {escape(cpu)}")
    found = side["verdict"]
    for violation in found["violations"][:3]:
        out.print(f"  [red]{violation['contract']}[/red] {escape(violation['message'])}")
    if len(found["violations"]) > 3:
        out.print(f"  ... {len(found['violations']) - 3} more violations")
    for reason in found.get("reasons", []):
        out.print(f"note: {escape(reason)}")
    words = "   ".join(f"{name.upper()} {coloured(found[name])}" for name in THREE)
    out.print(f"{words}   verdict [bold]{coloured(found['verdict'])}[/bold]\n")


def _merged(phases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Slices of a comparison are many and alike: the healthy ones are shown as the slice in the middle of their p95."""
    well = sorted((p for p in phases if p["kind"] == "healthy"), key=lambda p: p["p95_ms"] or 0)
    middle = well[len(well) // 2 : len(well) // 2 + 1]
    return [*middle, *(phase for phase in phases if phase["kind"] in ("fault", "recovery"))]


def _ceiling(out: Rich, found: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("turns/s", "ended/s", "p50 ms", "p95 ms", "dropped", ""):
        table.add_column(name, justify="left" if not name else "right", no_wrap=bool(name))
    for step in sorted(found["steps"], key=lambda s: s["rate"]):
        table.add_row(
            f"{step['rate']:.1f}", f"{step['throughput']:.1f}", str(step["p50_ms"] or "-"), str(step["p95_ms"] or "-"),
            str(step["dropped"] or ""), "[green]held[/green]" if step["held"] else f"[red]{escape(step['why'])}[/red]",
        )
    out.print(Padding(table, (1, 0)), soft_wrap=False)
    rate = found["rate"]
    said = "none of these rates was held" if rate is None else f"highest rate held: [bold]{rate:g} turns/s[/bold]"
    out.print(f"{said} [dim](p95 of {found['max_p95_ms']:.0f} ms at most, no backlog, nothing dropped)[/dim]")

