"""The property and its search: what is found, how small it gets, and what is not called a pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test

from chaos.simulation.errors import BadCoordinator
from contracts.case import Case, CaseTurn, rules_of
from contracts.machine import CoordinatorMachine
from contracts.minimise import minimise
from contracts.profiles import ImpossibleDemand
from contracts.property import BrokenContract, Found, Survived, broken, check, search, still_breaks
from contracts.result import Violation
from contracts.strategies import cases, compact, faults, turns
from contracts.trial import InSimulation, Trial
from contracts.verdict import Verdict
from fakes.gateway.profile import PROFILES

KEYLESS = PROFILES["keyless"]
STALE = Case(
    coordinator="as_deployed", gateway="keyless",
    turns=(CaseTurn((("create_ticket",),), rules_of([{"when": {"event": "submit_accepted"}, "do": {"fault": "stale_status"}}])),),
)
QUICK = settings(
    max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck), stateful_step_count=5,
    phases=[Phase.generate], derandomize=True,
)


@pytest.fixture(autouse=True)
def _no_noise() -> Iterator[None]:
    """A crash leaves coroutines behind that never began; Python says so."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
        yield


def test_the_deployed_design_is_falsified_and_made_small() -> None:
    """One turn, one call, one fault is left, and running it again breaks the same contract in the same way."""
    found = search("as_deployed", KEYLESS, examples=100, seed=3)
    assert isinstance(found, Found)
    assert found.verdict is Verdict.FAIL
    assert (len(found.case.turns), found.case.calls) == (1, 1)
    assert len(found.case.rules) <= 1
    assert (found.confirmed, found.confirmations) == (1, 1)
    assert still_breaks(found.case, found.violation)
    assert found.first.calls >= found.case.calls


def test_the_same_seed_finds_the_same() -> None:
    """A search is a function of its seed; derandomized, of nothing."""
    one, two = (search("as_deployed", KEYLESS, examples=50, seed=5, shrink=False) for _ in range(2))
    assert isinstance(one, Found)
    assert isinstance(two, Found)
    assert (one.case.key, one.examples) == (two.case.key, two.examples)
    three, four = (search("as_deployed", KEYLESS, examples=50, seed=seed, derandomize=True, shrink=False) for seed in (1, 2))
    assert isinstance(three, Found)
    assert isinstance(four, Found)
    assert three.case.key == four.case.key


def test_the_hardened_design_survives_and_says_what_was_reached() -> None:
    """A pass counts examples, effects and faults."""
    seen: list[int] = []
    survived = search("hardened", KEYLESS, examples=20, seed=1, on_trial=lambda tally: seen.append(tally.examples))
    assert isinstance(survived, Survived)
    assert survived.verdict is Verdict.PASS
    assert survived.examples == 20
    assert seen == list(range(1, 21))
    assert survived.tally.fired > 5
    assert survived.tally.effects > 10
    assert survived.tally.reached


class _Canned:
    """A world in which every case comes out as one that ran once, in batches."""

    world, batch = "wire", 8

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.batches: list[int] = []

    def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
        self.batches.append(len(cases))
        yield from (dataclasses.replace(self.trial, case=case) for case in cases)


def test_a_search_in_which_no_fault_fired_is_no_pass() -> None:
    """It is unknown, and says why."""
    calm = InSimulation().run(dataclasses.replace(STALE, coordinator="hardened", turns=(CaseTurn((("create_ticket",),)),)))
    world = _Canned(calm)
    survived = search("x", KEYLESS, examples=20, runner=world)
    assert isinstance(survived, Survived)
    assert world.batches == [8, 8, 4]
    assert survived.verdict is Verdict.UNKNOWN
    assert survived.why == ("vacuous: no fault fired",)


def test_an_unsound_run_makes_the_search_invalid() -> None:
    """A fault that could not be injected is the harness's failure, and no example counts then."""
    case = Case(
        coordinator="hardened", gateway="keyless",
        turns=(CaseTurn((("create_ticket",),), rules_of([{"when": {"event": "tool_requested"}, "do": {"fault": "slow"}}])),),
    )
    trial = InSimulation().run(case)
    bad = dataclasses.replace(
        trial, judgement=dataclasses.replace(trial.judgement, safe=Verdict.INVALID, reasons=("fault slow failed",))
    )
    survived = search("x", KEYLESS, examples=8, runner=_Canned(bad))
    assert isinstance(survived, Survived)
    assert survived.verdict is Verdict.INVALID
    assert survived.why[0] == "fault slow failed (1 examples)"


def test_time_is_a_limit() -> None:
    """No example is begun when the time is over, and the result says so."""
    survived = search("hardened", KEYLESS, examples=10_000, seed=1, max_time=0.3)
    assert isinstance(survived, Survived)
    assert survived.out_of_time
    assert 0 < survived.examples < 1000


