"""A budget of wall time: the run ends within it, says how much was done, and is never green by what it had no time for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from anechoic.budget import Budget
from contracts.document import to_json
from contracts.verdict import judge
from fakes import history as h
from fakes.gateway.profile import PROFILES

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SLACK = 6.0
"""Seconds for starting Python and for a machine that is busy with other tests; a run without a budget would take far longer."""


def verdict(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "report" / "verdict.json").read_text())
    return data


@pytest.mark.parametrize("text", ["", "soon", "0s", "-1m", "5 minutes"])
def test_a_budget_that_is_no_time(inside: Inside, text: str) -> None:
    """Exit code 2, with examples."""
    result = inside("gate", "--coordinator", "hardened", "--budget", text)
    assert result.exit_code == 2
    assert f"--budget {text!r} is no time; give for example 90s, 30m or 2h" in result.output


@pytest.mark.parametrize("seconds", [4.0, 60.0, 3600.0])
def test_every_part_has_its_share(seconds: float) -> None:
    """Turns, then quiesce, then stopping, in that order within the whole."""
    budget = Budget(seconds)
    assert 0 < budget.turns(20.0) < budget.running < seconds
    assert budget.turns(20.0) >= seconds / 3


def test_a_gate_ends_in_time_and_says_how_far_it_came(anechoic: Run, tmp_path: Path) -> None:
    """Every fault of its plan has fired, so what was done is a pass; the report says that it is not all of it."""
    start = time.monotonic()
    done = anechoic(
        "gate", "--coordinator", "hardened", "--gateway", "keyed", "--plan", "none", "--plan", "stale-polls", "--turns", "5000",
        "--budget", "15s", "--report-dir", "report",
    )
    assert time.monotonic() - start < 15 + SLACK
    assert done.returncode == 0, done.stdout + done.stderr
    data = verdict(tmp_path)
    assert data["budget"]["ended"] is True
    assert data["counts"]["turns"] == data["budget"]["delivered"] < data["budget"]["turns"] == 5000
    note = f"the budget of 15 s ended the run: {data['budget']['delivered']} of 5000 turns were delivered"
    assert f"note: {note}" in done.stdout
    assert data["notes"] == [note]
    again = anechoic("check", "report/history.jsonl")
    assert again.returncode == 0
    assert f"note: {note}" in again.stdout


def test_a_fault_that_the_budget_left_no_time_for_makes_it_unknown(anechoic: Run, tmp_path: Path) -> None:
    """Never a silent pass: exit code 3."""
    (tmp_path / "late.toml").write_text('[[rules]]\nwhen = { at = 600 }\ndo = { fault = "kill" }\n')
    done = anechoic(
        "gate", "--coordinator", "hardened", "--gateway", "keyed", "--plan", "late.toml", "--turns", "4", "--budget", "12s", "--report-dir", "report"
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "vacuous: rule late/1 never fired" in done.stdout
    assert "the budget of 12 s ended the run: 4 of 4 turns were delivered" in done.stdout


DEAF = Path(__file__).with_name("test_gate.py").read_text().split('DEAF = """')[1].split('"""')[0]


def test_turns_that_were_still_open_prove_nothing(anechoic: Run, tmp_path: Path) -> None:
    """A coordinator that does nothing fails a gate with time enough; one that was cut short cannot tell it from a slow one."""
    (tmp_path / "deaf.py").write_text(DEAF)
    start = time.monotonic()
    done = anechoic(
        "gate", "--command", f"{sys.executable} deaf.py", "--plan", "none", "--turns", "2", "--instances", "1", "--budget", "8s", "--report-dir", "report"
    )
    assert time.monotonic() - start < 8 + SLACK
    assert done.returncode == 3, done.stdout + done.stderr
    assert "s of 20 s for quiesce, and the system was not at rest then (2 turns still open)" in done.stdout


def test_a_budget_that_is_over_before_the_start_is(anechoic: Run, tmp_path: Path) -> None:
    """Exit code 2, although the instance has a minute to get ready."""
    start = time.monotonic()
    done = anechoic(
        "gate", "--command", f"{sys.executable} -c 'import time; time.sleep(100)'", "--plan", "none", "--turns", "1", "--budget", "4s", "--report-dir", "report"
    )
    assert time.monotonic() - start < 4 + SLACK
    assert done.returncode == 2
    assert "the budget of 4 s was over before every instance was ready" in done.stderr


@pytest.mark.parametrize("world", ["simulation", "wire"])
def test_a_search_ends_in_time(anechoic: Run, tmp_path: Path, world: str) -> None:
    """Far before its examples are used up, and says so."""
    start = time.monotonic()
    done = anechoic(
        "gate", "--coordinator", "hardened", "--gateway", "keyed", "--world", world, "--examples", "1000000", "--demand", "C1", "--budget", "10s", "--report-dir", "report",
        "--quiesce", "3",
    )
    assert time.monotonic() - start < 10 + SLACK
    data = verdict(tmp_path)
    assert data["search"]["out_of_time"] is True
    assert data["search"]["examples"] < 1_000_000
    assert data["notes"] == [f"the budget of 10 s ended the search: {data['search']['examples']} of 1000000 examples"]
    assert done.returncode == (0 if data["search"]["examples"] else 3), done.stdout + done.stderr


def cut(past: Any, *, settled: bool, full: float | None = 20.0, quiesced: bool = True) -> Any:
    past.turn().done(status="done" if settled else "unanswered")
    past.add(h.BudgetEnded, seconds=30.0, delivered=1, turns=9)
    past.add(h.QuiesceStarted, budget=2.0, full=full)
    if quiesced:
        past.add(h.QuiesceEnded, settled=settled, open_turns=0 if settled else 1)
    return judge(past.events, PROFILES["keyed"])


def test_what_the_history_says_of_a_budget(past: Any) -> None:
    """It is in the history, so that a check comes to the same."""
    judgement = cut(past, settled=False)
    assert judgement.live == "unknown"
    assert "the budget of the run left 2 s of 20 s for quiesce, and the system was not at rest then (1 turns still open)" in judgement.reasons
    assert to_json(judgement, {}, "")["budget"] == {"seconds": 30.0, "ended": True, "delivered": 1, "turns": 9}


def test_a_full_quiesce_proves_what_is_missing(past: Any) -> None:
    """Turns were left out, but those that were delivered had all the time that they have without a budget."""
    assert cut(past, settled=False, full=None).live == "fail"


def test_a_short_quiesce_that_was_enough_is_no_flaw(past: Any) -> None:
    """Everything came to rest."""
    assert cut(past, settled=True).flaws.cut == ()


def test_a_budget_that_ended_while_healing(past: Any) -> None:
    """Nothing after that was judged."""
    judgement = cut(past, settled=False, quiesced=False)
    assert judgement.live == "unknown"
    assert "the budget of the run was over before everything was healed and at rest" in judgement.reasons
