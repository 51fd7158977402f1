"""The run in Markdown, for a CI job's summary page: the verdicts, the contracts, what was reached, the first violation."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anechoic.report.mermaid import to_mermaid
from anechoic.report.record import THREE, Record
from anechoic.report.sequence import diagram, short

SIGNS = {"pass": "✅", "fail": "❌", "unknown": "❓", "invalid": "⚠️", "not_demanded": "⚪"}
LISTED = 12
"""So many rows of what was reached, of plans and of kinds of violations are shown; the rest is counted."""


def to_markdown(record: Record) -> str:
    """The page, a few kilobytes. Every text that comes from outside is escaped."""
    return "\n\n".join(part for part in _parts(record) if part) + "\n"


def _parts(record: Record) -> Iterator[str]:
    data = record.data
    yield f"## anechoic: {_sign(data['verdict'])} (exit {data['exit_code']})"
    yield f"{code(data['coordinator'])} at gateway {code(data['gateway'])}, seed {code(data['seed'])}"
    three = [name for name in THREE if name in data and not record.gateways]
    if three:
        yield _table([name.upper() for name in three], [[_sign(data[name]) for name in three]])
    if counts := data.get("counts"):
        yield ", ".join(f"**{number}** {what.replace('_', ' ')}" for what, number in counts.items())
    for reason in [*data.get("notes", ()), *data.get("reasons", ())][:LISTED]:
        yield f"> {escape(reason)}"
    if record.gateways:
        yield _gateways(data["gateways"])
        for run in record.runs:
            yield from _parts(run)
        return
    if "baseline" in data:
        yield _baseline(data["baseline"])
    yield from _first(record)
    yield _rounds(record)
    yield _contracts(data)
    yield _folded("What was reached", _reached(data.get("reached") or data.get("search", {}).get("reached", {})))
    yield _folded("Fault plans", _plans(data))
    if data.get("reproduce"):
        yield f"Reproduce it:\n\n{fenced(data['reproduce'], 'sh')}"


def _gateways(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ["gateway", *(name.upper() for name in THREE), "verdict", "exit"],
        [
            [code(row["gateway"]), *(_sign(row.get(name, "")) for name in (*THREE, "verdict")), str(row["exit_code"])]
            for row in rows
        ],
    )


def _first(record: Record) -> Iterator[str]:
    found = record.first
    if found is None:
        return
    index, violation = found
    shown = diagram(index, violation)
    yield f"### The first violation: {violation.contract}\n\n{escape(short(violation.message))}"
    left = f"\n\n{shown.left_out} less telling messages are left out." if shown.left_out else ""
    yield f"```mermaid\n{to_mermaid(shown)}\n```{left}"


def _contracts(data: Mapping[str, Any]) -> str:
    rows = [
        [row["id"], row["name"].replace("_", " "), _sign(row["status"]), str(row.get("checked", "")),
         str(row["violations"] or ""), escape(row["note"])]
        for row in data.get("contracts", ())
    ]
    return _table(["", "contract", "", "checked", "violations", ""], rows) if rows else ""


def _reached(counts: Mapping[str, int]) -> str:
    rows = sorted(counts.items(), key=lambda item: -item[1])
    more = f"\n\n... and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
    return _table(["times", "what"], [[str(n), escape(what)] for what, n in rows[:LISTED]]) + more if rows else ""


def _plans(data: Mapping[str, Any]) -> str:
    broken = {plan for v in data.get("violations", ()) if "accepted" not in v for plan in v.get("plans", ())}
    rows = [
        [code(plan["name"]), str(plan["turns"]), str(plan["fired"] or ""), "❌" if plan["name"] in broken else ""]
        for plan in ([] if "search" in data else data.get("plans", ()))
    ]
    return _table(["plan", "turns", "faults", "violated"], rows) if rows else ""


def _rounds(record: Record) -> str:
    bad = [r for r in record.rounds if r["verdict"] != "pass"]
    if not record.rounds:
        return ""
    rows = [
        [str(r["number"]), _sign(r["verdict"]) + (" (accepted)" if r.get("accepted") else ""), str(r["counts"]["duplicates"]),
         str(r["counts"]["lost"]), str(r["faults"])]
        for r in bad[:LISTED]
    ]
    passed = f"{len(record.rounds) - len(bad)} of {len(record.rounds)} rounds passed."
    return f"{passed}\n\n" + (_table(["round", "", "duplicates", "lost", "faults"], rows) if rows else "")


def _baseline(data: Mapping[str, Any]) -> str:
    lines = [f"Baseline {code(data['file'])}: {data['accepted']} violations accepted, {len(data['new'])} kinds are new."]
    for word, what in (
        ("new", "new"), ("added", "added"), ("fixed", "fixed, removed" if "removed" in data else "fixed, can be removed"),
        ("untested", "not put to the test"),
    ):
        lines += [f"- {escape(entry)}: {what}" for entry in data.get(word, ())[:LISTED]]
    return "\n".join(lines)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>" if text else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _sign(status: str) -> str:
    return f"{SIGNS.get(status, '')} {status.replace('_', ' ')}".strip()


def escape(text: object) -> str:
    """Text that means nothing to Markdown or HTML."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


def code(text: object) -> str:
    """Text in a code span, also within a table."""
    plain = " ".join(str(text).split()).replace("|", "¦")
    ticks = "``" if "`" in plain else "`"
    pad = " " if "`" in plain else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def fenced(text: str, kind: str) -> str:
    """Text in a code block that nothing in it can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{kind}\n{text}\n{fence}"
