"""The events: what the fakes and the harness can see, typed and frozen, each by its word."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeVar, dataclass_transform

T = TypeVar("T")
FIELDS: dict[type, tuple[tuple[str, Any], ...]] = {}
"""For each class what its instances are written as: the names of the fields, without `seq` and `t`, and their defaults."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[T]) -> type[T]:
    """A dataclass that is frozen for the type checker only: at run time that takes longer than all else about an event."""
    made: Any = dataclasses.dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
    FIELDS[made] = tuple(
        (f.name, f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default)
        for f in dataclasses.fields(made)
        if f.name not in ("seq", "t")
    )
    return made  # type: ignore[no-any-return]


@frozen
class Event:
    """One thing that happened. `seq` counts from 1 without gaps; `t` is seconds since the history was opened."""

    kind: ClassVar[str] = ""
    seq: int = 0
    t: float = 0.0
    conversation: str | None = None
    """conversation_id of the customer's chat, None where the event belongs to no single one."""


EVENTS: dict[str, type[Event]] = {}
"""Every kind of event by its word; fault plans and history files use these words."""

E = TypeVar("E", bound=Event)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(cls: type[E]) -> type[E]:
    """Register an event class under its name in snake case (`ToolRequested` is `tool_requested`)."""
    made = frozen(cls)
    made.kind = "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")
    EVENTS[made.kind] = made
    return made


# --- the turn, as the harness delivers it ---------------------------------------------------------------------------


@event
class TurnPlanned(Event):
    """A turn of a conversation is about to be delivered for the first time. `plans` names the fault plans bound to it."""

    turn_id: str
    plans: tuple[str, ...] = ()
    calls: tuple[tuple[str, ...], ...] = ()
    """tool names per step, as the script asks for them; empty when the message carries no script"""


@event
class TurnSent(Event):
    """POST /turns went to one instance; `attempt` counts deliveries of this turn from 1."""

    turn_id: str
    instance: str
    attempt: int


@event
class TurnAnswered(Event):
    """The answer to that delivery: an HTTP status, or None and the reason when there was none."""

    turn_id: str
    instance: str
    attempt: int
    http_status: int | None
    reason: str | None = None


@event
class TurnEnded(Event):
    """The turn is over: `status` is done, failed, or unanswered (the budget ran out)."""

    turn_id: str
    status: str
    detail: str | None = None


# --- instances, faults and the end ----------------------------------------------------------------------------------


@event
class InstanceStarted(Event):
    """A coordinator process was started (`life` counts from 1) and, later, `InstanceReady`."""

    instance: str
    life: int
    pid: int | None = None


@event
class InstanceReady(Event):
    """GET /healthz answered 200; `capabilities` is what it said it can do."""

    instance: str
    life: int
    capabilities: dict[str, Any] = dataclasses.field(default_factory=dict)


@event
class InstanceExited(Event):
    """The process ended. `expected` is False when no fault and no stop asked for it."""

    instance: str
    life: int
    code: int | None
    expected: bool


@event
class FaultIntended(Event):
    """A rule matched event number `cause` and is about to act; written before anything is broken."""

    rule: str
    fault: str
    cause: int | None = None
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@event
class FaultInjected(Event):
    """The fault took effect (the reply was cut, the process is gone ...)."""

    rule: str
    fault: str
    detail: str | None = None


@event
class FaultHealed(Event):
    """What the fault broke is whole again, and that was checked."""

    rule: str
    fault: str
    detail: str | None = None


@event
class FaultFailed(Event):
    """The fault could not be injected or healed; the run is invalid."""

    rule: str
    fault: str
    reason: str


@event
class BudgetEnded(Event):
    """The time for the whole run (`seconds`) left none for further turns; `delivered` of `turns` were begun."""

    seconds: float
    delivered: int
    turns: int


@event
class QuiesceStarted(Event):
    """All faults are healed; the system has `budget` seconds to finish, `full` is set where the run's time left it less."""

    budget: float
    full: float | None = None


@event
class QuiesceEnded(Event):
    """The system came to rest (`settled`), or the budget ran out with `open_turns` turns still running."""

    settled: bool
    open_turns: int = 0


@event
class InDoubtReported(Event):
    """An instance said (GET /in-doubt) that it could not decide whether this call had its effect."""

    instance: str
    tool_call_id: str
    run_id: str | None = None


@event
class RunInterrupted(Event):
    """The run of the harness was stopped from outside, or broke down; nothing after this was judged."""

    reason: str


# --- the fake Assistants API ----------------------------------------------------------------------------------------


@event
class MessageAdded(Event):
    """A message was added to a thread; `turn_id` is set when it carries a script."""

    thread_id: str
    message_id: str
    role: str
    turn_id: str | None = None
    instance: str | None = None


@event
class RunCreated(Event):
    """A run was created; `turn_id` is that of the latest scripted message on the thread."""

    run_id: str
    thread_id: str
    turn_id: str | None = None
    instance: str | None = None


@frozen
class Call:
    """One tool call that the API asks for. `position` counts from 0 within its step; `nonce` is arguments.reference."""

    tool_call_id: str
    tool: str
    position: int
    nonce: str | None
    payload_hash: str


@event
class ActionRequired(Event):
    """The run reached requires_action: logical step `ordinal` (from 0) asks for `calls`.

    `generation` counts how often this step was generated (from 1). With same ids a later generation repeats the calls;
    with new ids they replace those of the generation before, which are superseded.
    """

    run_id: str
    thread_id: str
    step_id: str
    ordinal: int
    generation: int
    calls: tuple[Call, ...]
    turn_id: str | None = None


