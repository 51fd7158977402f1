"""The cells of a verdict: what became of each contract under each fault plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

SEARCH, UNKNOWN = "search", "unknown"
"""Plans that are none: a search draws its own, and a violation of no single conversation has none."""
_NOT_JUDGED = ("not_demanded", "not_reached")


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One contract under one plan. `status` is passed, failed, error, skipped or accepted; `why` says why it is not passed."""

    contract: str
    name: str
    plan: str
    status: str
    why: str = ""
    violations: Sequence[Mapping[str, Any]] = ()


def cells(data: Mapping[str, Any]) -> list[Cell]:
    """Contract x plan, plan by plan. A violation counts under each plan that was bound to its conversation.

    One that belongs to no conversation is under the plan "unknown"; a search, which draws its plans, has the one plan SEARCH.
    """
    plans: list[Mapping[str, Any]] = list(data.get("plans", ()))
    if "search" in data:
        plans = [{"name": SEARCH, "turns": 1, "rules": []}]
    loose = [v for v in data.get("violations", ()) if not _plans_of(v, data)]
    if loose:
        plans.append({"name": "unknown", "turns": 1, "rules": []})
    silent = {fault["rule"]: fault["why"] for fault in data.get("faults", ()) if "why" in fault}
    out: list[Cell] = []
    for plan in plans:
        mine = loose if plan["name"] == "unknown" else [
            v for v in data.get("violations", ()) if plan["name"] in _plans_of(v, data)
        ]
        flaw = _flaw(plan, silent, data)
        out += [
            _cell(row, plan["name"], [v for v in mine if v["contract"] == row["id"]], flaw)
            for row in data.get("contracts", ())
        ]
    return out


def _plans_of(violation: Mapping[str, Any], data: Mapping[str, Any]) -> Sequence[str]:
    return ("search",) if "search" in data else violation.get("plans", ())


def _flaw(plan: Mapping[str, Any], silent: Mapping[str, str], data: Mapping[str, Any]) -> tuple[str, str] | None:
    """(status, why) of all cells of a plan under which nothing can be called passed."""
    if unsound := data.get("unsound"):
        return "error", unsound[0]
    for rule in plan["rules"]:
        if rule in silent:
            return "error", f"vacuous: rule {rule} never fired: {silent[rule]}"
    if not plan["turns"]:
        return "skipped", "no turn was delivered under this plan"
    if plan["rules"] and not plan["fired"]:
        return "skipped", "no fault of this plan fired, and none had to"
    return None


def _cell(
    row: Mapping[str, Any], plan: str, violations: Sequence[Mapping[str, Any]], flaw: tuple[str, str] | None
) -> Cell:
    cell = Cell(row["id"], row["name"], plan, "passed")
    new = [v for v in violations if "accepted" not in v]
    if new:
        more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
        return dataclasses.replace(cell, status="failed", why=new[0]["message"] + more, violations=new)
    if row["status"] in _NOT_JUDGED:
        return dataclasses.replace(cell, status="skipped", why=f"{row['status'].replace('_', ' ')}: {row['note']}")
    if flaw is not None:
        return dataclasses.replace(cell, status=flaw[0], why=flaw[1])
    if row["status"] == "unknown":
        return dataclasses.replace(cell, status="error", why=f"could not be decided: {row['note']}")
    if violations:
        reason = violations[0]["accepted"] or "no reason given"
        why = f"accepted by the baseline ({reason}): {violations[0]['message']}"
        return dataclasses.replace(cell, status="accepted", why=why, violations=violations)
    return cell
