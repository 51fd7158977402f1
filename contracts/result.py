"""What a contract's check comes to: its status, how much was checked, and every violation."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from contracts.catalogue import CONTRACTS


class Status(enum.StrEnum):
    """The outcome of one contract."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_DEMANDED = "not_demanded"


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    Two violations are equal when they break the same contract in the same `shape`, whatever the ids: so shrinking keeps
    to one failure. `events` are the numbers of the events that tell the story, `effects` are external ids.
    """

    contract: str
    shape: str
    message: str = dataclasses.field(compare=False)
    run_id: str | None = dataclasses.field(default=None, compare=False)
    tool_call_id: str | None = dataclasses.field(default=None, compare=False)
    effects: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    events: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    liveness: bool = dataclasses.field(default=False, compare=False)
    """something is missing at the end, rather than something wrong there: proves nothing when the run broke down"""

    def like(self, other: Violation) -> bool:
        """Whether it is the same failure: an equal one, or where something is missing, the same contract.

        What is missing shows in one way or another as a case gets smaller: the turn, its run, the effect or the output.
        """
        return self == other or (self.liveness and other.liveness and self.contract == other.contract)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one contract over one history. `note` is the reason of a status, or what else is worth knowing.

    `unsure` says that something could not be decided, which a violation beside it hides in `status`.
    """

    contract: str
    status: Status
    checked: int = 0
    violations: tuple[Violation, ...] = ()
    note: str = ""
    unsure: bool = False

    @property
    def name(self) -> str:
        """The contract's name in words."""
        return CONTRACTS[self.contract].name

    @property
    def klass(self) -> str:
        """safety, liveness, both or load safety."""
        return CONTRACTS[self.contract].klass


class Tally:
    """Collects what one check finds and makes its Result."""

    def __init__(self, contract: str) -> None:
        self.contract = contract
        self.checked = 0
        self._violations: list[Violation] = []
        self._unsure: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def violate(
        self,
        shape: str,
        message: str,
        *,
        run_id: str | None = None,
        tool_call_id: str | None = None,
        effects: Iterable[str] = (),
        events: Iterable[int] = (),
        liveness: bool = False,
    ) -> None:
        """Add a violation: what was seen, what was expected."""
        self._violations.append(
            Violation(self.contract, shape, message, run_id, tool_call_id, tuple(effects), tuple(sorted(set(events))), liveness)
        )

    def unsure(self, reason: str) -> None:
        """Something could not be decided: without a violation the result is unknown."""
        self._unsure[reason] = None

    def note(self, text: str) -> None:
        """Something worth knowing that changes nothing."""
        self._notes[text] = None

    def result(self) -> Result:
        """Fail when anything was violated, else unknown when anything could not be decided, else pass."""
        status = Status.FAIL if self._violations else Status.UNKNOWN if self._unsure else Status.PASS
        note = "; ".join([*self._unsure, *self._notes])
        return Result(self.contract, status, self.checked, tuple(self._violations), note, bool(self._unsure))
