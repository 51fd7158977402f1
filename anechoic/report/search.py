"""A search on a terminal: one live line while it runs, then the verdict, and the story of the smallest case."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console as Rich
from rich.markup import escape
from rich.status import Status

from anechoic.report.console import COLOURS, PLAIN_EVERY, baseline, terminal
from anechoic.search import Search
from contracts.property import Found, Survived, Tally
from contracts.story import story

REACHED = 12
"""How many of the things reached are shown, the most frequent ones."""


class SearchConsole:
    """Draws what a search tells. Progress goes to standard error, results to standard output."""

    def __init__(self, asked: Search) -> None:
        self._asked = asked
        self._out = terminal()
        self._err = Rich(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._start = self._last = time.monotonic()

    def __enter__(self) -> SearchConsole:
        asked = self._asked
        self._out.print(
            f"[bold]anechoic[/bold]  {escape(asked.coordinator)}   gateway {asked.gateway.name}   {asked.world}   "
            + ("derandomized" if asked.derandomize else f"seed {asked.seed}")
            + f"   up to {asked.examples} examples"
        )
        if self._err.is_terminal:
            self._status = self._err.status("searching")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """No live line any more."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, text: str) -> None:
        """Something that the reader should know at once."""
        self._err.print(f"[yellow]{escape(text)}[/yellow]")

    def on_trial(self, tally: Tally) -> None:
        """One more example, or batch of them."""
        since = time.monotonic() - self._last
        if since < (0.2 if self._status is not None else PLAIN_EVERY):
            return
        self._last = time.monotonic()
        seconds = self._last - self._start
        line = (
            f"{seconds:5.1f} s · examples {tally.examples}/{self._asked.examples} · {tally.examples / seconds:.0f}/s · "
            f"calls {tally.calls} · effects {tally.effects} · faults {tally.fired}"
        )
        if self._status is not None:
            self._status.update(line)
        else:
            self._err.print(line)

    def verdict(self, result: Found | Survived, data: Mapping[str, Any]) -> None:
        """What came out; `data` is the content of verdict.json."""
        self.stop()
        out, tally = self._out, result.tally
        if tally.reached:
            shown = ", ".join(f"{words} {count}" for words, count in tally.reached.most_common(REACHED))
            out.print(f"[bold]reached[/bold] {escape(shown)}")
        if isinstance(result, Found):
            self._found(result)
        else:
            for why in result.why:
                out.print(f"note: {escape(why)}")
            if result.out_of_time:
                out.print(f"note: the time was over after {result.examples} of {self._asked.examples} examples")
        out.print(
            f"\n{tally.examples} examples, {tally.turns} turns, {tally.calls} tool calls, {tally.effects} effects, "
            f"{tally.fired} faults in {tally.seconds:.1f} s"
        )
        baseline(out, data)
        verdict = data["verdict"]
        out.print(f"verdict [bold][{COLOURS[verdict]}]{verdict}[/{COLOURS[verdict]}][/bold] (exit {data['exit_code']})")
        if self._asked.reproduce:
            out.print(f"reproduce: {escape(self._asked.reproduce)}")

    def _found(self, found: Found) -> None:
        out, trial = self._out, found.trial
        out.print(f"\n[bold red]{found.violation.contract}[/bold red] {escape(found.violation.message)}")
        for line in str(found.case).splitlines():
            out.print(f"  {escape(line)}")
        if trial.judgement.index is not None:
            for line in story(trial.judgement.index, found.violation):
                out.print(f"    {escape(line)}")
        out.print(
            f"found at example {found.examples}, made small in {found.tried} tries and "
            f"{found.seconds - found.tally.seconds:.1f} s; {reproduced(found.confirmed, found.confirmations)} in the "
            + ("simulation" if found.world == "simulation" else "world of the wire")
        )
        if self._asked.report_dir is not None:
            path = self._asked.report_dir / "counterexample.json"
            out.print(f"again: anechoic replay {escape(str(path))}")


def reproduced(times: int, of: int) -> str:
    """How often it was seen again."""
    return f"reproduced {times}/{of}"