@event
class RunTold(Event):
    """An instance was told the state of a run. `waiting_for` lists the calls that the answer said the run waits for.

    `via` is the operation (poll, create, submit, cancel, modify, list), or `stream` for each event of a stream that carried
    the run. `stale` marks an answer that a fault made old: it is what the instance knows, not what is.
    """

    run_id: str
    status: str
    via: str
    waiting_for: tuple[str, ...] = ()
    stale: bool = False
    instance: str | None = None
    nth: int = 0
    """how many times this run was told, this one included"""


@frozen
class Output:
    """One entry of tool_outputs, exactly as submitted."""

    tool_call_id: str
    output: str


@event
class SubmitReceived(Event):
    """submit_tool_outputs arrived, before anything is decided; `submit_id` ties the three submit events together."""

    run_id: str
    submit_id: str
    outputs: tuple[Output, ...]
    instance: str | None = None


@event
class SubmitAccepted(Event):
    """The outputs were committed. `repeat` marks the 200 given to a repeat where the setting is idempotent."""

    run_id: str
    submit_id: str
    step_id: str
    ordinal: int
    outputs: tuple[Output, ...]
    repeat: bool = False
    instance: str | None = None


@event
class SubmitRefused(Event):
    """The submit got a 4xx; nothing was committed."""

    run_id: str
    submit_id: str
    http_status: int
    message: str
    instance: str | None = None


@event
class RunEnded(Event):
    """The run reached a terminal status: completed, failed, cancelled, expired or incomplete."""

    run_id: str
    status: str
    reason: str | None = None


# --- the fake LLM serving -------------------------------------------------------------------------------------------


@event
class GenerationStarted(Event):
    """The router handed a generation to a replica; `attempt` above 1 means that another replica failed in flight."""

    request_id: str
    replica: str
    attempt: int
    run_id: str | None = None


@event
class GenerationEnded(Event):
    """The replica's answer came back (`outcome` "ok"), or it was lost with the replica ("lost") or refused ("error")."""

    request_id: str
    replica: str
    attempt: int
    outcome: str
    run_id: str | None = None


@event
class ReplicaStarted(Event):
    """A serving replica is up; `life` counts from 1."""

    replica: str
    life: int
    pid: int | None = None


@event
class ReplicaExited(Event):
    """A serving replica is gone; code 137 is reported as OOMKilled."""

    replica: str
    life: int
    code: int | None
    reason: str | None = None


# --- the fake tool gateway ------------------------------------------------------------------------------------------


@event
class ToolRequested(Event):
    """A request for a tool arrived, before anything is decided.

    `request_id` names the request on every later event about it. `tool_call_id`, `run_id`, `thread_id`, `step_id`, `key`
    and `fence` are what the coordinator sent, or None; `nonce` is arguments.reference, or None.
    """

    request_id: str
    tool: str
    payload_hash: str
    nonce: str | None = None
    tool_call_id: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    step_id: str | None = None
    key: str | None = None
    fence: int | None = None
    asynchronous: bool = False
    instance: str | None = None


@event
class EffectCommitted(Event):
    """The external world changed: `external_id` (INC-..., msg_..., re_...) now exists."""

    request_id: str
    effect_id: str
    external_id: str
    tool: str
    payload_hash: str
    nonce: str | None = None
    tool_call_id: str | None = None
    run_id: str | None = None
    key: str | None = None


@event
class ToolReplied(Event):
    """The gateway's answer to one request; `delivered` is False when a fault cut it off before a byte was sent.

    `replayed` marks an answer that an idempotency key brought back. `error` is set for every answer that is not 2xx.
    `definite` is True when the answer says for good that there is and will be no effect (4xx but 408, 409, 425, 429).
    `external_id` is set when the answer carries an effect's result.
    """

    request_id: str
    tool: str
    http_status: int
    delivered: bool
    latency_ms: float
    tool_call_id: str | None = None
    nonce: str | None = None
    external_id: str | None = None
    error: str | None = None
    definite: bool = False
    replayed: bool = False
    instance: str | None = None


@event
class CallbackDue(Event):
    """An asynchronous result is ready and about to be posted for the first time."""

    request_id: str
    tool: str
    tool_call_id: str | None = None
    nonce: str | None = None
    external_id: str | None = None
    error: str | None = None
    instance: str | None = None


@event
class CallbackPosted(Event):
    """One attempt to post an asynchronous result; `http_status` is None when no answer came.

    `copy` is above 1 for the further copies that duplicate_callback makes.
    """

    request_id: str
    tool: str
    attempt: int
    copy: int = 1
    http_status: int | None
    tool_call_id: str | None = None
    nonce: str | None = None
    external_id: str | None = None
    error: str | None = None
    definite: bool = False
    instance: str | None = None


@event
class LookupAnswered(Event):
    """An instance asked the ledger (GET /effects) or raised a fence; `found` are external ids."""

    tool_call_id: str
    found: tuple[str, ...] = ()
    fence: int | None = None
    instance: str | None = None


EventT = TypeVar("EventT", bound=Event)


def of_kind(events: Iterable[Event], cls: type[EventT]) -> Iterator[EventT]:
    """The events of one class, in order."""
    return (e for e in events if isinstance(e, cls))
