"""The gate on a terminal: one live line while it runs, the verdict and its reasons at the end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console as Rich
from rich.markup import escape
from rich.padding import Padding
from rich.status import Status
from rich.table import Table

from anechoic.gate import Observer, Outcome
from anechoic.report.record import THREE
from chaos.schedule import Schedule
from chaos.wire.chamber import Chamber
from contracts.story import story
from contracts.verdict import Judgement
from fakes import history as h

COLOURS = {"pass": "green", "fail": "bold red", "unknown": "yellow", "invalid": "magenta", "not_demanded": "dim"}
STORIES = 3
"""How many violations are told in full; the rest is counted, and in verdict.json."""
PLAIN_EVERY = 5.0
"""Seconds between two progress lines where the output is no terminal."""


class Console(Observer):
    """Draws what a gate tells. Progress goes to standard error, results to standard output."""

    def __init__(self, *, heading: bool = True) -> None:
        self._heading = heading
        self._out = terminal()
        self._err = Rich(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._counts: Counter[str] = Counter()
        self._effects: Counter[str | None] = Counter()
        self._turns = 0
        self._phase = ""
        self._last = 0.0
        self._start = time.monotonic()

    def __enter__(self) -> Console:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    # --- while it runs ----------------------------------------------------------------------------------------------

    def started(self, chamber: Chamber, planned: Schedule) -> None:
        """Say what is about to run, and where things are when somebody else has to be told."""
        settings = chamber.settings
        self._turns = len(planned.turns)
        if not self._heading:
            return
        self._stop()
        self._out.print(
            f"[bold]anechoic[/bold]  {escape(settings.coordinator.label)} x {settings.instances}   "
            f"gateway {settings.gateway.name}   seed {settings.seed}   {self._turns} turns   "
            f"a repeated submit gets {settings.repeat_submit}"
        )
        self._out.print(f"  {escape(planned.about)}")
        self._begin()

    def again(self) -> None:
        """Another run follows on the same terminal."""
        self._counts.clear()
        self._effects.clear()
        if self._status is None:
            self._begin()

    def pause(self) -> None:
        """Take the live line away, for something else to be printed."""
        self._stop()

    def placed(self, chamber: Chamber) -> None:
        """Print the environment of instances that this run does not start: whoever starts them has to know."""
        if chamber.settings.coordinator.killable:
            return
        for name, environ in chamber.addresses.items():
            print(f"# {name}")
            for key, value in public(environ).items():
                print(f"{key}={value}", flush=True)

    def event(self, event: h.Event) -> None:
        """Count, and redraw the line now and then."""
        if isinstance(event, h.EffectCommitted):
            self._effects[event.nonce or event.effect_id] += 1
        self._counts[event.kind] += 1
        self._draw()

    def phase(self, text: str) -> None:
        """What is being done now."""
        self._phase = text
        self._draw(now=True)

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""
        self._err.print(f"[yellow]{escape(text)}[/yellow]")

    def _draw(self, now: bool = False) -> None:
        since = time.monotonic() - self._last
        if self._status is None:
            if since < PLAIN_EVERY or self._phase == "":
                return
            self._err.print(self._line())
        elif now or since >= 0.2:
            self._status.update(escape(self._line()))
        else:
            return
        self._last = time.monotonic()

    def _line(self) -> str:
        c = self._counts
        seconds = time.monotonic() - self._start
        words = [
            f"{seconds:5.1f} s", self._phase, f"turns {c['turn_ended']}/{self._turns}",
            f"open {c['turn_planned'] - c['turn_ended']}", f"effects {sum(self._effects.values())}",
            f"faults {c['fault_injected']}", f"instances started {c['instance_started']}",
        ]
        return " · ".join(words)

    def _begin(self) -> None:
        if self._err.is_terminal:
            self._status = self._err.status(escape(self._line()))
            self._status.start()

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    # --- at the end -------------------------------------------------------------------------------------------------

    def verdict(self, outcome: Outcome) -> None:
        """The verdict, the contracts with counts, what was reached, the stories, and the line that reproduces it."""
        self._stop()
        report(self._out, outcome.data, outcome.judgement, outcome.notes)


def public(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a coordinator's environment that name the chamber's parts."""
    return {k: v for k, v in environ.items() if k.isupper() and k not in ("PORT", "NO_PROXY")}


def terminal() -> Rich:
    """Standard output; 120 columns where it is no terminal."""
    out = Rich(highlight=False, soft_wrap=True)
    if not out.is_terminal:
        out.width = 120
    return out


