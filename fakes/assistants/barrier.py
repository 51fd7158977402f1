"""The barrier fault: answers about a run are held until enough instances wait for them, then leave together."""

from __future__ import annotations

import asyncio
import dataclasses

from fakes.faults import Fault


@dataclasses.dataclass(slots=True)
class _Gate:
    need: int
    seconds: float
    instances: set[str | None] = dataclasses.field(default_factory=set)
    faults: list[Fault] = dataclasses.field(default_factory=list)
    open: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Barriers:
    """The gates that are closed now, one for each run and status that answers are held about."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], _Gate] = {}

    async def wait(self, run_id: str, status: str, instance: str | None, fault: Fault | None) -> None:
        """Hold an answer to `instance` that shows this run in this status.

        A barrier fault (`n` instances, at most `seconds`) closes the gate; every further answer that shows the same is
        held too, with or without a fault of its own. The gate opens for all of them at once: when `n` distinct instances
        wait, or when the first of them has waited for `seconds`. The fault's detail says which of the two it was: a
        coordinator that keeps each run with one instance is held, and never meets another.
        """
        key = (run_id, status)
        gate = self._gates.get(key)
        if gate is None:
            if fault is None:
                return
            gate = self._gates[key] = _Gate(int(fault.args.get("n", 2)), float(fault.args.get("seconds", 1.0)))
        if fault is not None:
            gate.faults.append(fault)
        gate.instances.add(instance)
        if len(gate.instances) >= gate.need:
            for held in gate.faults:
                held.injected(f"{len(gate.instances)} instances were told {status} of {run_id} together")
            self._open(key, gate)
            return
        try:
            await asyncio.wait_for(gate.open.wait(), gate.seconds)
        except TimeoutError:
            for held in gate.faults:
                came = f"{len(gate.instances)} of {gate.need} instances came"
                held.injected(f"held {status} of {run_id} for {gate.seconds:g} s, {came}")
            self._open(key, gate)

    def open_all(self) -> None:
        """Let every held answer go."""
        for key, gate in list(self._gates.items()):
            self._open(key, gate)

    def _open(self, key: tuple[str, str], gate: _Gate) -> None:
        if self._gates.get(key) is gate:
            del self._gates[key]
        gate.open.set()
