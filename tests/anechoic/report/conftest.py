"""Records of runs to report on: real ones, from the simulation, which takes a moment."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import pytest

from anechoic.gate import expected_rules
from anechoic.report.record import Record
from chaos import builtin
from chaos.plan import Plan, parse
from chaos.schedule import rotate
from chaos.simulation import Settings, simulate
from chaos.turns import make
from contracts.document import to_json
from contracts.verdict import judge
from fakes.gateway.profile import PROFILES

Ran = Callable[..., Record]
NEVER = parse({"name": "never", "rules": [
    {"when": {"event": "tool_requested", "tool": "no_such_tool"}, "do": {"fault": "slow"}},
]})


@functools.cache
def _ran(coordinator: str, names: tuple[str, ...], turns: int, gateway: str, wanted: Sequence[str] | None) -> Record:
    plans: list[Plan] = [NEVER if name == "never" else builtin.find(name) for name in names]
    bound = [
        dataclasses.replace(make(1, number), plans=tuple(p.name for p in plans))
        for number, plans in enumerate(rotate(plans, turns).turns)
    ]
    settings = Settings(coordinator=coordinator, gateway=PROFILES[gateway], seed=1)
    history = simulate(settings, bound, plans, header={"plans": [p.to_json() for p in plans]})
    rules = expected_rules(plans, history.events, explicit=True)
    judgement = judge(history.events, PROFILES[gateway], wanted=wanted, expected_rules=rules)
    header = {**history.header, "coordinator": coordinator}
    return Record(to_json(judgement, header, f"anechoic gate --coordinator {coordinator} --seed 1"), judgement.index)


@pytest.fixture
def ran() -> Ran:
    """`ran(coordinator, *plans)` is the record of a gate, its turns bound to the plans in rotation; "never" never fires."""

    def run(
        coordinator: str, *plans: str, turns: int = 6, gateway: str = "keyless", wanted: Sequence[str] | None = None
    ) -> Record:
        return _ran(coordinator, plans, turns, gateway, wanted)

    return run
