"""`anechoic load` as a command."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

BASE = [sys.executable, "-m", "anechoic", "load"]


def load(*options: str, code: int = 0, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*BASE, *options], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def data(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "load.json").read_text())
    return found


def test_a_load_with_a_fault_window_is_measured_and_judged(tmp_path: Path) -> None:
    done = load(
        "--coordinator", "hardened", "--gateway", "keyed", "--rate", "6", "--for", "16s", "--plan", "kill-after-commit",
        "--seed", "4", "--max-duplicates", "0", "--report-dir", str(tmp_path),
    )
    found = data(tmp_path)
    (side,) = found["sides"]
    assert [p["kind"] for p in side["phases"]] == ["warm-up", "healthy", "fault", "recovery"]
    assert side["verdict"]["verdict"] == "pass"
    assert side["verdict"]["counts"]["turns"] == sum(side["series"]["due"])
    assert side["per_1000_calls"]["duplicates"] == 0
    assert side["healthy"]["p50_ms"] > 50
    assert sum(f["fired"] for f in side["verdict"]["faults"]) > 0
    assert side["recoveries"][0]["plan"] == "kill-after-commit"
    assert found["limits"] == [{"name": "duplicates", "limit": 0.0, "seen": 0.0, "unit": "per 1,000 calls", "held": True}]
    assert found["usage"]["locust"]["cpu_seconds"] > 0
    assert found["usage"]["coordinator: hardened"]["cpu_seconds"] > 0
    assert {row["name"] for row in side["http"]} >= {"POST /turns", "GET /turns/{turn_id}", "run lifecycle"}
    with (tmp_path / "load.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["due"]) for row in rows) == side["verdict"]["counts"]["turns"]
    assert {row["phase"] for row in rows} >= {"healthy", "fault: kill-after-commit", "recovery"}
    assert "recovered within" in done.stdout
    check = subprocess.run(
        [sys.executable, "-m", "anechoic", "check", str(tmp_path / "history.jsonl")], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout


def test_duplicates_are_counted_and_fail_unless_they_are_tolerated(tmp_path: Path) -> None:
    common = ("--coordinator", "as_deployed", "--gateway", "keyless", "--rate", "6", "--for", "15s", "--plan", "commit-then-lose-reply",
              "--seed", "4", "--report-dir", str(tmp_path))
    done = load(*common, code=1)
    per = data(tmp_path)["sides"][0]["per_1000_calls"]
    assert per["duplicates"] > 0
    assert per["repeated_requests"] >= per["duplicates"]
    assert re.search(r"C1.*effects", done.stdout)


def test_two_coordinators_are_compared_in_turn(tmp_path: Path) -> None:
    load(
        "--coordinator", "hardened", "--against", "hardened", "--gateway", "keyed", "--rate", "5", "--for", "36s", "--plan", "none",
        "--seed", "5", "--report-dir", str(tmp_path),
    )
    found = data(tmp_path)
    assert [p["kind"] for p in found["sides"][0]["phases"]] == ["warm-up"] + ["healthy"] * 6
    by_name = {r["name"]: r for r in found["ratios"]}
    assert by_name["p50"]["low"] <= by_name["p50"]["ratio"] <= by_name["p50"]["high"]
    assert by_name["p50"]["low"] < 1.5
    assert by_name["p50"]["high"] > 0.67
    assert by_name["coordinator CPU per lifecycle"]["pairs"] == 6
    assert (tmp_path / "a" / "history.jsonl").exists()
    assert (tmp_path / "b" / "history.jsonl").exists()


def test_several_locust_processes_make_one_history_and_one_verdict(tmp_path: Path) -> None:
    load(
        "--coordinator", "hardened", "--gateway", "keyed", "--rate", "8", "--for", "6s", "--plan", "none", "--processes", "2",
        "--seed", "6", "--report-dir", str(tmp_path),
    )
    found = data(tmp_path)
    assert found["workers"] == 2
    side = found["sides"][0]
    assert side["verdict"]["counts"]["turns"] == sum(side["series"]["due"]) > 20
    conversations = {
        json.loads(line)["conversation"] for line in (tmp_path / "history.jsonl").read_text().splitlines() if '"turn_planned"' in line
    }
    assert len(conversations) == side["verdict"]["counts"]["turns"]  # two workers, and no conversation twice


def test_a_rate_beyond_reach_is_said_and_is_no_pass(tmp_path: Path) -> None:
    done = load(
        "--coordinator", "hardened", "--gateway", "keyed", "--rate", "400", "--in-flight", "20", "--for", "5s", "--plan", "none",
        "--seed", "6", "--report-dir", str(tmp_path), code=3,
    )
    assert "the rate was not reached: 400 turns/s were asked for" in done.stdout
    assert data(tmp_path)["sides"][0]["healthy"]["dropped"] > 100


def test_the_highest_rate_is_found_and_what_is_beyond_it(tmp_path: Path) -> None:
    done = load(
        "--coordinator", "hardened", "--gateway", "keyed", "--rate", "20", "--for", "10s", "--find-max", "--max-p95", "900",
        "--in-flight", "12", "--seed", "6", "--report-dir", str(tmp_path), timeout=240,
    )
    ceiling = data(tmp_path)["ceiling"]
    held = [s["rate"] for s in ceiling["steps"] if s["held"]]
    broken = [s["rate"] for s in ceiling["steps"] if not s["held"]]
    assert max(held) == ceiling["rate"] < min(broken)
    assert ceiling["beyond"]
    assert "highest rate held" in done.stdout


def test_a_coordinator_that_dies_midway_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, sys, threading, time\n"
        "if os.path.exists(os.environ['STATE_DIR'] + '/died'): print('no disk', file=sys.stderr); sys.exit(7)\n"
        "def die():\n"
        "    time.sleep(6); open(os.environ['STATE_DIR'] + '/died', 'w').close(); os._exit(7)\n"
        "threading.Thread(target=die, daemon=True).start()\n"
        "import runpy; runpy.run_module('coordinators.hardened', run_name='__main__')\n"
    )
    done = load(
        "--command", f"{sys.executable} {script}", "--gateway", "keyed", "--rate", "4", "--for", "60s", "--plan", "none",
        "--report-dir", str(tmp_path / "out"), code=2,
    )
    assert "has been ready for 10 s" in done.stdout + done.stderr
    assert "no disk" in done.stdout + done.stderr
    found = data(tmp_path / "out")
    assert not found["complete"]
    assert found["sides"][0]["phases"][-1]["due"] > 0


def test_an_interrupt_leaves_nothing_running_and_a_usable_history(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*BASE, "--coordinator", "hardened", "--gateway", "keyed", "--rate", "5", "--for", "60s", "--plan", "none",
         "--processes", "2", "--report-dir", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    history = tmp_path / "history.jsonl"
    for _ in range(300):
        if history.exists() and history.read_text().count('"turn_ended"') > 5:
            break
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 8  # keeper, replicas, coordinators, Locust and its workers
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, [p.cmdline() for p in alive]
    assert len(gone) == len(family)
    assert str(history) in out
    check = subprocess.run([sys.executable, "-m", "anechoic", "check", str(history)], capture_output=True, text=True)
    assert check.returncode == 130
    assert "interrupted" in check.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--coordinator", "hardend"], "hardened"),
        (["--coordinator", "hardened", "--shape", "single-cal"], "single-call"),
        (["--coordinator", "hardened", "--arrivals", "poison"], "poisson"),
        (["--coordinator", "hardened", "--rate", "0"], "--rate 0 must be at least"),
        (["--coordinator", "hardened", "--plan", "incidnt"], "incident"),
        (["--coordinator", "hardened", "--for", "5s"], "give --for"),
        (["--coordinator", "hardened", "--for", "soon"], "90s, 30m or 2h"),
        (["--coordinator", "hardened", "--share", "2"], "--share 2"),
        (["--coordinator", "hardened", "--against", "hardend"], "hardened"),
        (["--coordinator", "hardened", "--against", "as_deployed", "--find-max"], "--find-max is about one"),
        (["--url", "http://127.0.0.1:1", "--against", "hardened"], "--against compares coordinators that this run starts"),
        (["--coordinator", "hardened", "--plan", "store-killed"], "--store redis"),
        (["--coordinator", "hardened", "--gateway", "keyd"], "keyed"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_started(options: list[str], said: str) -> None:
    done = load(*options, code=2, timeout=30)
    assert said in done.stderr


def test_a_plan_that_breaks_the_gateways_promise_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "late.toml"
    plan.write_text('rules = [{ when = { event = "tool_requested" }, do = { fault = "slow", seconds = 5 } }]')
    done = load("--coordinator", "hardened", "--gateway", "lookup", "--plan", str(plan), code=2, timeout=30)
    assert "promises that a request lands within 3 s or never" in " ".join(done.stderr.split())


def test_without_locust_it_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys, importlib.util as u; find = u.find_spec\n" \
        "u.find_spec = lambda name, *more: None if name == 'locust' else find(name, *more)\n" \
        "sys.argv = ['anechoic', 'load', '--coordinator', 'hardened']\nfrom anechoic.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "pip install 'anechoic[load]'" in done.stderr
