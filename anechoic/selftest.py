"""The self-test: coordinators that are wrong on purpose, at every gateway profile, and the hardened one beside them.

A mutant that is expected to fail and survives, one that is expected to pass and is failed, and any failure of the hardened
coordinator are each a fault of this harness (or of what is expected), and fail the self-test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from chaos.words import unknown
from contracts.profiles import RetryBudget
from fakes.gateway.profile import PROFILES

GATEWAYS = ("keyless", "keyed", "lookup", "fenced")
HARDENED = "hardened"
EXAMPLES = 300
SURVIVORS_SHARE = 3
"""A mutant that is expected to survive is tried with a third of the examples; the hardened coordinator gets them all."""
PASS, FAIL, INVALID = "pass", "fail", "invalid"


class SelftestError(ValueError):
    """A mutant or a profile that does not exist; the message names the nearest one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A coordinator of the matrix, and what is expected of it at each gateway profile. Number 0 is the hardened one."""

    number: int
    name: str
    coordinator: str
    about: str
    expected: Mapping[str, str]
    breaks: tuple[str, ...] = ()
    harmless: bool = False
    budget: tuple[int, float] | None = None
    turns: int = 1
    """how many turns the bug takes"""


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One subject at one profile: what came out. `examples` tells at which one it was killed, or how many it survived."""

    subject: str
    gateway: str
    expected: str
    outcome: str
    examples: int
    seconds: float
    contract: str = ""
    shape: str = ""
    plan: str = ""
    turns: int = 0
    calls: int = 0
    faults: int = 0
    tried: int = 0
    cpu: float = 0.0

    @property
    def as_expected(self) -> bool:
        """Whether the harness saw what it is expected to see."""
        return self.outcome == self.expected


def subjects(names: Sequence[str] = ()) -> list[Subject]:
    """Every mutant by number, and the hardened coordinator first; or those of these names. Raises SelftestError."""
    mutants = importlib.import_module("coordinators.mutants").MUTANTS
    hardened = Subject(0, HARDENED, HARDENED, "the reference: right at every profile", dict.fromkeys(GATEWAYS, PASS))
    found = {HARDENED: hardened} | {
        m.name: Subject(m.number, m.name, m.module_attribute, m.about, m.expected, m.breaks, m.harmless, m.budget, m.turns)
        for m in mutants
    }
    for name in names:
        if name not in found:
            raise SelftestError(unknown("mutant", name, found))
    return [found[name] for name in names] if names else list(found.values())


def cells(chosen: Sequence[Subject], gateways: Sequence[str] = ()) -> list[tuple[Subject, str]]:
    """The matrix: at the profiles given, or at those that something is expected of, the four and what a mutant adds."""
    for gateway in gateways:
        if gateway not in PROFILES:
            raise SelftestError(unknown("gateway profile", gateway, PROFILES))
    return [(s, g) for s in chosen for g in (gateways or s.expected) if g in s.expected]


