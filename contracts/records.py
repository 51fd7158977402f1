"""What the index holds: turns, runs, calls, intents, families, attempts and effects, each with the events that made it.

Three levels say how closely an effect is known: a *call* (one tool_call_id), its *intent* (turn, step, position: all ids under
which the same wish was asked for), and the *family* (intents that nothing but an id could tell apart: same tool, same nonce).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from fakes.history import (
    ActionRequired,
    CallbackPosted,
    EffectCommitted,
    InDoubtReported,
    RunCreated,
    RunEnded,
    RunTold,
    SubmitAccepted,
    SubmitReceived,
    SubmitRefused,
    ToolReplied,
    ToolRequested,
    TurnEnded,
    TurnPlanned,
    TurnSent,
)

CALLED_OFF = ("cancelled", "expired")
"""Terminal statuses after which nobody waits for the run's calls any more."""


@dataclasses.dataclass(slots=True, eq=False)
class Turn:
    """One turn of a conversation, however often it was delivered and however many runs it got."""

    turn_id: str
    conversation: str | None = None
    since: int = 0
    """the number of the event that told of it first; runs, intents and families have the same"""
    planned: TurnPlanned | None = None
    sent: list[TurnSent] = dataclasses.field(default_factory=list)
    ended: TurnEnded | None = None
    runs: list[Run] = dataclasses.field(default_factory=list)
    intents: list[Intent] = dataclasses.field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether the coordinator called the turn done or failed within its budget."""
        return self.ended is not None and self.ended.status != "unanswered"

    @property
    def done(self) -> bool:
        """Whether the coordinator called the turn done."""
        return self.ended is not None and self.ended.status == "done"


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One run: what it asked for, what was told about it, what was submitted to it, how it ended."""

    run_id: str
    conversation: str | None = None
    since: int = 0
    turn: Turn | None = None
    created: RunCreated | None = None
    ended: RunEnded | None = None
    asked: list[ActionRequired] = dataclasses.field(default_factory=list)
    calls: dict[str, IssuedCall] = dataclasses.field(default_factory=dict)
    tells: list[RunTold] = dataclasses.field(default_factory=list)
    submits: list[Submit] = dataclasses.field(default_factory=list)

    @property
    def called_off(self) -> bool:
        """Whether the run was cancelled or expired."""
        return self.ended is not None and self.ended.status in CALLED_OFF


@dataclasses.dataclass(slots=True, eq=False)
class IssuedCall:
    """One tool_call_id that the API issued."""

    tool_call_id: str
    tool: str
    nonce: str | None
    payload_hash: str
    run: Run
    ordinal: int
    position: int
    intent: Intent
    asked: list[ActionRequired] = dataclasses.field(default_factory=list)
    superseded: bool = False
    effects: list[Effect] = dataclasses.field(default_factory=list)
    """effects that are known to be of this very call"""
    told: list[Told] = dataclasses.field(default_factory=list)
    submits: list[Submit] = dataclasses.field(default_factory=list)
    in_doubt: list[InDoubtReported] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, eq=False)
