"""`anechoic selftest`: the matrix, what counts as expected, and going on where it was stopped."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic import selftest
from anechoic.report.selftest import BEGIN, END, words

Inside = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_noise() -> Iterator[None]:
    """The self-test silences what crashed coroutines leave behind; other tests are to hear it."""
    with warnings.catch_warnings():
        yield


def test_a_mutant_is_killed_and_told(inside: Inside) -> None:
    """Exit code 0: killed as expected, with the example's number, the contract, and the smallest plan."""
    done = inside("selftest", "--mutant", "outputs_swapped", "--gateway", "keyless", "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert "by C3" in done.stdout
    assert "turn 1 asks for create_ticket + create_ticket" in done.stdout
    assert "1 of 1 cells as expected, 1 killed" in done.stdout
    assert "0 left" in done.stderr


def test_the_table_of_a_document_is_made_anew(inside: Inside, tmp_path: Path) -> None:
    """Only what stands between the marks is replaced; a document without them is refused before anything runs."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    asked = ("selftest", "--mutant", "outputs_swapped", "--gateway", "keyed", "--jobs", "1", "--write")
    assert inside(*asked, str(page)).exit_code == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 7)
    assert re.fullmatch(r"\| 23 \| `outputs_swapped`: outputs of parallel calls are swapped \|  \| C3 @\d+ \|  \|  \|", lines[4])
    page.write_text("nothing here")
    refused = inside(*asked, str(page))
    assert refused.exit_code == 2
    assert "has no place for the table" in refused.stderr
    assert page.read_text() == "nothing here"


def test_the_right_one_survives_as_data(inside: Inside) -> None:
    """JSON of every cell and the figures."""
    done = inside("selftest", "--mutant", "hardened", "--gateway", "keyed", "--gateway", "fenced", "--examples", "5", "--jobs", "1", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert [(c["gateway"], c["outcome"], c["examples"]) for c in data["cells"]] == [("keyed", "pass", 5), ("fenced", "pass", 5)]
    assert data["summary"]["as_expected"] == 2


def test_a_survivor_that_should_fail_fails_the_selftest(inside: Inside) -> None:
    """With few examples no late kill happens: exit code 1, and the cell is named."""
    done = inside("selftest", "--mutant", "lease_without_fencing", "--gateway", "keyless", "--examples", "6", "--jobs", "1")
    assert done.exit_code == 1, done.output
    assert "not as expected lease_without_fencing at keyless: survived 6, EXPECTED fail" in done.stdout


def test_a_right_one_that_is_failed_fails_the_selftest() -> None:
    """A cell in which the hardened coordinator is failed is not as expected."""
    cell = selftest.Cell("hardened", "keyless", "pass", "fail", 7, 0.5, "C1", "call")
    assert not cell.as_expected
    assert words(cell) == "killed at 7 by C1, 0.5 s, EXPECTED pass"
    assert selftest.summary([cell, dataclasses.replace(cell, outcome="pass")])["as_expected"] == 1


def test_a_coordinator_that_cannot_run_is_no_survivor() -> None:
    """A cell that could not be run is invalid, whatever is expected."""
    subject = selftest.Subject(99, "gone", "no_such_module:app", "", {"keyless": "pass"})
    cell = selftest.run_cell(subject, "keyless", 3, 0)
    assert (cell.outcome, cell.as_expected) == ("invalid", False)
    assert "no_such_module" in words(cell)


def test_every_mutant_has_its_cells() -> None:
    """41 mutants and the hardened coordinator, each at four profiles, and one at a profile of its own."""
    chosen = selftest.subjects()
    assert [s.number for s in chosen] == list(range(42))
    matrix = selftest.cells(chosen)
    assert sum(gateway in selftest.GATEWAYS for _, gateway in matrix) == 42 * 4
    assert all(set(s.expected.values()) <= {"pass", "fail"} for s in chosen)


def test_it_goes_on_where_it_was(inside: Inside, tmp_path: Path) -> None:
    """Finished cells are kept in a file; those of other settings do not count."""
    line = ["selftest", "--mutant", "outputs_swapped", "--gateway", "keyless", "--jobs", "1", "--state", "state.jsonl"]
    first = inside(*line)
    assert first.exit_code == 0, first.output
    kept = (tmp_path / "state.jsonl").read_text()
    assert len(kept.splitlines()) == 1
    second = inside(*line)
    assert second.exit_code == 0
    assert "left" not in second.stderr
    assert second.stdout == first.stdout
    assert (tmp_path / "state.jsonl").read_text() == kept
    inside(*line, "--examples", "50")
    assert len((tmp_path / "state.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_processes_bring_the_same_as_one() -> None:
    """The matrix in two processes is the matrix in this one, in the same order."""
    matrix = selftest.cells(selftest.subjects(["no_dispatch_dedup", "claim_ttl_too_short"]), ["keyless"])
    plain = ("seconds", "cpu")
    here, there = (
        [dataclasses.replace(cell, **dict.fromkeys(plain, 0.0)) for cell in selftest.run(matrix, jobs=jobs)] for jobs in (1, 2)
    )
    assert here == there


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        (["--mutant", "check_than_set"], "did you mean 'check_then_set'?"),
        (["--gateway", "keyles"], "did you mean 'keyless'?"),
        (["--examples", "0"], "--examples 0 must be at least 1"),
        (["--jobs", "0"], "--jobs 0 must be at least 1"),
        (["--mutant", "hardened", "--gateway", "fence-only"], "nothing is expected of hardened at fence-only"),
        (["--mutant", "hardened", "--state", "bad.jsonl"], "bad.jsonl is no file of finished cells"),
    ],
)
def test_a_mistake_is_invalid(inside: Inside, tmp_path: Path, words_: list[str], message: str) -> None:
    """Exit code 2 with the nearest known word."""
    (tmp_path / "bad.jsonl").write_text("{}\n")
    done = inside("selftest", *words_)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
