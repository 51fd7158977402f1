"""The chaos run: round after round, resumable, each round the same again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic.budget import NoDuration, seconds_of
from chaos import builtin
from chaos.schedule import scatter

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(("text", "seconds"), [("45", 45), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_durations(text: str, seconds: float) -> None:
    """Seconds, minutes and hours."""
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "0", "ten", "5d", "-3s"])
def test_no_duration(text: str) -> None:
    """Anything else is an error with examples."""
    with pytest.raises(NoDuration, match="give for example 90s, 30m or 2h"):
        seconds_of(text, "--for")


def test_plans_are_scattered_by_the_seed() -> None:
    """None to three plans a turn, the same for the same seed."""
    plans = builtin.default_set()
    made = scatter(plans, 200, 1)
    assert made == scatter(plans, 200, 1) != scatter(plans, 200, 2)
    assert {len(bound) for bound in made.turns} == {0, 1, 2, 3}


def test_a_run_goes_on_where_it_stopped(anechoic: Run, tmp_path: Path) -> None:
    """Rounds are kept in chaos.json; the same command with more time adds to them; passed rounds leave no folder."""
    words = ["chaos", "--coordinator", "hardened", "--gateway", "keyed", "--turns", "6", "--report-dir", "run"]
    first = anechoic(*words, "--for", "1s", "--seed", "9")
    assert first.returncode in (0, 3), first.stdout + first.stderr
    rounds = json.loads((tmp_path / "run" / "chaos.json").read_text())["rounds"]
    assert len(rounds) == 1
    again = anechoic(*words, "--for", f"{rounds[0]['seconds'] + 1}s")
    assert "going on after 1 rounds" in again.stdout
    data = json.loads((tmp_path / "run" / "chaos.json").read_text())
    assert data["rounds"][0] == rounds[0]
    assert [r["number"] for r in data["rounds"]] == [1, 2]
    assert data["seed"] == 9
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"chaos.json", "junit.xml", "report.html"}


def test_a_failed_round_is_told_kept_and_repeatable(anechoic: Run, tmp_path: Path) -> None:
    """The design as deployed does not last a round; its folder stays, and one line runs the round again."""
    words = ["chaos", "--coordinator", "as_deployed", "--turns", "25", "--for", "60s", "--max-failures", "1", "--seed", "4"]
    done = anechoic(*words, "--report-dir", "run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "round 1: fail" in done.stdout
    assert "reproduce: anechoic chaos --coordinator as_deployed --turns 25 --seed 4 --only-round 1" in done.stdout
    assert (tmp_path / "run" / "round-0001" / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be gone on with"),
        (json.dumps({"format_version": 1, "coordinator": "other", "gateway": "keyed", "seed": 1, "turns": 100, "rounds": [], "reached": {}}),
         "is of another campaign: other at keyed"),
    ],
)
def test_another_campaigns_folder_is_refused(inside: Inside, tmp_path: Path, text: str, message: str) -> None:
    """Nothing is overwritten: exit code 2, and what to do."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "chaos.json").write_text(text)
    done = inside("chaos", "--coordinator", "hardened", "--report-dir", "run")
    assert done.exit_code == 2
    assert message in done.stderr
    assert (tmp_path / "run" / "chaos.json").read_text() == text