class Intent:
    """What the customer asked for once: (turn, step, position), under whichever ids and runs it was asked for."""

    turn: Turn | None
    conversation: str | None
    step: tuple[str, int]
    """the logical step: the turn (or the run, where that has no turn) and the step's ordinal"""
    position: int
    family: Family
    since: int = 0
    calls: list[IssuedCall] = dataclasses.field(default_factory=list)
    loose: list[Effect] = dataclasses.field(default_factory=list)
    """effects of this intent of which nobody can say under which of its ids they were made"""
    effects: list[Effect] = dataclasses.field(default_factory=list)
    """every effect that serves this intent, the family's loose ones shared out among its members"""
    attempts: list[Attempt] = dataclasses.field(default_factory=list)
    changed: bool = False
    """asked for again with another tool or other arguments, or in a step of another size: not the same wish any more"""

    @property
    def tool(self) -> str:
        """The tool that was asked for first."""
        return self.calls[0].tool

    @property
    def ordinal(self) -> int:
        """The step's number within the turn, from 0."""
        return self.step[1]

    def live_calls(self) -> list[IssuedCall]:
        """The calls whose run was neither cancelled nor expired."""
        return [call for call in self.calls if not call.run.called_off]

    def told(self) -> Iterator[Told]:
        """Every accepted output for the intent in a run that was not called off."""
        return (told for call in self.live_calls() for told in call.told)

    def known_effects(self) -> int:
        """How many effects are known to be this intent's, the family's loose ones left out."""
        return len(self.loose) + sum(len(call.effects) for call in self.calls)

    def all_attempts(self) -> Iterator[Attempt]:
        """The requests for this intent, those included that may be a sibling's."""
        yield from self.attempts
        yield from self.family.attempts

    def definite_errors(self) -> list[ToolReplied | CallbackPosted]:
        """The gateway's answers that say for good that the tool failed."""
        return [reply for attempt in self.all_attempts() for reply in attempt.definite_errors()]

    def in_doubt(self) -> bool:
        """Whether a coordinator reported any call of the intent in doubt."""
        return any(call.in_doubt for call in self.calls)


@dataclasses.dataclass(slots=True, eq=False)
class Family:
    """Intents with the same tool and nonce (without a nonce: the same arguments in the same conversation).

    Nearly always one intent. More are identical calls, whose effects can be told apart by a call id only.
    """

    conversation: str | None
    since: int = 0
    intents: list[Intent] = dataclasses.field(default_factory=list)
    calls: list[IssuedCall] = dataclasses.field(default_factory=list)
    loose: list[Effect] = dataclasses.field(default_factory=list)
    attempts: list[Attempt] = dataclasses.field(default_factory=list)

    def all_effects(self) -> list[Effect]:
        """Every effect of the family, in order of commit."""
        found = [*self.loose]
        for intent in self.intents:
            found += intent.loose
            for call in intent.calls:
                found += call.effects
        return sorted(found, key=lambda effect: effect.event.seq)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a request or effect was for, as far as it can be known: `by` id, key, nonce, payload, invented or nothing."""

    by: str
    family: Family | None = None
    intent: Intent | None = None
    call: IssuedCall | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Attempt:
    """One request to the gateway, with all that followed it."""

    request_id: str
    request: ToolRequested | None = None
    target: Target = Target("nothing")
    effects: list[Effect] = dataclasses.field(default_factory=list)
    replies: list[ToolReplied] = dataclasses.field(default_factory=list)
    posts: list[CallbackPosted] = dataclasses.field(default_factory=list)

    def definite_errors(self) -> list[ToolReplied | CallbackPosted]:
        """Answers to this request that say for good that the tool failed.

        A 400 without the tool's error id is the caller's own mistake (a reused key, a malformed body): the tool can do it.
        """
        replies = [r for r in self.replies if r.definite and (r.http_status != 400 or "ERR-" in (r.error or ""))]
        return [*replies, *(p for p in self.posts if p.definite)]

    def refused_for_good(self) -> bool:
        """Whether any answer to this request was a definite error, whatever the reason."""
        return any(r.definite for r in self.replies) or any(p.definite for p in self.posts)


@dataclasses.dataclass(slots=True, eq=False)
class Effect:
    """One committed effect and the call, intent or family that it was for."""

    event: EffectCommitted
    attempt: Attempt
    target: Target = Target("nothing")

    @property
    def since(self) -> int:
        """The number of its event."""
        return self.event.seq

    @property
    def external_id(self) -> str:
        """The id that the external world knows it by."""
        return self.event.external_id


@dataclasses.dataclass(slots=True, eq=False)
class Submit:
    """One submit_tool_outputs: received, then accepted or refused (or neither, when it was lost)."""

    submit_id: str
    run: Run
    received: SubmitReceived | None = None
    accepted: SubmitAccepted | None = None
    refused: SubmitRefused | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Told:
    """One output that the API accepted for one call: what the model was told, and whose effects it quotes."""

    call: IssuedCall
    accepted: SubmitAccepted
    text: str
    quoted: list[Effect] = dataclasses.field(default_factory=list)
