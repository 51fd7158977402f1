"""The pytest plugin, as a user meets it: inner runs of pytest in processes of their own, warnings as errors."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import anechoic
from anechoic import contract_test
from contracts.counterexample import Counterexample
from contracts.property import still_breaks

pytest_plugins = ["pytester"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "pytest.md"
INSTALLED = bool(importlib.metadata.entry_points(group="pytest11", name="anechoic"))
ALWAYS = ("-W", "error", "-p", "no:cov", *(() if INSTALLED else ("-p", "anechoic.pytest_plugin")))
Inner = Callable[..., pytest.RunResult]


@pytest.fixture
def inner(pytester: pytest.Pytester) -> Inner:
    """`inner(*words)` runs pytest in a process of its own; 100 seconds at most."""

    def run(*words: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(*ALWAYS, *words, timeout=100)

    return run


def test_a_search_passes_fails_with_its_story_and_is_never_vacuously_green(inner: Inner, pytester: pytest.Pytester) -> None:
    """The message has the violation, the small case, the file that replays it and the line that runs it again.

    A coordinator may be an object, too: one that does nothing is not LIVE.
    """
    pytester.makepyfile(test_it="""
        from anechoic import contract_test

        test_good = contract_test("hardened", gateway="keyed", examples=6)
        test_bad = contract_test("as_deployed", examples=60)
        test_vacuous = contract_test("hardened", examples=1)
        test_nobody = contract_test("no_such_module:app")

        class Deaf:
            async def start(self, turn): ...
            async def results(self, result): ...
            async def status(self, turn_id):
                return {"status": "running"}

        test_deaf = contract_test(Deaf, examples=2, seed=3, instances=1)
    """)
    done = inner("--anechoic-seed=5", "--junitxml=junit.xml")
    done.assert_outcomes(passed=1, failed=4)
    done.stdout.fnmatch_lines([
        "anechoic: --anechoic-seed 5",
        "*C[0-9]*: *",
        "*turn 1 asks for *",
        "*harness       delivers turn turn_1 to coordinator-1",
        "*again: python -m anechoic replay *counterexample.json",
        "*again: pytest test_it.py::test_bad --anechoic-seed 5",
        "*anechoic: as_deployed at gateway keyless, simulation, seed 5",
        "*unknown: nothing was proven",
        "*vacuous: no fault fired",
        "*invalid: no_such_module:app: there is no module 'no_such_module' on the path*",
        "*never answered*",
        "*again: pytest test_it.py::test_deaf",
    ])
    (file,) = pytester.path.glob(".pytest_cache/d/anechoic/*test-bad*/counterexample.json")
    found = Counterexample.load(file)
    assert still_breaks(found.case, found.expect)
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    assert [p.get("value") for p in cases["test_good"].iter("property") if p.get("name") == "anechoic_seed"] == ["5"]
    assert "at most one was expected" in "".join(f.get("message", "") for f in cases["test_bad"].iter("failure"))
    again = inner("--anechoic-seed=5", "-k", "test_bad")
    again.stdout.fnmatch_lines(["*found at example 1 of 60 (simulation, seed 5)*"])


def test_on_the_wire_a_plan_breaks_what_it_breaks_and_nothing_is_left(inner: Inner, pytester: pytest.Pytester) -> None:
    """Plans by name and as data; a plan that never fires proves nothing; no thread and no process outlives its test."""
    pytester.makepyfile(test_it="""
        import sys
        import threading

        import psutil
        import pytest
        from anechoic import contract_test

        COMMAND = f"{sys.executable} -m coordinators.as_deployed"
        NEVER = {"when": {"event": "tool_requested", "tool": "no_such_tool"}, "do": {"fault": "slow"}}

        test_bad = contract_test(command=COMMAND, turns=2, plans=["stale-polls"], instances=1, replicas=1)

        def test_chamber(chamber, inject, anechoic_seed):
            c = chamber("hardened", gateway="keyed", instances=1, replicas=1)
            assert c.settings.seed == anechoic_seed
            assert inject(c, "stale-polls").name == "stale-polls"
            judgement = c.run(turns=2)
            assert judgement.verdict == "pass", c.explain(judgement)
            with pytest.raises(RuntimeError, match="has had its run"):
                c.run()

        def test_never(chamber, inject):
            c = chamber(command=COMMAND, instances=1, replicas=1)
            inject(c, NEVER)
            judgement = c.run(turns=1)
            assert judgement.verdict == "unknown"
            told = c.explain(judgement)
            assert "vacuous: rule injected-1/1 never fired" in told
            assert told.endswith(f"seed {c.settings.seed}")

        def test_bad_chambers(chamber):
            with pytest.raises(ValueError, match="did you mean 'keyed'"):
                chamber("hardened", gateway="kyed")
            with pytest.raises(Exception, match="did you mean 'hardened'"):
                chamber("hardend")
            with pytest.raises(ValueError, match="give one of"):
                chamber()
            with pytest.raises(Exception, match="ended with exit code 3"):
                chamber(command=f'{sys.executable} -c "raise SystemExit(3)"', instances=1, replicas=1)

        def test_nothing_is_left():
            assert [thread.name for thread in threading.enumerate() if not thread.name.startswith("toxiproxy_")] == ["MainThread"]
            assert psutil.Process().children(recursive=True) == []
    """)
    done = inner("--anechoic-seed=7")
    done.assert_outcomes(passed=4, failed=1)
    done.stdout.fnmatch_lines([
        "*BrokenC1: C1: *at most one was expected*",
        "*harness       delivers turn *",
        "*SAFE fail, *",
        "*history: *history.jsonl",
        "*again: pytest test_it.py::test_bad --anechoic-seed 7",
    ])
    assert len(list(pytester.path.glob(".pytest_cache/d/anechoic/*/history.jsonl"))) == 1


def test_shards_have_seeds_of_their_own_and_workers_share_the_session_s(inner: Inner, pytester: pytest.Pytester) -> None:
    """Under pytest-xdist, each worker with a chamber and a shard: one seed that nobody gave, ports and state apart."""
    pytester.makepyfile(test_it="""
        from anechoic import contract_test

        def look(chamber, anechoic_seed, worker_id, record_property):
            c = chamber(alone=True, replicas=1)
            assert c.urls["ASSISTANTS_BASE_URL"].endswith("/v1")
            record_property("worker", f"{worker_id} {anechoic_seed} {c.urls['ASSISTANTS_BASE_URL']} {c.urls['STATE_DIR']}")

        def test_first(chamber, anechoic_seed, worker_id, record_property):
            look(chamber, anechoic_seed, worker_id, record_property)

        test_shards = contract_test("hardened", gateway="keyed", examples=4, shards=2)

        def test_last(chamber, anechoic_seed, worker_id, record_property):
            look(chamber, anechoic_seed, worker_id, record_property)
    """)
    done = inner("-n", "2", "--junitxml=junit.xml")
    done.assert_outcomes(passed=4)
    told = [str(value).split() for value in properties(pytester.path / "junit.xml", "worker")]
    assert sorted(line[0] for line in told) == ["gw0", "gw1"]
    assert [len({line[part] for line in told}) for part in (1, 2, 3)] == [1, 2, 2]
    assert len(set(properties(pytester.path / "junit.xml", "anechoic_seed")) - {told[0][1]}) == 2


def properties(path: Path, name: str) -> list[str | None]:
    return [p.get("value") for p in ET.parse(path).iter("property") if p.get("name") == name]


def test_the_example_of_the_document_does_what_the_document_says(inner: Inner, pytester: pytest.Pytester) -> None:
    """Both files as they are printed: three tests pass, and the search finds out that nothing is kept."""
    for name, code in re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", DOCUMENT.read_text(), re.S):
        (pytester.path / name).write_text(code)
    done = inner("-W", "default::pytest.PytestUnraisableExceptionWarning", "--anechoic-seed=5")
    done.assert_outcomes(passed=3, failed=1)
    done.stdout.fnmatch_lines(["*_ test_contracts _*", "*BrokenC*: C*", "*again: python -m anechoic replay *"])


@pytest.mark.parametrize(("words", "why"), [
    ({}, "give either"),
    ({"coordinator": "hardened", "command": "x"}, "give either"),
    ({"coordinator": "hardened", "world": "simulaton"}, "did you mean 'simulation'"),
    ({"command": "x", "world": "simulation"}, "no simulation can run"),
    ({"coordinator": object(), "world": "wire"}, "cannot be started as a process"),
    ({"coordinator": "hardened", "turns": 5}, "draws turns and plans itself"),
    ({"command": "x", "examples": 5, "plans": ["none"]}, "draws turns and plans itself"),
    ({"coordinator": "hardened", "gateway": "kyed"}, "did you mean 'keyed'"),
    ({"coordinator": "hardened", "repeat_submit": "401"}, "repeat_submit"),
    ({"coordinator": "hardened", "examples": 0}, "examples=0 must be at least 1"),
    ({"coordinator": "hardened", "shards": 0}, "shards=0 must be at least 1"),
    ({"command": "x", "plans": []}, "plans is empty"),
    ({"command": "x", "plans": ["stale-pols"]}, "did you mean 'stale-polls'"),
    ({"coordinator": "hardened", "contracts": ["C1", "C2"]}, "cannot be demanded together"),
    ({"coordinator": "hardened", "pol_interval": 1}, "did you mean 'poll_interval'"),
])
def test_a_mistake_in_the_arguments_is_an_error_when_the_test_is_made(words: dict[str, Any], why: str) -> None:
    """What was seen, and the nearest known word."""
    with pytest.raises(ValueError, match=why):
        contract_test(**words)


def test_the_public_names_cost_nothing_until_they_are_used() -> None:
    """Neither the package nor the plugin, which every pytest run loads, imports the harness."""
    look = "import sys, anechoic, anechoic.pytest_plugin; print([m for m in ('chaos', 'contracts', 'fakes', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for name in anechoic.__all__:
        assert getattr(anechoic, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'contract_tests'"):
        anechoic.contract_tests  # noqa: B018
