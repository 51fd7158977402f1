"""A gate at several gateway profiles: one after the other, a folder each, one exit code, and reports that hold all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import Result

from anechoic.budget import Budget
from anechoic.commands import options, profiles
from anechoic.report.files import Reports
from anechoic.report.record import Record, load

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
TWO = ("--gateway", "keyless", "--gateway=keyed")


def data(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_each_profile_is_run_and_all_of_them_are_reported(anechoic: Run, tmp_path: Path) -> None:
    """Without a key the attempt in it does not matter, with one it does: the worst exit code, and a line that does one again."""
    (tmp_path / "anechoic.toml").write_text(
        'gateway = ["keyless", "keyed"]\n[coordinator]\nname = "coordinators.mutants.keys:attempt_in_key"\n'
    )
    done = anechoic(
        "gate", "--world", "simulation", "--examples", "60", "--seed", "0", "--report-dir", "report", "--summary", "s.md",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = tmp_path / "report"
    rows = {row["gateway"]: row["exit_code"] for row in data(report / "verdict.json")["gateways"]}
    assert rows == {"keyless": 0, "keyed": 1}
    assert [data(report / name / "verdict.json")["exit_code"] for name in rows] == [0, 1]
    assert (report / "keyed" / "counterexample.json").exists()
    suites = [suite.get("name") for suite in Xml.parse(report / "junit.xml").getroot()]
    assert suites == ["keyless: run", "keyless: search", "keyed: run", "keyed: search"]
    assert (tmp_path / "s.md").read_text().count("## anechoic: ") == 3
    assert "keyed/report.html" in (report / "report.html").read_text()
    assert "reproduce: anechoic gate --world simulation --examples 60" in done.stdout
    assert "--gateway keyed --seed 0" in done.stdout
    last = done.stdout.splitlines()
    assert [line.split()[-1] for line in last if line.startswith(("keyless ", "keyed "))] == ["0", "1"]
    before = (report / "report.html").read_text()
    assert anechoic("report", "report").returncode == 0
    assert (report / "report.html").read_text() == before


def test_an_interruption_leaves_what_was_done(tmp_path: Path) -> None:
    """Ctrl-C while the second profile runs: exit code 130, and the first one is whole."""
    process = subprocess.Popen(
        [sys.executable, "-m", "anechoic", "gate", "--coordinator", "as_deployed", *TWO, "--plan", "none", "--turns", "3",
         "--report-dir", "report"],
        cwd=tmp_path, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    report = tmp_path / "report"
    deadline = time.monotonic() + 60
    try:
        while not (report / "keyed" / "plan.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, out + err
    assert data(report / "keyless" / "verdict.json")["verdict"] == "pass"
    whole = data(report / "verdict.json")
    assert (whole["verdict"], whole["exit_code"]) == ("unknown", 130)
    assert "interrupted: not run, or not to the end, at gateway keyed" in out
    assert list(load(report).gateways) == ["keyless"]


def made(verdict: str, code: int) -> Record:
    return Record({
        "format_version": 1, "verdict": verdict, "exit_code": code, "coordinator": "x", "gateway": "g", "seed": 1,
        "contracts": [], "violations": [], "plans": [], "reproduce": "",
    })


@pytest.mark.parametrize(
    ("outcomes", "verdict", "code"),
    [
        ([("pass", 0), ("pass", 0)], "pass", 0),
        ([("pass", 0), ("unknown", 3)], "unknown", 3),
        ([("unknown", 3), ("invalid", 2)], "invalid", 2),
        ([("invalid", 2), ("fail", 1), ("unknown", 3)], "fail", 1),
        ([("fail", 0), ("unknown", 3)], "fail", 3),  # a baseline accepts what the first one found
    ],
)
def test_the_worst_one_counts(outcomes: list[tuple[str, int]], verdict: str, code: int, tmp_path: Path) -> None:
    """Fail, then invalid, then unknown."""
    asked = {f"g{number}": one for number, one in enumerate(outcomes)}
    with pytest.raises(SystemExit) as ended:
        profiles.run(asked, lambda one, budget: made(*one), Reports(tmp_path), seed=1, budget=None)
    assert ended.value.code == code
    assert data(tmp_path / "verdict.json")["verdict"] == verdict


def test_the_budget_is_shared_out() -> None:
    """What one does not use, the others have."""
    given: list[float] = []

    def one(asked: str, budget: Budget | None) -> Record:
        assert budget is not None
        given.append(budget.seconds)
        return made("pass", 0)

    with pytest.raises(SystemExit):
        profiles.run(dict.fromkeys("abc", ""), one, Reports(), seed=1, budget=Budget(30.0))
    assert given == pytest.approx([10.0, 15.0, 30.0], abs=0.5)


def test_the_line_that_does_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At that profile alone, and with its seed."""
    monkeypatch.setattr(sys, "argv", ["anechoic", "gate", *TWO, "--turns", "5", "--seed", "3", "--plan", "none"])
    assert options.reproduce(4, "keyed") == "anechoic gate --turns 5 --plan none --gateway keyed --seed 4"
    assert options.reproduce(4) == f"anechoic gate {' '.join(TWO)} --turns 5 --seed 3 --plan none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gate", "--coordinator", "hardened", *TWO, "--gateway", "fencd"], "unknown gateway profile 'fencd': did you mean 'fenced'?"),
        (["gate", "--coordinator", "hardened", *TWO, "--gateway", "keyed"], "--gateway keyed is given twice"),
        (["gate", "--coordinator", "hardened", *TWO, "--demand", "C1,C2"], "cannot be demanded together at gateway profile 'keyless'"),
        (["gate", "--coordinator", "hardened", *TWO, "--examples", "3", "--demand", "C1,C2"], "at gateway profile 'keyless'"),
        (["gate", "--coordinator", "hardened", *TWO, "--baseline", "known.toml"], "such as --baseline known-{gateway}.toml"),
        (["gate", "--coordinator", "hardened", *TWO, "--baseline", "k-{gateway}.toml"], "no such baseline: k-keyless.toml"),
    ],
)
def test_a_mistake_ends_it_before_the_first_one(inside: Inside, tmp_path: Path, words: list[str], message: str) -> None:
    """Exit code 2, and nothing was run."""
    done = inside(*words, "--report-dir", "report")
    assert done.exit_code == 2
    assert message in done.stderr
    assert "gateway keyless, 1 of 2" not in done.stdout


def test_a_run_that_cannot_begin_is_invalid_and_the_next_one_is_run(anechoic: Run, tmp_path: Path) -> None:
    """A verdict.json of its own says why."""
    done = anechoic(
        "gate", "--command", f"{sys.executable} -c exit(7)", *TWO, "--turns", "2", "--plan", "none", "--report-dir", "report",
        PYTHONPATH=os.environ.get("PYTHONPATH", ""),
    )
    assert done.returncode == 2
    assert done.stderr.count("exit code 7") >= 2
    for name in ("keyless", "keyed"):
        assert "exit code 7" in data(tmp_path / "report" / name / "verdict.json")["reasons"][0]


@pytest.mark.parametrize("command", ["chaos", "serve"])
def test_other_commands_run_at_one_profile(anechoic: Run, tmp_path: Path, command: str) -> None:
    """With several in the file the command line has to say at which."""
    (tmp_path / "anechoic.toml").write_text('gateway = ["keyless", "keyed"]\n')
    done = anechoic(command)
    assert done.returncode == 2
    assert f"anechoic.toml, gateway: keyless, keyed: a gate runs at several profiles, and `anechoic {command}` at one" in done.stderr
