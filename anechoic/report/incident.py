"""The incident on a terminal: both coordinators side by side with Artifact 4, the signals, and one duplicate's story."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console as Rich
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from anechoic.incident import TOOLS, Tuesday, held, reproduced

SEED_ROWS = {
    "tool_gw.http_5xx_rate": ("0.2%", "0.2%"),
    "tool_gw.p95_latency_ms": ("880", "910"),
    "submitter.submit_tool_outputs.success": ("99.9%", "99.8%"),
    "submitter.dedup.miss_rate": ("1.1%", "7.4%"),
    "llm_serve.replica_restarts": ("0-1", "6"),
}
"""Artifact 4: baseline, and 10:10 to 10:20 UTC."""


def report(out: Rich, deployed: Tuesday, hardened: Tuesday) -> None:
    """Print everything; nothing is decided here."""
    out.print(Padding(_numbers(deployed, hardened), (1, 0)), soft_wrap=False)
    out.print("[dim]dedup.miss_rate: misses on an intent that had been looked up before, of all look-ups[/dim]")
    out.print(Padding(_signals(deployed, hardened), (1, 0)), soft_wrap=False)
    if deployed.story:
        out.print(f"[bold]One duplicate of {escape(deployed.name)}, in the words of its logs[/bold]")
        for line in deployed.story:
            out.print(f"  {escape(line)}", style="red" if "AUDIT" in line else None)
    out.print()
    for tuesday in (deployed, hardened):
        _verdict(out, tuesday)
    out.print(_sentence(deployed, hardened))


def _numbers(deployed: Tuesday, hardened: Tuesday) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for head in ("seed: baseline", "10:10-10:20", f"{deployed.name}: calm", "storm", f"{hardened.name}: calm", "storm"):
        table.add_column(head, justify="right")
    for tool in TOOLS:
        counts = [str(t.duplicates[tool]) for t in (deployed, hardened)]
        table.add_row(f"duplicates of {tool}", "", "several" if tool != "refund_payment" else "", "", counts[0], "", counts[1])
    for row, seed in SEED_ROWS.items():
        cells: list[str] = []
        for tuesday in (deployed, hardened):
            for window in (tuesday.calm, tuesday.storm):
                cells.append(
                    {
                        "tool_gw.http_5xx_rate": f"{window.http_5xx_rate:.1%}",
                        "tool_gw.p95_latency_ms": f"{window.p95_latency_ms:.0f}",
                        "submitter.submit_tool_outputs.success": f"{window.submit_success:.1%}",
                        "submitter.dedup.miss_rate": f"{window.dedup_miss_rate:.1%}",
                        "llm_serve.replica_restarts": str(window.replica_restarts),
                    }[row]
                )
        table.add_row(row, *seed, *cells)
    return table


def _signals(deployed: Tuesday, hardened: Tuesday) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("signal", "", deployed.name, "", hardened.name):
        table.add_column(head, overflow="fold")
    cured = {s.id: s for s in hardened.signals}
    for signal in deployed.signals:
        other = cured[signal.id]
        table.add_row(
            signal.id, signal.about, "[red]seen[/red]" if signal.seen else "not seen", escape(signal.evidence),
            "seen" if other.seen else "not seen",
        )
    return table


def _verdict(out: Rich, tuesday: Tuesday) -> None:
    data = tuesday.outcome.data
    doubt = f", {tuesday.in_doubt} calls reported in doubt" if tuesday.in_doubt else ""
    out.print(
        f"{tuesday.name:<12} SAFE {data['safe']}  LIVE {data['live']}  HONEST {data['honest']}: "
        f"{data['counts']['effects']} effects of {data['counts']['tool_calls']} tool calls, "
        f"{sum(tuesday.duplicates.values())} duplicates{doubt}"
    )
    for reason in [*tuesday.outcome.notes, *data.get("reasons", ())]:
        out.print(f"  note: {escape(reason)}")


def _sentence(deployed: Tuesday, hardened: Tuesday) -> str:
    missing: Sequence[str] = [s.id for s in deployed.signals if not s.seen]
    one = "[green]reproduced[/green]" if reproduced(deployed) else "[bold red]not reproduced[/bold red]"
    if missing:
        one += f" (not seen: {', '.join(missing)})"
    two = "[green]held[/green]" if held(hardened) else "[bold red]did not hold[/bold red]"
    return f"The incident was {one}; the cure {two}."
