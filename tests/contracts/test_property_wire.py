"""The same property on real processes: batches in one chamber, shrinking where it is quick, confirmation where it was seen."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence

import pytest

from chaos.wire.settings import by_name
from contracts.case import Case, CaseTurn, rules_of
from contracts.property import Found, Survived, search
from contracts.trial import InSimulation, OnWire, Trial
from contracts.verdict import Verdict
from fakes.gateway.profile import PROFILES

KEYLESS = PROFILES["keyless"]
BUDGETS = {"turn_budget": 8.0, "quiesce_budget": 8.0}
STALE = rules_of([{"when": {"event": "submit_accepted"}, "do": {"fault": "stale_status"}}])
KILL = rules_of([{"when": {"event": "effect_committed"}, "do": {"fault": "kill"}}])
CALM = Case(coordinator="as_deployed", gateway="keyless", turns=(CaseTurn((("create_ticket",),)),))


def _with(rules: tuple[object, ...]) -> Case:
    return dataclasses.replace(CALM, turns=(CaseTurn((("create_ticket",),), rules),))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_noise() -> Iterator[None]:
    """A crash leaves coroutines behind that never began; Python says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
        yield


@pytest.mark.slow
def test_violations_belong_to_the_case_that_asked() -> None:
    """Of three cases in one chamber only the one with the fault breaks its contract."""
    trials = list(OnWire(by_name("as_deployed"), **BUDGETS)([CALM, _with(STALE), CALM]))
    assert [bool(trial.violations) for trial in trials] == [False, True, False]
    assert trials[1].violations[0].contract == "C1"
    assert trials[0].judgement is trials[2].judgement


@pytest.mark.slow
def test_a_batch_on_the_wire_survives() -> None:
    """The hardened design, with kills among the faults."""
    wire = OnWire(by_name("hardened"), batch=12)
    survived = search("hardened", KEYLESS, examples=12, seed=2, runner=wire)
    assert isinstance(survived, Survived), survived
    assert survived.verdict is Verdict.PASS, survived.why
    assert survived.tally.fired > 3
    assert survived.world == "wire"


def test_what_was_found_on_the_wire_is_shrunk_in_the_simulation_and_confirmed_on_the_wire() -> None:
    """The wire is asked once to find, three times to confirm; the simulation does the rest."""

    class Wire:
        world, batch = "wire", 4

        def __init__(self) -> None:
            self.asked: list[tuple[int, bool]] = []
            self._in = InSimulation()

        def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
            self.asked.append((len(cases), apart))
            yield from self._in([dataclasses.replace(case, settings={}) for case in cases])

    wire = Wire()
    found = search("as_deployed", KEYLESS, examples=40, seed=3, runner=wire, shrinker=InSimulation(), confirmations=3)
    assert isinstance(found, Found)
    assert (found.confirmed, found.confirmations, found.world) == (3, 3, "wire")
    assert found.case.calls == 1
    searched = [size for size, apart in wire.asked if not apart]
    assert searched == [4] * len(searched)
    assert sum(apart for _, apart in wire.asked) == 3


class _Remembering(OnWire):
    """Notes what would be started together, and starts nothing."""

    def __init__(self) -> None:
        super().__init__(by_name("hardened"), batch=3, run=self._note)
        self.together: list[int] = []

    def _note(self, work: object) -> list[Trial]:
        cases = work.cr_frame.f_locals["cases"]  # type: ignore[attr-defined]
        work.close()  # type: ignore[attr-defined]
        self.together.append(len(cases))
        return [None] * len(cases)  # type: ignore[list-item]


def test_what_disturbs_others_is_kept_apart_when_asked() -> None:
    """Searching puts all in one chamber, up to the batch; shrinking gives each case with a kill a chamber of its own."""
    cases = [CALM, _with(STALE), _with(KILL), CALM, CALM]
    wire = _Remembering()
    list(wire(cases))
    list(wire(cases, apart=True))
    assert wire.together == [3, 2, 2, 1, 2]
    other = dataclasses.replace(CALM, instances=3)
    wire.together.clear()
    list(wire([CALM, other, other]))
    assert wire.together == [1, 2]