def run_cell(subject: Subject, gateway: str, examples: int, seed: int) -> Cell:
    """Search for what breaks one subject at one profile, in the simulation."""
    from chaos.simulation.errors import SimulationError
    from contracts.property import Found, search

    warnings.simplefilter("ignore", RuntimeWarning)  # a crash leaves coroutines behind that never began
    budget = RetryBudget(*subject.budget) if subject.budget else None
    if subject.number and subject.expected[gateway] == PASS:
        examples = max(1, examples // SURVIVORS_SHARE)
    began, cpu = time.monotonic(), time.process_time()
    try:
        result = search(
            subject.coordinator, PROFILES[gateway], examples=examples, seed=seed, retry_budget=budget,
            shrink=subject.expected[gateway] == FAIL or subject.number == 0,
        )
    except SimulationError as error:
        return Cell(subject.name, gateway, subject.expected[gateway], INVALID, 0, time.monotonic() - began, plan=str(error))
    common: dict[str, Any] = {
        "subject": subject.name, "gateway": gateway, "expected": subject.expected[gateway], "examples": result.examples,
        "seconds": result.seconds, "cpu": time.process_time() - cpu,
    }
    if isinstance(result, Found):
        return Cell(
            **common, outcome=FAIL, contract=result.violation.contract, shape=result.violation.shape, plan=str(result.case),
            turns=len(result.case.turns), calls=result.case.calls, faults=len(result.case.rules), tried=result.tried,
        )
    outcome = PASS if result.verdict == PASS else INVALID
    return Cell(**common, outcome=outcome, plan="; ".join(result.why))


class Finished:
    """Cells that ended before, out of a file of JSON Lines, so that a self-test that was stopped goes on where it was.

    Those of other examples or seeds do not count; without a path nothing is kept. Raises SelftestError for another file.
    """

    def __init__(self, path: Path | None, examples: int, seed: int) -> None:
        self._path = path
        self._key = {"examples": examples, "seed": seed, "version": version("anechoic")}
        self._cells: dict[tuple[str, str], Cell] = {}
        if path is None or not path.exists():
            return
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                data = json.loads(line)
                if data["of"] == self._key:
                    cell = Cell(**data["cell"])
                    self._cells[cell.subject, cell.gateway] = cell
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SelftestError(f"{path} is no file of finished cells: {error!r}") from None

    def find(self, subject: Subject, gateway: str) -> Cell | None:
        """The cell, if it ended before under the same expectation."""
        cell = self._cells.get((subject.name, gateway))
        return cell if cell is not None and cell.expected == subject.expected[gateway] else None

    def add(self, cell: Cell) -> None:
        """Keep one more."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"of": self._key, "cell": dataclasses.asdict(cell)}) + "\n")


def run(
    matrix: Sequence[tuple[Subject, str]], *, examples: int = EXAMPLES, seed: int = 0, jobs: int = 2,
    finished: Finished | None = None, on_cell: Callable[[Cell, int], None] = lambda cell, left: None,
) -> list[Cell]:
    """Run the matrix in `jobs` processes; `on_cell` is told of each cell as it ends, and how many are left."""
    finished = finished or Finished(None, examples, seed)
    cells_run: dict[int, Cell] = {}
    for number, (subject, gateway) in enumerate(matrix):
        known = finished.find(subject, gateway)
        if known is not None:
            cells_run[number] = known
    open_cells = {n: cell for n, cell in enumerate(matrix) if n not in cells_run}
    source = _here(open_cells, examples, seed) if jobs == 1 else _in_processes(open_cells, examples, seed, jobs)
    with contextlib.closing(source):
        for number, cell in source:
            cells_run[number] = cell
            finished.add(cell)
            on_cell(cell, len(matrix) - len(cells_run))
    return [cells_run[number] for number in range(len(matrix))]


Numbered = Generator[tuple[int, Cell], None, None]


def _here(matrix: Mapping[int, tuple[Subject, str]], examples: int, seed: int) -> Numbered:
    for number, (subject, gateway) in matrix.items():
        yield number, run_cell(subject, gateway, examples, seed)


def _in_processes(matrix: Mapping[int, tuple[Subject, str]], examples: int, seed: int, jobs: int) -> Numbered:
    others = set(active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        order = {pool.submit(run_cell, subject, gateway, examples, seed): n for n, (subject, gateway) in matrix.items()}
        for future in as_completed(order):
            yield order[future], future.result()
    except BaseException:
        for worker in set(active_children()) - others:  # nobody wants the cells under way any more
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def summary(cells_run: Sequence[Cell]) -> dict[str, Any]:
    """The figures: how many cells were as expected, the median time of a kill, the latest kill, the largest minimal case."""
    kills = [cell for cell in cells_run if cell.outcome == FAIL]
    return {
        "cells": len(cells_run),
        "as_expected": sum(cell.as_expected for cell in cells_run),
        "killed": len(kills),
        "median_kill_seconds": round(statistics.median(c.seconds for c in kills), 3) if kills else None,
        "latest_kill": max((c.examples for c in kills), default=None),
        "largest_minimal_case": [max((getattr(c, what) for c in kills), default=0) for what in ("turns", "calls", "faults")],
    }


def to_json(cells_run: Sequence[Cell]) -> dict[str, Any]:
    """Everything as data, for a file and for the table in the README."""
    return {"format_version": 1, "summary": summary(cells_run), "cells": [dataclasses.asdict(cell) for cell in cells_run]}
