"""The run as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from anechoic.report import drawing, timeline
from anechoic.report.cells import Cell, cells
from anechoic.report.record import Record
from anechoic.report.sequence import diagram, short
from contracts.catalogue import CONTRACTS, HONEST, LIVE, SAFE
from contracts.index import Index
from contracts.result import Violation
from contracts.story import Source, story

TOLD, LISTED = 6, 14
"""So many violations are told, and so many things reached and reasons are listed before the rest is folded away."""
ONCE = ("C1", "C7")
"""Contracts that a second effect breaks."""
MEANING = {
    SAFE: "nothing happened twice, and nothing that was not asked for",
    LIVE: "everything that could happen did",
    HONEST: "the model was told what really happened",
}
HEADLINE = {
    "pass": "Every demanded contract held.",
    "accepted": "Nothing new is broken: every violation is one that the baseline accepts.",
    "unknown": "It cannot be told whether the contracts hold.",
    "invalid": "The run itself was not sound, so it says nothing about the coordinator.",
}


def to_html(record: Record) -> str:
    """The page, some ten kilobytes. It is light or dark as its reader's system is, and can be read on a phone."""
    data = record.data
    word = "accepted" if data["verdict"] == "fail" and data["exit_code"] == 0 else str(data["verdict"])
    search = data.get("search")
    page: str = environment().get_template("report.html").render(
        data=data, word=word, headline=HEADLINE.get(word) or _broken(record), search=search,
        three=[(name, data[name], MEANING[name], _contracts_of(name, data)) for name in (SAFE, LIVE, HONEST) if name in data],
        counts=data.get("counts", {}), reasons=[*data.get("notes", ()), *data.get("reasons", ())], listed=LISTED,
        stories=[_story(index, violation, data) for index, violation in list(record.told())[:TOLD]],
        matrix=_matrix(data), contracts=data.get("contracts", ()), about={c.id: c.about for c in CONTRACTS.values()},
        timeline=Markup(timeline.to_svg(record.index))  # noqa: S704 - every text in it is escaped where it is made
        if isinstance(record.index, Index) and record.index.turns and search is None else None,
        reached=_reached(data), rounds=record.rounds, parts=record.parts, gateways=data.get("gateways", ()),
        baseline=data.get("baseline"),
    )
    return page


@functools.cache
def environment() -> Environment:
    """Templates of pages; a name that is not given is an error."""
    loader = PackageLoader("anechoic.report")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


def _broken(record: Record) -> str:
    """What a failed run has broken, in words."""
    found = [v for data in (record.data, *(part.data for part in record.below)) for v in data.get("violations", ())]
    broken = dict.fromkeys(v["contract"] for v in found if "accepted" not in v)
    names = [CONTRACTS[c].name.replace("_", " ") for c in CONTRACTS if c in broken]
    return f"Broken: {', '.join(names)}."


def _contracts_of(name: str, data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in data.get("contracts", ()) if CONTRACTS[row["id"]].verdict == name]


def _story(index: Source, violation: Violation, data: Mapping[str, Any]) -> dict[str, Any]:
    shown = diagram(index, violation)
    like = [v for v in data.get("violations", ()) if (v["contract"], v.get("shape")) == (violation.contract, violation.shape)]
    mine: Mapping[str, Any] = next((v for v in like if tuple(v["events"]) == violation.events), {})
    return {
        "contract": violation.contract, "name": CONTRACTS[violation.contract].name.replace("_", " "),
        "about": CONTRACTS[violation.contract].about, "message": short(violation.message), "full": violation.message,
        "more": max(0, len(like) - 1), "plans": mine.get("plans", ()), "left_out": shown.left_out,
        "svg": Markup(  # noqa: S704 - every text in it is escaped where it is made
            drawing.to_svg(shown, twice=violation.contract in ONCE)
        ),
        "lines": story(index, violation),
    }


def _matrix(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Contract x plan; contracts that were not judged are left out, plans with something to say come first."""
    judged = [row["id"] for row in data.get("contracts", ()) if row["status"] not in ("not_demanded", "not_reached")]
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells(data) if "search" not in data else ():
        if cell.contract in judged:
            rows.setdefault(cell.plan, {})[cell.contract] = cell
    if not rows:
        return None
    turns = {plan["name"]: plan["turns"] for plan in data.get("plans", ())}
    fired = {plan["name"]: plan["fired"] if plan["rules"] else None for plan in data.get("plans", ())}

    def telling(plan: str) -> tuple[int, int]:
        found = [cell.status for cell in rows[plan].values()]
        return -sum(s in ("failed", "accepted") for s in found), -sum(s == "error" for s in found)

    return {
        "contracts": judged,
        "rows": [
            (plan, turns.get(plan, 0), fired.get(plan), [rows[plan][c] for c in judged]) for plan in sorted(rows, key=telling)
        ],
    }


def _reached(data: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """What was reached, how often, and the share of the most frequent one, between 0 and 1."""
    found: Mapping[str, int] = data.get("reached") or data.get("search", {}).get("reached", {})
    together: dict[str, int] = {}
    for words, count in found.items():
        what = words.partition(" on ")[0].replace("_", " ")
        together[what] = together.get(what, 0) + count
    most = max(together.values(), default=1)
    return [(what, count, count / most) for what, count in sorted(together.items(), key=lambda item: -item[1])]