def test_what_failed_is_tried_first_the_next_time(tmp_path: Path) -> None:
    """The database gives the smallest case back as the first example, and forgets it when it holds."""
    first = search("as_deployed", KEYLESS, examples=50, seed=3, database=tmp_path)
    again = search("as_deployed", KEYLESS, examples=50, seed=99, database=tmp_path)
    assert isinstance(first, Found)
    assert isinstance(again, Found)
    assert again.examples == 1
    assert again.case.key == first.case.key
    from contracts.counterexample import Kept

    kept = Kept(tmp_path, "hardened/keyless/simulation")
    kept.keep(dataclasses.replace(first.case, coordinator="hardened"), first.violation)
    search("hardened", KEYLESS, examples=2, seed=1, database=tmp_path)
    assert kept.cases() == []


def test_a_coordinator_that_is_none_is_an_error() -> None:
    """Nothing is searched, and the error comes out as it is."""
    with pytest.raises(BadCoordinator, match="did you mean 'hardened'"):
        search("hardend", KEYLESS, examples=5)


def test_an_impossible_demand_is_refused_before_anything_runs() -> None:
    """C1 and C2 at a gateway without keys."""
    with pytest.raises(ImpossibleDemand):
        search("hardened", KEYLESS, examples=5, demanded=("C1", "C2"))


def test_what_is_demanded_is_what_is_judged() -> None:
    """A search for one contract reports no other; the case remembers it."""
    found = search("as_deployed", KEYLESS, examples=100, seed=3, demanded=("C1",), fixed={"instances": 2})
    assert isinstance(found, Found)
    assert found.violation.contract == "C1"
    assert found.case.demand == ("C1",)
    assert found.first.instances == 2


def test_minimise_keeps_the_failure_and_drops_the_rest() -> None:
    """Of three turns and four rules what is needed stays, found by a predicate that asks for one call and one rule."""
    rules = rules_of([
        {"when": {"event": "tool_requested", "nth": 3}, "do": {"fault": "slow", "seconds": 12.0, "where": "after"}},
        {"when": {"event": "effect_committed"}, "do": {"fault": "kill"}},
    ])
    turn = CaseTurn((("create_ticket", "refund_payment", "twin"), ("send_email",)), rules)
    big = Case(coordinator="x", gateway="keyed", turns=(turn, turn, CaseTurn((("send_email",),))), seed=9, instances=3,
               settings={"clock_skew": 60.0}, repeat_submit="200")

    def first(candidates: Sequence[Case]) -> int | None:
        for number, case in enumerate(candidates):
            slow = any(do.fault == "slow" for rule in case.rules for do in rule.do)
            if slow and any("refund_payment" in step for turn in case.turns for step in turn.steps):
                return number
        return None

    small, tried = minimise(big, first)
    assert small.turns[0].steps == (("refund_payment",),)
    assert [str(rule) for rule in small.rules] == ["when tool_requested (no. 1 per conversation) do slow"]
    assert (len(small.turns), small.seed, small.instances, small.settings, small.repeat_submit) == (1, 0, 1, {}, "400")
    assert tried < 60
    assert minimise(big, first, over=lambda: True) == (big, 0)


def test_different_contracts_are_different_failures() -> None:
    """Hypothesis tells failures apart by class: one for each contract and shape, all of them BrokenContract."""
    one, two, three = (broken(Violation(c, s, "m")) for c, s in (("C1", "call"), ("C1", "intent"), ("C2'", "call")))
    assert len({type(one), type(two), type(three)}) == 3
    assert type(broken(Violation("C1", "call", "other"))) is type(one)
    assert isinstance(three, BrokenContract)
    assert str(one) == "C1: m"


def test_check_raises_what_was_broken() -> None:
    """The message tells the contract and the case."""
    with pytest.raises(BrokenContract, match="C1: create_ticket") as error:
        check(STALE)
    assert "do stale_status" in str(error.value)
    assert error.value.violation.contract == "C1"
    assert check(dataclasses.replace(STALE, coordinator="hardened")).violations == ()


@QUICK
@given(cases("hardened", KEYLESS))
def test_readable_strategies_make_cases_that_run(case: Case) -> None:
    """Whatever they draw can be run, and the hardened design holds."""
    check(case)


@QUICK
@given(compact("hardened", PROFILES["fenced"]))
def test_compact_strategies_make_cases_that_run(case: Case) -> None:
    """Bytes as cases, under given."""
    check(case)


@settings(max_examples=50, deadline=None, database=None)
@given(turns(), faults(PROFILES["lookup"]))
def test_strategies_keep_their_bounds(steps: tuple[tuple[str, ...], ...], rules: tuple[object, ...]) -> None:
    """1 to 3 steps of 1 to 8 calls, none of which begins with a twin; one fault, and what belongs to it."""
    assert 1 <= len(steps) <= 3
    assert all(1 <= len(step) <= 8 and step[0] != "twin" for step in steps)
    assert 1 <= len(rules) <= 2


def test_the_machine_holds_for_the_hardened_design() -> None:
    """The readable form of the search passes what is right."""
    run_state_machine_as_test(CoordinatorMachine, settings=QUICK)


def test_the_machine_finds_the_deployed_design() -> None:
    """The readable form of the search breaks what is wrong, as a class of its own for the contract."""

    class Deployed(CoordinatorMachine):
        coordinator = "as_deployed"

    with pytest.raises(BrokenContract):
        run_state_machine_as_test(Deployed, settings=settings(QUICK, max_examples=60, report_multiple_bugs=False))
