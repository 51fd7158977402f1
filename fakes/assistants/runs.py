"""A run and its steps: the state machine.

    queued -> in_progress -> (requires_action -> submit -> queued -> in_progress)* -> completed | failed | incomplete | expired
    queued | in_progress | requires_action -> cancelling -> cancelled

A run never looks at a clock: every change is given its time, in whole unix seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fakes.assistants import deltas
from fakes.assistants.objects import Message
from fakes.encoding import encode

LIFETIME = 600
"""Seconds from a run's creation to its expiry."""

WORKING = ("queued", "in_progress", "requires_action")
ACTIVE = (*WORKING, "cancelling")
"""The states in which a run locks its thread."""

Follow = Callable[[str, dict[str, Any]], None]
"""Is called with the name of a stream's event and its object, at the moment in which it happens."""

_STEP_ENDS = {"cancelled": "cancelled", "expired": "expired", "failed": "failed", "incomplete": "failed"}


@dataclasses.dataclass(slots=True, eq=False)
class ToolCall:
    """One call of a step. `arguments` is JSON text, as the model wrote it; `output` is None until it was submitted."""

    id: str
    name: str
    arguments: str
    output: str | None = None

    def json(self) -> dict[str, Any]:
        """The call as `required_action` shows it, and as chat completions take it back."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation, or of a whole run."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        """The sum of two."""
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    def json(self) -> dict[str, int]:
        """The usage as the API shows it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclasses.dataclass(slots=True, eq=False)