def report(out: Rich, data: dict[str, Any], judgement: Judgement, notes: list[str]) -> None:
    """Print verdict.json for people, with the stories of the first violations of different kinds."""
    _contracts(out, data)
    reached(out, data["reached"])
    fired = {f["rule"]: f["fired"] for f in data["faults"]}
    if fired:
        never = [rule for rule, count in fired.items() if not count]
        out.print(f"[bold]faults[/bold]  {sum(fired.values())} injected by {len(fired) - len(never)} of {len(fired)} rules")
        if never:
            out.print(f"  never fired: {escape(', '.join(never))}")
    new = [v for v, said in zip(judgement.violations, data["violations"], strict=True) if "accepted" not in said]
    told = list(dict.fromkeys(new))[:STORIES]  # equal violations break the same contract in the same way
    for violation in told:
        out.print(f"\n[bold red]{violation.contract}[/bold red] {escape(violation.message)}")
        for line in story(judgement.index, violation) if judgement.index is not None else ():
            out.print(f"    {escape(line)}")
    more = len(new) - len(told)
    if more > 0:
        out.print(f"\n... and {more} more violations; --report-dir DIR keeps all of them in DIR/verdict.json")
    for note in [*notes, *data.get("reasons", [])]:
        out.print(f"note: {escape(note)}")
    counts = data["counts"]
    out.print(
        f"\n{counts['turns']} turns, {counts['tool_calls']} tool calls, {counts['effects']} effects, "
        f"{counts['duplicates']} duplicates, {counts['lost']} lost, {counts['unattributed']} unattributed"
    )
    baseline(out, data)
    three = "   ".join(f"{name.upper()} {coloured(data[name])}" for name in THREE)
    out.print(f"{three}   verdict [bold]{coloured(data['verdict'])}[/bold] (exit {data['exit_code']})")
    if data["reproduce"]:
        out.print(f"reproduce: {escape(data['reproduce'])}")


def gateways(out: Rich, data: Mapping[str, Any]) -> None:
    """What several gateway profiles came to: a row for each one."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("gateway", "SAFE", "LIVE", "HONEST", "verdict", "exit"):
        table.add_column(column, no_wrap=True)
    for row in data["gateways"]:
        said = [coloured(row[name]) if name in row else "" for name in (*THREE, "verdict")]
        table.add_row(row["gateway"], *said, str(row["exit_code"]))
    out.print(Padding(table, (1, 0)), soft_wrap=False)
    for note in data.get("notes", ()):
        out.print(f"note: {escape(note)}")
    out.print(f"verdict [bold]{coloured(data['verdict'])}[/bold] (exit {data['exit_code']})")


def baseline(out: Rich, data: Mapping[str, Any]) -> None:
    """What the run was held against, what is new and what is fixed; nothing where there is no baseline."""
    found = data.get("baseline")
    if found is None:
        return
    out.print(f"[bold]baseline[/bold] {escape(found['file'])}: {found['accepted']} violations accepted")
    for word, colour, what in (
        ("new", "red", "new"), ("added", "yellow", "added"), ("removed", "green", "fixed, removed"),
        ("fixed", "green", "fixed, can be removed with --update-baseline"), ("untested", "dim", "not put to the test"),
    ):
        if word == "fixed" and "removed" in found:
            continue
        for entry in found.get(word, ()):
            out.print(f"  [{colour}]{escape(entry)}: {what}[/{colour}]")


def _contracts(out: Rich, data: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "contract", ""):
        table.add_column(column, no_wrap=True)
    for column in ("checked", "violations"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in data["contracts"]:
        table.add_row(
            row["id"], row["name"], coloured(row["status"]), str(row["checked"]), str(row["violations"] or ""),
            escape(row.get("note", "")),
        )
    out.print(Padding(table, (1, 0)), soft_wrap=False)


def reached(out: Rich, counts: Mapping[str, int]) -> None:
    """One line for each thing, what it happened to behind it: `14  commit_then_lose_reply (refund_payment 14)`."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for words, count in counts.items():
        what, _, tool = words.partition(" on ")
        groups[what][tool] = count
    if groups:
        out.print("[bold]reached[/bold]")
    for what, tools in groups.items():
        on = ", ".join(f"{tool} {count}" for tool, count in tools.items() if tool)
        out.print(f"  {sum(tools.values()):>5}  {escape(what)}" + (f" [dim]({escape(on)})[/dim]" if on else ""))


def coloured(status: str) -> str:
    """The word of a status, in its colour, as Rich's markup."""
    return f"[{COLOURS[status]}]{status}[/{COLOURS[status]}]"
