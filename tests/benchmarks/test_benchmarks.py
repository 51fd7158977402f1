"""Every benchmark works, in its quick form: the shape of what it finds, not how fast anything is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as everything
from benchmarks.common.figures import Figure, table

ROOT = Path(__file__).parents[2]
QUICK = 300.0

ALONE = "store"
"""The one with targets that are asserted here: round trips, which are repeated where everything is too slow."""

Found = Callable[[str], list[Any]]

pytestmark = pytest.mark.xdist_group("benchmarks")


def started(*arguments: str) -> subprocess.Popen[str]:
    """`python -m benchmarks ...`, not waited for."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The figures of a benchmark. All but one run at once: one waits while another computes."""
    folder = tmp_path_factory.mktemp("benchmarks")
    children: dict[str, subprocess.Popen[str]] = {}
    said: dict[str, str] = {}

    def run(*wanted: str) -> None:
        children.update({name: started(name, "--quick", "--json", str(folder / name)) for name in wanted})
        said.update({name: children[name].communicate(timeout=QUICK)[0] for name in wanted})

    run(*(name for name in everything.BENCHMARKS if name != ALONE))

    def figures(name: str) -> list[Any]:
        if name not in children:
            run(name)
        assert children[name].returncode == 0, said[name]
        made = json.loads((folder / name).read_text())
        if name not in made:
            pytest.skip(said[name])
        for figure in made[name]:
            assert figure["name"] in said[name]
            assert math.isfinite(figure["value"]), figure
        return list(made[name])

    return figures


def names(figures: list[Any]) -> list[str]:
    """What was measured."""
    return [figure["name"] for figure in figures]


def test_the_proxies_are_compared_in_every_kind_of_work(found: Found) -> None:
    """With a real one the figures are ratios with a target; without one those of the embedded proxy alone."""
    figures = found("proxy")
    kinds = [f"{toxic}, 4 connections, {body}" for body in ("small", "1 MB") for toxic in ("none", "latency", "bandwidth")]
    assert [name.partition(": ")[2] for name in names(figures)] == kinds
    compared = {name.partition(": ")[0] for name in names(figures)}
    assert compared in ({"embedded / real"}, {"embedded"})
    assert {figure["at_least"] for figure in figures} == ({1} if compared == {"embedded / real"} else {None})
    assert all(figure["value"] > 0 for figure in figures)


def test_the_fakes_are_compared_with_bare_servers(found: Found) -> None:
    """Two routes, each alone and beside two others."""
    figures = found("routes")
    routes = ("poll a run", "call a tool")
    others = ("", ": the fakes / Starlette", ": the fakes / raw ASGI")
    assert names(figures) == [f"{route}{other}" for route in routes for other in others]
    assert all(figure["value"] > 0 for figure in figures)


def test_a_history_is_judged_whole_and_in_parts(found: Found) -> None:
    """Seconds and memory of both, in two sizes; that they judge alike is checked where it is measured."""
    figures = found("partition")
    kinds = [f"{size} events {way}" for size in ("30,000", "90,000") for way in ("whole", "in parts")]
    assert names(figures) == [name for kind in kinds for name in (kind, f"{kind}: memory")]
    assert all(figure["value"] > 0 for figure in figures)


def test_an_event_is_measured_at_every_step(found: Found) -> None:
    """Recorded, written, read, checked; and what that costs in a longer history."""
    figures = found("history")
    steps = ["record in memory", "record to a file", "read the file", "check, calm", "check, 5 % twice"]
    assert names(figures) == [*steps, *(f"{step}: longest / shortest" for step in steps)]
    assert all(figure["value"] > 0 for figure in figures)


def test_the_simulation_is_measured_as_it_grows(found: Found) -> None:
    """Coordinators, turns, instances, faults."""
    figures = found("simulation")
    grown = ["http, turns x1", "http, turns x10", "http, turns x100", "http, turns x100 / x10"]
    instances = [f"{name}, instances: {count}" for name in ("http", "hardened") for count in (1, 2, 4)]
    last = ["hardened, a second fault in every turn", "hardened, a simulation of one turn"]
    assert names(figures) == ["http", "plain", "hardened", "as_deployed", *grown, *instances, *last]
    assert all(figure["value"] > 0 for figure in figures)


def test_round_trips_are_counted(found: Found) -> None:
    """The only figures here that do not depend on how fast the machine is: claims cost one round trip."""
    figures = found("store")
    assert {figure["name"]: figure["met"] for figure in figures if figure["met"] is not None} == {
        "hardened: its claim": True,
        "hardened: more than without claims": True,
    }


def test_a_name_that_is_none_is_refused_with_those_that_there_are() -> None:
    """Before anything runs."""
    child = started("proxies")
    said, _ = child.communicate(timeout=QUICK)
    assert child.returncode == 2
    assert f"no benchmark is called 'proxies'; there are: {', '.join(everything.BENCHMARKS)}" in said


def test_a_benchmark_that_breaks_is_the_only_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 1, by name, and the rest is still told."""
    monkeypatch.setattr(everything, "BENCHMARKS", {"nothing": "a module that is not there", "store": "round trips"})
    monkeypatch.setenv("REDIS_SERVER", "no-such-program")
    assert everything.main([]) == 1
    said = capfd.readouterr()
    assert "nothing    BROKEN: exit code 1, see above" in said.out
    assert "store      left out: not here, see above" in said.out
    assert "broken: nothing" in said.err


def test_what_is_not_here_is_no_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Said with the way to get it."""
    monkeypatch.setenv("REDIS_SERVER", "no-such-program")
    assert everything.main(["store", "store"]) == 0
    said = capfd.readouterr()
    assert "there is no program 'no-such-program' on PATH. Install one" in said.err
    assert said.out.count("left out") == 1


@pytest.mark.parametrize(
    ("bounds", "met", "target"),
    [
        ({}, None, ""),
        ({"at_least": 2}, True, ">= 2"),
        ({"at_least": 2.5}, False, ">= 2.5"),
        ({"at_most": 2}, True, "<= 2"),
        ({"at_most": 1.5}, False, "<= 1.5"),
        ({"at_least": 1, "at_most": 1.5}, False, ">= 1, <= 1.5"),
    ],
)
def test_a_figure_meets_its_target_or_not(bounds: dict[str, float], met: bool | None, target: str) -> None:
    """A bound itself is within it."""
    figure = Figure("speed", 2.0, "m/s", **bounds)
    assert (figure.met, figure.target) == (met, target)


def test_numbers_stand_right_in_a_table() -> None:
    """Text stands left."""
    assert table([("what", "n"), ("one", "1"), ("ten", "10")]) == "what   n\none    1\nten   10"


def test_the_page_names_every_benchmark() -> None:
    """benchmarks/README.md has a row for each, with its command."""
    page = (ROOT / "benchmarks" / "README.md").read_text()
    for name in everything.BENCHMARKS:
        assert f"| `python -m benchmarks {name}` |" in page


def test_every_benchmark_is_in_the_list() -> None:
    """A module of benchmarks/ that can be run is run with the others."""
    modules = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert modules == set(everything.BENCHMARKS)