class Step:
    """One step of a run: tool calls, or (`message_id` set) the creation of a message.

    `ordinal` counts a run's tool steps from 0. `generation` counts from 1 how often this step was generated.
    """

    id: str
    created_at: int
    run: Run
    calls: tuple[ToolCall, ...] = ()
    message_id: str | None = None
    ordinal: int = 0
    generation: int = 1
    usage: Usage = dataclasses.field(default_factory=Usage)
    status: str = "in_progress"
    ended_at: int | None = None

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The ids of its calls, in order."""
        return tuple(call.id for call in self.calls)

    def end(self, status: str, now: int) -> None:
        """The step is over."""
        self.status = status
        self.ended_at = now

    def opening(self) -> dict[str, Any]:
        """The step as a stream shows it first, before what its deltas bring."""
        made = {**self.json(), "status": "in_progress", "completed_at": None, "usage": None}
        if self.message_id is None:
            made["step_details"] = {"type": "tool_calls", "tool_calls": []}
        return made

    def json(self) -> dict[str, Any]:
        """The step as the API shows it."""
        details: dict[str, Any]
        if self.message_id is not None:
            details = {"type": "message_creation", "message_creation": {"message_id": self.message_id}}
        else:
            shown = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments, "output": c.output}}
                for c in self.calls
            ]
            details = {"type": "tool_calls", "tool_calls": shown}
        return {
            "id": self.id,
            "object": "thread.run.step",
            "created_at": self.created_at,
            "run_id": self.run.id,
            "assistant_id": self.run.assistant_id,
            "thread_id": self.run.thread_id,
            "type": details["type"],
            "status": self.status,
            "cancelled_at": self._ended("cancelled"),
            "completed_at": self._ended("completed"),
            "expired_at": self._ended("expired"),
            "failed_at": self._ended("failed"),
            "last_error": self.run.last_error if self.status == "failed" else None,
            "step_details": details,
            "usage": None if self.status == "in_progress" else self.usage.json(),
            "metadata": {},
        }

    def _ended(self, status: str) -> int | None:
        return self.ended_at if self.status == status else None


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One run. Its settings are fixed when it is created, only `metadata` can be modified.

    `attempt` numbers the generations: what a generation brings back counts only while it is still the current one.
    `pending` is the step that waits for outputs, `accepted` the last one that got them, `lost` a step that the serving
    layer lost and generates again (`keep_ids`: with the same ids). `followers` are told of every change, as streams tell it.
    """

    id: str
    thread_id: str
    assistant_id: str
    created_at: int
    model: str
    instructions: str = ""
    tools: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    response_format: Any = "auto"
    tool_choice: Any = "auto"
    truncation_strategy: dict[str, Any] | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    parallel_tool_calls: bool = True
    status: str = "queued"
    steps: dict[str, Step] = dataclasses.field(default_factory=dict)
    pending: Step | None = None
    accepted: Step | None = None
    lost: Step | None = None
    keep_ids: bool = True
    attempt: int = 0
    usage: Usage = dataclasses.field(default_factory=Usage)
    last_error: dict[str, str] | None = None
    incomplete_reason: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    followers: list[Follow] = dataclasses.field(default_factory=list)
    _encoded: bytes | None = None

    @property
    def expires_at(self) -> int:
        """When the run expires if nothing ends it before."""
        return self.created_at + LIFETIME

    @property
    def active(self) -> bool:
        """Whether the run locks its thread."""
        return self.status in ACTIVE

    def begin(self, now: int) -> int | None:
        """Queued to in_progress: the number of the generation that starts, None when the run is not queued any more."""
        if self.status != "queued":
            return None
        self.attempt += 1
        self.started_at = self.started_at or now
        self._become("in_progress")
        return self.attempt

    def current(self, attempt: int) -> bool:
        """Whether what generation number `attempt` brings back still counts."""
        return self.status == "in_progress" and self.attempt == attempt

    def require_action(self, step_id: str, now: int, calls: Sequence[ToolCall], usage: Usage) -> Step:
        """In_progress to requires_action.

        A step that was lost comes back: under its old id and with its old calls when the ids are kept, else under the
        new ones. Either way it is the same logical step, one generation later.
        """
        lost, self.lost = self.lost, None
        if lost is not None and self.keep_ids:
            step = lost
            step.generation += 1
            step.usage = step.usage.plus(usage)
        else:
            step = Step(step_id, now, self, tuple(calls), usage=usage)
            if lost is not None:
                step.ordinal, step.generation = lost.ordinal, lost.generation + 1
            elif self.accepted is not None:
                step.ordinal = self.accepted.ordinal + 1
        self.usage = self.usage.plus(usage)
        self.steps[step.id] = step
        self.pending = step
        if self.followers:
            self._open(step)
            for delta in deltas.calls(step.id, [call.json() for call in step.calls]):
                self._emit("thread.run.step.delta", delta)
        self._become("requires_action")
        return step

    def take(self, outputs: Iterable[tuple[str, str]], now: int) -> Step:
        """Requires_action to queued: the outputs of the pending step are committed."""
        step, self.pending = self.pending, None
        assert step is not None
        given = dict(outputs)
        for call in step.calls:
            call.output = given[call.id]
        self._end_step(step, "completed", now)
        self.accepted = step
        self._become("queued")
        return step

    def lose(self, step: Step, keep_ids: bool) -> bool:
        """Requires_action to queued: `step` was never persisted. False, and nothing happens, when it does not wait any more."""
        if self.status != "requires_action" or self.pending is not step:
            return False
        del self.steps[step.id]
        self.pending, self.lost, self.keep_ids = None, step, keep_ids
        self._become("queued")
        return True

    def wrote(self, step_id: str, message: Message, now: int, usage: Usage) -> None:
        """The step that made the closing message."""
        self.lost = None
        self.usage = self.usage.plus(usage)
        step = self.steps[step_id] = Step(step_id, now, self, message_id=message.id, usage=usage)
        if self.followers:
            self._open(step)
            self._emit("thread.message.created", message.opening())
            self._emit("thread.message.in_progress", message.opening())
            for delta in deltas.words(message.id, message.text):
                self._emit("thread.message.delta", delta)
            self._emit(f"thread.message.{message.status}", message.json())
        self._end_step(step, "completed", now)

    def cancel(self) -> None:
        """To cancelling; the pending step waits no more."""
        self.pending = None
        self._become("cancelling")

    def end(self, status: str, now: int) -> None:
        """To a terminal status, and with it every step that was not over."""
        self.ended_at = now
        self.pending = None
        for step in self.steps.values():
            if step.status == "in_progress":
                self._end_step(step, _STEP_ENDS.get(status, "completed"), now)
        self._become(status)

    def modify(self, metadata: dict[str, str]) -> None:
        """Replace the metadata."""
        self.metadata = metadata
        self._encoded = None

    def encoded(self) -> bytes:
        """The run as JSON text; encoded once for each change, since most requests are polls."""
        if self._encoded is None:
            self._encoded = encode(self.json())
        return self._encoded

    def json(self) -> dict[str, Any]:
        """The run as the API shows it."""
        return {
            "id": self.id,
            "object": "thread.run",
            "created_at": self.created_at,
            "assistant_id": self.assistant_id,
            "thread_id": self.thread_id,
            "status": self.status,
            "started_at": self.started_at,
            "expires_at": self.expires_at if self.active else None,
            "cancelled_at": self._ended("cancelled"),
            "failed_at": self._ended("failed"),
            "completed_at": self._ended("completed"),
            "required_action": self._required_action(),
            "last_error": self.last_error,
            "incomplete_details": {"reason": self.incomplete_reason} if self.incomplete_reason else None,
            "model": self.model,
            "instructions": self.instructions,
            "tools": self.tools,
            "metadata": self.metadata,
            "usage": None if self.active else self.usage.json(),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_completion_tokens": self.max_completion_tokens,
            "truncation_strategy": self.truncation_strategy or {"type": "auto", "last_messages": None},
            "response_format": self.response_format,
            "tool_choice": self.tool_choice,
            "parallel_tool_calls": self.parallel_tool_calls,
        }

    def _required_action(self) -> dict[str, Any] | None:
        if self.pending is None:
            return None
        calls = [call.json() for call in self.pending.calls]
        return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}

    def _ended(self, status: str) -> int | None:
        return self.ended_at if self.status == status else None

    def _become(self, status: str) -> None:
        self.status = status
        self._encoded = None
        if self.followers:
            self._emit(f"thread.run.{status}", self.json())

    def _open(self, step: Step) -> None:
        self._emit("thread.run.step.created", step.opening())
        self._emit("thread.run.step.in_progress", step.opening())

    def _end_step(self, step: Step, status: str, now: int) -> None:
        step.end(status, now)
        if self.followers:
            self._emit(f"thread.run.step.{status}", step.json())

    def _emit(self, name: str, thing: dict[str, Any]) -> None:
        for follow in self.followers:
            follow(name, thing)
