"""Replay: a counterexample file run again, some times, in the world where it was found or in the other one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from anechoic import exits
from chaos.wire.settings import by_command, by_name
from contracts.case import CaseError
from contracts.counterexample import Counterexample
from contracts.trial import InSimulation, OnWire, Runner, Trial


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """`seen` of `times` runs broke the expected contract in the expected way; `trial` is one that did, or the last one."""

    seen: int
    times: int
    trial: Trial
    others: tuple[str, ...]
    """other contracts that broke, by id"""

    @property
    def exit_code(self) -> int:
        """1 when it was reproduced, 0 when it holds now."""
        return exits.FAIL if self.seen else exits.PASS


def runner(
    found: Counterexample, *, world: str, coordinator: str | None = None, command: str | None = None,
    environ: Mapping[str, str] | None = None, say: Callable[[str], None] = lambda line: None, **more: Any,
) -> Runner:
    """The world that the file is run in. Raises CaseError, WireError, BadCoordinator."""
    named = found.case.coordinator
    given = coordinator or command
    if given is not None and given != named:
        raise CaseError(
            f"the counterexample is one of {named!r}, not of {given!r}. Leave --coordinator and --command out to run it "
            "again; to try another coordinator use anechoic gate"
        )
    if world == "simulation":
        if found.way == "command":
            raise CaseError(
                f"the counterexample is one of the command {named!r}, and no simulation can run a process: use --world wire"
            )
        return InSimulation(named, environ=environ or {})
    if found.way == "command" and command is None:
        raise CaseError(
            f"the counterexample is one of the command {named!r}. A file does not start programs by itself: "
            f"give --command {named!r}"
        )
    started = by_command(named) if found.way == "command" else by_name(named)
    return OnWire(started, run=exits.run, say=say, environ=environ or {}, **more)


def run(
    found: Counterexample, run_in: Runner, times: int, on_trial: Callable[[int, bool], None] = lambda number, seen: None
) -> Replayed:
    """Run it so many times. Raises SimulationError, WireError."""
    seen = 0
    shown: Trial | None = None
    others: dict[str, None] = {}
    for number in range(1, times + 1):
        (trial,) = run_in([found.case])
        broke = trial.breaks(found.expect)
        seen += broke
        if broke or shown is None:
            shown = trial
        others.update(dict.fromkeys(v.contract for v in trial.violations if not v.like(found.expect)))
        on_trial(number, broke)
    assert shown is not None
    return Replayed(seen, times, shown, tuple(others))
