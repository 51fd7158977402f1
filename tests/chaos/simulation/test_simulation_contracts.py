"""The contracts over simulated histories: the right design holds everywhere, the wrong one breaks where the incident did."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from anechoic.gate import expected_rules
from chaos import builtin
from chaos.plan import Plan
from chaos.simulation import Settings, simulate
from chaos.turns import make
from contracts.verdict import Judgement, judge
from fakes.gateway.profile import PROFILES

PLANS = [plan for name, plan in builtin.plans().items() if name not in ("incident", "cut-stream") and not plan.needs_wire]
"""Those that befall a coordinator which polls, each with one idea."""


def judged(coordinator: str, gateway: str, plan: Plan, seed: int = 1, turns: int = 3, calm: int = 1) -> Judgement:
    """Turns under the plan, and some calm ones beside them."""
    bound = [dataclasses.replace(make(seed, n), plans=(plan.name,)) for n in range(turns)]
    settings = Settings(coordinator=coordinator, gateway=PROFILES[gateway], seed=seed)
    events = simulate(settings, [*bound, *(make(seed, turns + n) for n in range(calm))], [plan]).events
    return judge(events, PROFILES[gateway], expected_rules=expected_rules([plan], events, explicit=True))


@pytest.mark.parametrize("gateway", ["keyless", "keyed", "lookup", "fenced"])
def test_the_hardened_design_holds_under_every_plan(gateway: str) -> None:
    """Every built-in plan alone: safe, live and honest, and every rule fired."""
    wrong: dict[str, Any] = {}
    for plan in PLANS:
        judgement = judged("hardened", gateway, plan)
        if judgement.verdict != "pass":
            wrong[plan.name] = (judgement.violations, judgement.reasons)
    assert not wrong


@pytest.mark.parametrize(
    ("plan", "contract"),
    [
        ("stale-polls", "C1"), ("commit-then-lose-reply", "C1"), ("commit-then-500", "C1"), ("regenerated-new-ids", "C7"),
        ("resend-turn", "C7"), ("aligned-polls", "C7"), ("kill-after-commit", "C7"), ("slow-tool", None), ("none", None),
    ],
)
def test_the_deployed_design_breaks_where_the_incident_did(plan: str, contract: str | None) -> None:
    """SAFE fails under what happened on that day, by the contract that says so, and not on a calm day."""
    judgement = judged("as_deployed", "keyless", builtin.plans()[plan])
    if contract is None:
        assert judgement.verdict == "pass"
    else:
        assert judgement.safe == "fail"
        assert contract in {violation.contract for violation in judgement.violations}
