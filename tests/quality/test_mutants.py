"""A tester is tested with what is wrong: each mutant is killed by a telling contract, with a case that could not be smaller."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from anechoic import selftest

EXAMPLES = 300
SUBJECTS = {subject.name: subject for subject in selftest.subjects()}
WRONG = [name for name, subject in SUBJECTS.items() if "fail" in subject.expected.values()]


@pytest.fixture(autouse=True)
def _no_noise() -> Iterator[None]:
    """The search silences what crashed coroutines leave behind; other tests are to hear it."""
    with warnings.catch_warnings():
        yield


@pytest.mark.parametrize("name", WRONG)
def test_it_is_killed_by_what_it_breaks_with_a_minimal_case(name: str) -> None:
    """Within 300 examples, by a contract that it is known to break; 1 turn (or what the bug takes), 2 calls and 2 faults at most.

    At a gateway without keys C2' stands in for C2.
    """
    subject = SUBJECTS[name]
    gateway = next(g for g, expected in subject.expected.items() if expected == "fail")
    cell = selftest.run_cell(subject, gateway, EXAMPLES, seed=0)
    assert cell.outcome == "fail", f"survived {cell.examples} examples"
    known = {*subject.breaks, *(("C2'",) if "C2" in subject.breaks else ())}
    assert cell.contract in known, cell.plan
    assert cell.turns <= subject.turns, cell.plan
    assert cell.calls <= 2, cell.plan
    assert cell.faults <= 2, cell.plan
