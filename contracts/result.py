"""What a contract's check comes to: its status, how much was checked, and every violation."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Protocol, TypeVar

from contracts.catalogue import CONTRACTS

EXAMPLES = 3
"""So many of many like reasons are told."""


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
    to one failure. `events` are the numbers of the events that tell the story, `effects` are external ids, `conversation`
    is the one that it is about (None where that is no single one), and `plans` those bound to it.
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
    conversation: str | None = dataclasses.field(default=None, compare=False)
    plans: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

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


Place = tuple[int, float]
"""Where in a check something was found: which of its loops, and the number of the event at which the thing began."""


class Since(Protocol):
    """Something that began with one event of a history."""

    @property
    def since(self) -> int:
        """The number of that event."""
        ...


S = TypeVar("S", bound=Since)


class Tally:
    """Collects what one check finds and makes its Result; those of the parts of a history are added up by `merge`."""

    def __init__(self, contract: str) -> None:
        self.contract = contract
        self.checked = 0
        self.violations: list[tuple[Place, Violation]] = []
        self._place: Place = (0, 0)
        self._unsure: dict[str, Place] = {}
        self._examples: list[tuple[Place, str]] = []
        self._left_out: tuple[str, int] = ("", 0)
        self._notes: dict[str, int | None] = {}
        self._crash: str | None = None

    def each(self, things: Iterable[S]) -> Iterator[S]:
        """Go through things in the order in which they began; what is found meanwhile has its place there."""
        loop = self._place[0] + 1
        for thing in things:
            self._place = (loop, thing.since)
            yield thing
        self._place = (loop, math.inf)

    def at(self, seq: int) -> None:
        """What is found next is about this event."""
        self._place = (self._place[0], seq)

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
        made = Violation(
            self.contract, shape, message, run_id, tool_call_id, tuple(effects), tuple(sorted(set(events))), liveness
        )
        self.violations.append((self._place, made))

    def unsure(self, reason: str) -> None:
        """Something could not be decided: without a violation the result is unknown."""
        self._unsure.setdefault(reason, self._place)

    def unsure_of_many(self, reason: str, more: str) -> None:
        """As `unsure`, where there may be many such reasons: the first three are told, and how many `more` there are."""
        left_out = len(self._examples) == EXAMPLES
        self._left_out = (more, self._left_out[1] + left_out)
        if not left_out:
            self._examples.append((self._place, reason))

    def note(self, text: str) -> None:
        """Something worth knowing that changes nothing."""
        self._notes[text] = None

    def count(self, number: int, text: str) -> None:
        """A note about a number of things; nothing where there are none."""
        self._notes[text] = (self._notes.get(text) or 0) + number

    def crashed(self, what: str) -> None:
        """The check broke down, so it says nothing."""
        self._crash = what

    def merge(self, other: Tally) -> None:
        """Add what the same check found in another part of the history, in which nothing is that is in this one."""
        self.checked += other.checked
        self.violations += other.violations
        for reason, place in other._unsure.items():
            self._unsure[reason] = min(place, self._unsure.get(reason, place))
        examples = sorted([*self._examples, *other._examples], key=itemgetter(0))
        left_out = self._left_out[1] + other._left_out[1] + len(examples[EXAMPLES:])
        self._examples = examples[:EXAMPLES]
        self._left_out = (self._left_out[0] or other._left_out[0], left_out)
        for text, number in other._notes.items():
            self._notes[text] = None if number is None else (self._notes.get(text) or 0) + number
        self._crash = self._crash or other._crash

    def result(self) -> Result:
        """Fail when anything was violated, else unknown when anything could not be decided, else pass."""
        if self._crash is not None:
            return Result(self.contract, Status.UNKNOWN, note=f"the checker crashed: {self._crash}")
        violations = tuple(violation for _, violation in sorted(self.violations, key=itemgetter(0)))
        unsure = [reason for reason, _ in sorted(self._unsure.items(), key=itemgetter(1))]
        unsure += [reason for _, reason in self._examples]
        more, left_out = self._left_out
        if left_out:
            unsure.append(f"and {left_out} {more}")
        notes = [text if number is None else f"{number} {text}" for text, number in self._notes.items() if number != 0]
        status = Status.FAIL if violations else Status.UNKNOWN if unsure else Status.PASS
        return Result(self.contract, status, self.checked, violations, "; ".join([*unsure, *notes]), bool(unsure))
