"""What the fake keeps beside a run for the history: who talks about it, what was told, and what is told instead."""

from __future__ import annotations

import dataclasses

from fakes.assistants.runs import Run, Step
from fakes.faults import Fault


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """A run as one answer shows it. `stale` views are old on purpose; their `fault` is injected when they are told."""

    body: bytes
    status: str
    step: Step | None
    """the step that waits for outputs"""
    stale: bool = False
    fault: Fault | None = None

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """The ids of the calls that the run is shown to wait for."""
        return self.step.call_ids if self.step is not None else ()


@dataclasses.dataclass(slots=True, eq=False)
class Watch:
    """One run under watch: its conversation, its turn, and how often it was told."""

    run: Run
    conversation: str | None = None
    turn_id: str | None = None
    told: int = 0
    before: View | None = None
    """how the run showed itself right before its last accepted submit"""
    _stale: Fault | None = None
    _stale_polls: int = 0

    def view(self) -> View:
        """The truth."""
        return View(self.run.encoded(), self.run.status, self.run.pending)

    def polled(self) -> View:
        """What a poll sees: the truth, or what was before the last accepted submit while stale polls are left."""
        if self._stale_polls < 1:
            return self.view()
        self._stale_polls -= 1
        return self.old(self._stale)

    def old(self, fault: Fault | None) -> View:
        """The run as it was right before its last accepted submit."""
        if self.before is None:
            return self.view()
        return dataclasses.replace(self.before, stale=True, fault=fault)

    def make_stale(self, fault: Fault) -> None:
        """The next `n` polls see what was before the last accepted submit."""
        self._stale = fault
        self._stale_polls = int(fault.args.get("n", 3))
