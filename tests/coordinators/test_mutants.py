"""The mutants: each dies where it is expected to, by the contract that it breaks, and by a case that the hardened one survives."""

from __future__ import annotations

import functools
import importlib
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chaos.plan import Plan, parse
from chaos.simulation import Settings, simulate
from chaos.turns import Turn
from contracts.profiles import RetryBudget
from contracts.verdict import Judgement, judge
from coordinators.mutants import MUTANTS, PROFILES, Mutant, UnknownMutant, named
from coordinators.mutants.__main__ import start
from fakes.faults import FAKE_FAULTS
from fakes.gateway.profile import PROFILES as GATEWAYS
from fakes.script import Script, ScriptedCall

CASES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())
CONTROLS = {
    "claims:joint_conduct": ("check_then_set",),
    "results:relying_on_callbacks": ("ack_before_processing", "outputs_read_modify_write"),
}
"""What some mutants are made of before their bug is added, and their cases."""


def plan_of(name: str) -> Plan:
    """The plan of a case."""
    return parse({"name": name, "rules": CASES[name].get("rules", [])})


def turns_of(name: str) -> list[Turn]:
    """The turns of a case."""
    case = CASES[name]
    turns = []
    for number in range(1, case.get("turns", 1) + 1):
        common = {"user_id": "U1", "conversation_id": f"C{number}"}
        if case.get("alike"):
            common["reference"] = f"C{number}_alike"
        steps = tuple(tuple(ScriptedCall(tool, dict(common)) for tool in step) for step in case["steps"])
        turns.append(Turn(Script(f"turn_{number}", f"C{number}", "U1", steps)))
    return turns


def play(coordinator: str, name: str, gateway: str) -> Judgement:
    """Run the case of a mutant with a coordinator at a gateway, and judge it."""
    plan, profile, budget = plan_of(name), GATEWAYS[gateway], named(name).budget
    settings = Settings(coordinator=coordinator, gateway=profile, seed=1, turn_budget=4.0, quiesce_budget=4.0)
    history = simulate(settings, turns_of(name), [plan])
    return judge(
        history.events, profile,
        expected_rules=[(rule.id, False) for rule in plan.rules],
        retry_budget=None if budget is None else RetryBudget(*budget),
    )


@functools.cache
def hardened(case: str, gateway: str, budget: tuple[int, float] | None) -> str:
    """The verdict on the hardened coordinator; mutants with the same case share it."""
    name = next(m.name for m in MUTANTS if repr(CASES[m.name]) == case and m.budget == budget)
    return str(play("hardened", name, gateway).verdict)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.number}-{m.name}")
def test_a_mutant_dies_where_it_is_expected_to(mutant: Mutant) -> None:
    """At each profile the expected verdict, a failure by the contract that the mutant breaks; the hardened one passes."""
    for gateway, expected in mutant.expected.items():
        judgement = play(mutant.module_attribute, mutant.name, gateway)
        violated = {violation.contract for violation in judgement.violations}
        assert str(judgement.verdict) == expected, (gateway, judgement.reasons, judgement.violations)
        assert bool(violated & set(mutant.breaks)) == (expected == "fail"), (gateway, violated)
        assert hardened(repr(CASES[mutant.name]), gateway, mutant.budget) == "pass", gateway


@pytest.mark.parametrize("where", CONTROLS)
def test_only_the_bug_makes_the_difference(where: str) -> None:
    """A variant that a mutant is built on holds where the mutant fails."""
    for name in CONTROLS[where]:
        for gateway in PROFILES:
            assert str(play(f"coordinators.mutants.{where}", name, gateway).verdict) == "pass", (name, gateway)


def test_cases_are_small() -> None:
    """One run, two calls and two faults are enough, and two runs where one alone cannot show the bug."""
    assert set(CASES) == {m.name for m in MUTANTS}
    for mutant in MUTANTS:
        case, plan = CASES[mutant.name], plan_of(mutant.name)
        assert case.get("turns", 1) == mutant.turns
        assert sum(map(len, case["steps"])) <= 2
        assert sum(len(rule.do) for rule in plan.rules) <= 2
        if not mutant.harmless:
            assert set(mutant.needs) <= plan.faults
            assert plan.faults <= set(mutant.faults) | {"late_callback"}
            assert bool(plan.faults & set(mutant.faults)) == bool(mutant.faults)


def test_the_registry_is_complete() -> None:
    """41 mutants; the two harmless ones pass everywhere, every other one fails somewhere."""
    assert [m.number for m in MUTANTS] == list(range(1, 42))
    assert len({m.name for m in MUTANTS}) == 41
    assert [m.number for m in MUTANTS if m.harmless] == [14, 38]
    for mutant in MUTANTS:
        assert set(PROFILES) <= set(mutant.expected) <= set(GATEWAYS)
        assert ("fail" in mutant.expected.values()) != mutant.harmless
        assert bool(mutant.breaks) != mutant.harmless


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_docstrings_tell_fault_and_contract(mutant: Mutant) -> None:
    """Each mutant says in the code which contracts it breaks and what exposes it, as the registry does."""
    module, _, attribute = mutant.module_attribute.partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), attribute).keywords["service"]) or ""
    if mutant.harmless:
        assert "No contract is broken" in text
        return
    assert "Exposed by" in text
    assert all(contract in text for contract in mutant.breaks), text
    assert not mutant.faults or any(fault in text for fault in mutant.faults)
    assert all(fault in text for fault in mutant.faults if fault in FAKE_FAULTS), text


def test_an_unknown_name_is_told_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the nearest name, and all of them; without a name the usage."""
    assert start(["no_dispach_dedup"]) == 2
    assert "did you mean 'no_dispatch_dedup'?" in capsys.readouterr().err
    assert start([]) == 2
    assert "usage: python -m coordinators.mutants NAME" in capsys.readouterr().err
    with pytest.raises(UnknownMutant, match="there is no mutant 'x'; Known: no_dispatch_dedup, "):
        named("x")


def test_a_mutant_starts_like_any_coordinator(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m coordinators.mutants NAME` reads the environment of a coordinator."""
    monkeypatch.delenv("PORT", raising=False)
    assert start(["retry_storm"]) == 2
    assert "missing in the environment: PORT" in capsys.readouterr().err
