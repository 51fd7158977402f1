"""A judgement as verdict.json has it: all that a reporter needs, but for the events that a story is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.verdict import Judgement

FORMAT_VERSION = 1


def to_json(judgement: Judgement, header: Mapping[str, Any], reproduce: str) -> dict[str, Any]:
    """The content of verdict.json.

    `header` is the history's first line (seed, coordinator, gateway, plans); `reproduce` is the command that does it again.
    `reasons` is there only when there are any, and so is `unsound`: those of them that are about the whole run.
    """
    out: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "verdict": str(judgement.verdict),
        "safe": str(judgement.safe),
        "live": str(judgement.live),
        "honest": str(judgement.honest),
        "exit_code": judgement.exit_code,
        "seed": header.get("seed"),
        "coordinator": header.get("coordinator"),
        "gateway": header.get("gateway", judgement.terms.profile.name),
        "seconds": round(judgement.seconds, 1),
        "counts": dict(judgement.counts),
        "contracts": [
            {
                "id": r.contract, "name": r.name, "class": r.klass, "status": str(r.status), "checked": r.checked,
                "violations": len(r.violations), "note": r.note,
            }
            for r in judgement.results
        ],
        "violations": [
            {
                "contract": v.contract, "shape": v.shape, "message": v.message, "conversation": v.conversation,
                "plans": sorted(v.plans), "run_id": v.run_id, "tool_call_id": v.tool_call_id,
                "effects": list(v.effects), "events": list(v.events),
            }
            for v in judgement.violations
        ],
        "reached": dict(judgement.reached),
        "plans": _plans(judgement, header),
        "faults": [
            {"rule": rule, "fired": fired} | ({"why": why} if (why := judgement.flaws.silent.get(rule)) else {})
            for rule, fired in judgement.fired.items()
        ],
        "reproduce": reproduce,
    }
    if (over := judgement.budget_ended) is not None:
        out["budget"] = {"seconds": over.seconds, "ended": True, "delivered": over.delivered, "turns": over.turns}
    if judgement.reasons:
        out["reasons"] = list(judgement.reasons)
    if judgement.flaws.run:
        out["unsound"] = list(judgement.flaws.run)
    return out


def _plans(judgement: Judgement, header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each plan: how many turns were delivered under it, its rules, and how often they fired."""
    rules = {plan["name"]: [rule["id"] for rule in plan["rules"]] for plan in header.get("plans", ())}
    return [
        {
            "name": name, "turns": judgement.turns_under.get(name, 0), "rules": rules.get(name, []),
            "fired": sum(judgement.fired.get(rule, 0) for rule in rules.get(name, [])),
        }
        for name in (*rules, *(name for name in judgement.turns_under if name not in rules))
    ]
