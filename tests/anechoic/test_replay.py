"""`anechoic replay` and `anechoic gate --world simulation`, as a user calls them."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic import replay
from contracts.case import Case, CaseError, CaseTurn, rules_of
from contracts.counterexample import Counterexample
from contracts.result import Violation
from contracts.trial import InSimulation, OnWire, Trial

Inside = Callable[..., Result]
STALE = Counterexample(
    case=Case(
        coordinator="as_deployed", gateway="keyless",
        turns=(CaseTurn((("create_ticket",),), rules_of([{"when": {"event": "submit_accepted"}, "do": {"fault": "stale_status"}}])),),
    ),
    expect=Violation("C1", "call", ""),
)
OF_A_COMMAND = dataclasses.replace(STALE, way="command", case=dataclasses.replace(STALE.case, coordinator="node my.mjs"))


@pytest.fixture(autouse=True)
def _no_noise() -> Iterator[None]:
    """A crash leaves coroutines behind that never began; Python says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A counterexample of the design as deployed."""
    STALE.save(tmp_path / "counterexample.json")
    return tmp_path / "counterexample.json"


def test_a_search_writes_what_replay_reproduces(inside: Inside, tmp_path: Path) -> None:
    """Exit code 1, a small file, a verdict.json, a story; replay says reproduced 2/2 and ends with 1."""
    words = ["gate", "--world", "simulation", "--coordinator", "as_deployed", "--seed", "3", "--examples", "100"]
    done = inside(*words, "--report-dir", "report")
    assert done.exit_code == 1, done.output
    assert "made small in" in done.stdout
    assert "reproduced 1/1 in the simulation" in done.stdout
    assert "anechoic replay" in done.stdout
    data = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert (data["verdict"], data["exit_code"], data["search"]["world"]) == ("fail", 1, "simulation")
    found = Counterexample.load(tmp_path / "report" / "counterexample.json")
    assert (len(found.case.turns), found.case.calls) == (1, 1)
    again = inside("replay", "report/counterexample.json", "--times", "2")
    assert again.exit_code == 1, again.output
    assert "reproduced 2/2" in again.stdout
    assert list((tmp_path / ".hypothesis" / "anechoic").glob("*/*.json"))


def test_a_search_that_finds_nothing_passes(inside: Inside, tmp_path: Path) -> None:
    """Exit code 0, with what was reached and how much was tried."""
    done = inside("gate", "--world", "simulation", "--coordinator", "hardened", "--seed", "3", "--examples", "12",
                  "--derandomize", "--report-dir", "report")
    assert done.exit_code == 0, done.output
    assert "12 examples" in done.stdout
    assert "verdict pass (exit 0)" in done.stdout
    assert json.loads((tmp_path / "report" / "verdict.json").read_text())["search"]["examples"] == 12
    assert not (tmp_path / "report" / "counterexample.json").exists()
    assert not (tmp_path / ".hypothesis").exists()


def test_what_is_cured_holds(inside: Inside, file: Path) -> None:
    """The same case on the right coordinator: exit code 0, and it says so."""
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "coordinator": "hardened"}))
    done = inside("replay", str(file))
    assert done.exit_code == 0, done.output
    assert "reproduced 0/1: it holds now" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "nowhere.json"], "no such file: nowhere.json"),
        (["replay", "counterexample.json", "--world", "moon"], "unknown --world 'moon'"),
        (["replay", "counterexample.json", "--times", "0"], "--times 0 must be at least 1"),
        (["replay", "counterexample.json", "--coordinator", "hardened"], "is one of 'as_deployed', not of 'hardened'"),
        (["replay", "newer.json"], "format_version is 9"),
        (["replay", "gone.json"], "there is no module 'no_such_module'"),
        (["replay", "command.json"], "no simulation can run a process: use --world wire"),
        (["replay", "command.json", "--world", "wire"], "give --command 'node my.mjs'"),
        (["gate", "--world", "moon"], "unknown --world 'moon'"),
        (["gate", "--world", "simulation"], "give --coordinator: a name such as hardened, or module:attribute"),
        (["gate", "--world", "simulation", "--command", "x"], "which no simulation can run"),
        (["gate", "--world", "simulation", "--coordinator", "hardend"], "did you mean 'hardened'?"),
        (["gate", "--world", "simulation", "--coordinator", "no_such_module:app"], "there is no module 'no_such_module'"),
        (["gate", "--coordinator", "hardened", "--examples", "0"], "--examples 0 must be at least 1"),
        (["gate", "--coordinator", "hardened", "--examples", "5", "--plan", "pause"], "a search draws its own plans"),
        (["gate", "--coordinator", "hardened", "--examples", "5", "--max-time", "0"], "--max-time 0 must be more than 0"),
        (["gate", "--coordinator", "hardened", "--max-time", "5"], "--max-time is about a search"),
        (["gate", "--coordinator", "hardened", "--derandomize"], "--derandomize is about a search"),
        (["gate", "--examples", "5", "--url", "http://127.0.0.1:1"], "a search starts instances afresh"),
        (["gate", "--examples", "5", "--coordinator", "hardened", "--demand", "C1,C2"], "cannot be demanded together"),
        (["gate", "--examples", "5", "--coordinator", "hardened", "--instances", "0"], "instances=0 must be at least 1"),
    ],
)
def test_a_mistake_is_invalid_and_says_what_to_do(inside: Inside, file: Path, words: Sequence[str], message: str) -> None:
    """Exit code 2 with the reason, before anything is started."""
    data = json.loads(file.read_text())
    (file.parent / "newer.json").write_text(json.dumps({**data, "format_version": 9}))
    (file.parent / "gone.json").write_text(json.dumps({**data, "coordinator": "no_such_module:app"}))
    OF_A_COMMAND.save(file.parent / "command.json")
    done = inside(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_does_not_start_programs_by_itself() -> None:
    """A command in a file is run only when the user gives the same one."""
    with pytest.raises(CaseError, match="not of 'other'"):
        replay.runner(OF_A_COMMAND, world="wire", command="other")
    given = dataclasses.replace(
        OF_A_COMMAND, case=dataclasses.replace(STALE.case, coordinator=f"{sys.executable} -m coordinators.as_deployed")
    )
    assert isinstance(replay.runner(given, world="wire", command=given.case.coordinator), OnWire)
    assert isinstance(replay.runner(STALE, world="simulation"), InSimulation)


def test_replay_counts_what_it_saw() -> None:
    """Three of five runs: reproduced, exit code 1, and what else broke is named."""
    trial = InSimulation().run(STALE.case)
    outcomes = iter([True, False, True, False, True])

    class Moody:
        world, batch = "simulation", 1

        def __call__(self, cases: Sequence[Case], *, apart: bool = False) -> Iterator[Trial]:
            other = (Violation("C8", "x", "m"),)
            yield from (dataclasses.replace(trial, violations=trial.violations if next(outcomes) else other) for _ in cases)

    told: list[tuple[int, bool]] = []
    result = replay.run(STALE, Moody(), 5, lambda number, broke: told.append((number, broke)))
    assert (result.seen, result.times, result.exit_code) == (3, 5, 1)
    assert "C8" in result.others
    assert told[0] == (1, True)
    assert len(told) == 5


@pytest.mark.slow
def test_a_counterexample_of_the_simulation_is_one_on_the_wire() -> None:
    """The same file, on real processes."""
    result = replay.run(STALE, replay.runner(STALE, world="wire"), 1)
    assert result.seen == 1
    assert result.exit_code == 1
