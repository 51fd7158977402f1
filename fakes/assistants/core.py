"""The fake Assistants API as a pure state machine: every operation, no I/O, no waiting.

Bodies come in as JSON objects and are checked here; what cannot be done raises ApiError. The clock (unix seconds) and
the ids are injected. Runs do not move by themselves: whoever generates calls `begin`, then `require_action`, `complete`
or `fail`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fakes.assistants import errors
from fakes.assistants.fields import ASSISTANT_SETTINGS, RUN_SETTINGS, Draft, Fields, draft, drafts, settings
from fakes.assistants.objects import Assistant, Message, Thread, deleted
from fakes.assistants.pages import Page, page
from fakes.assistants.runs import WORKING, Run, Step, ToolCall, Usage
from fakes.ids import Ids

Body = Mapping[str, Any]
Query = Mapping[str, str]
T = TypeVar("T")

REPEAT_SUBMIT = ("400", "200", "409")
"""What a repeat of an accepted submit can be answered with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """An accepted submit; `repeat` marks the repeat of one that was accepted before, which commits nothing."""

    step: Step
    repeat: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A run reached a terminal status, and why."""

    run: Run
    reason: str | None = None


class Core:
    """Everything that the fake remembers.

    Args:
        clock: unix seconds.
        ids: where every id comes from.

    `ended` collects the runs that reached a terminal status, expiry included, which is noticed when a run is looked at;
    whoever announces them takes them out.
    """

    def __init__(self, clock: Callable[[], float], ids: Ids) -> None:
        self.clock = clock
        self.ids = ids
        self.assistants: dict[str, Assistant] = {}
        self.threads: dict[str, Thread] = {}
        self.ended: list[Ended] = []

    def reset(self) -> None:
        """Forget every thread and all that is on it. Assistants stay, since their ids were handed out; no id comes twice."""
        self.threads.clear()
        self.ended.clear()

    def forget(self, before: float) -> list[Thread]:
        """Forget the threads that were created before that time and have no active run; which ones."""
        old = itertools.takewhile(lambda thread: thread.created_at < before, self.threads.values())
        gone = [thread for thread in old if self.active_run(thread) is None]
        for thread in gone:
            del self.threads[thread.id]
        return gone

    # --- assistants ---------------------------------------------------------------------------------------------

    def create_assistant(self, body: Body, id: str | None = None) -> Assistant:
        """A new assistant, under a fresh id or the one given; `model` is required."""
        fields = Fields(body)
        fields.required_text("model")
        made = Assistant(id=id or self.ids.new("asst"), created_at=self._now(), **settings(fields, ASSISTANT_SETTINGS))
        self.assistants[made.id] = made
        return made

    def assistant(self, assistant_id: str) -> Assistant:
        """One assistant."""
        return _found(self.assistants, assistant_id, "assistant")

    def modify_assistant(self, assistant_id: str, body: Body) -> Assistant:
        """Change the settings that the body names."""
        assistant = self.assistant(assistant_id)
        for name, value in settings(Fields(body), ASSISTANT_SETTINGS).items():
            setattr(assistant, name, value)
        return assistant

    def delete_assistant(self, assistant_id: str) -> dict[str, Any]:
        """Delete one; runs that it has go on."""
        del self.assistants[self.assistant(assistant_id).id]
        return deleted("assistant", assistant_id)

    def list_assistants(self, query: Query) -> Page[Assistant]:
        """One page of assistants."""
        return page(self.assistants.values(), query, "assistant")

    # --- threads ------------------------------------------------------------------------------------------------

    def create_thread(self, body: Body) -> Thread:
        """A new thread, with the messages that the body brings."""
        fields = Fields(body)
        first = drafts(fields, "messages")
        made = Thread(self.ids.new("thread"), self._now(), fields.tool_resources(), fields.metadata())
        self.threads[made.id] = made
        self._add(made, first)
        return made

    def thread(self, thread_id: str) -> Thread:
        """One thread."""
        return _found(self.threads, thread_id, "thread")

    def modify_thread(self, thread_id: str, body: Body) -> Thread:
        """Change metadata or tool_resources."""
        thread = self.thread(thread_id)
        fields = Fields(body)
        resources, metadata = fields.tool_resources(), fields.metadata()
        if "tool_resources" in fields:
            thread.tool_resources = resources
        if "metadata" in fields:
            thread.metadata = metadata
        return thread

    def delete_thread(self, thread_id: str) -> dict[str, Any]:
        """Delete one with all that is in it; its active run counts as cancelled."""
        thread = self.thread(thread_id)
        active = self.active_run(thread)
        if active is not None:
            self._end(active, "cancelled", "its thread was deleted")
        del self.threads[thread_id]
        return deleted("thread", thread_id)

    # --- messages -----------------------------------------------------------------------------------------------

    def create_message(self, thread_id: str, body: Body) -> Message:
        """Add a message; refused while a run is active."""
        thread = self.thread(thread_id)
        new = draft(Fields(body))
        active = self.active_run(thread)
        if active is not None:
            raise errors.thread_locked(thread_id, active.id)
        return self._add(thread, [new])[0]

    def message(self, thread_id: str, message_id: str) -> Message:
        """One message."""
        return _found(self.thread(thread_id).messages, message_id, "message")

    def modify_message(self, thread_id: str, message_id: str, body: Body) -> Message:
        """Change its metadata."""
        message = self.message(thread_id, message_id)
        fields = Fields(body)
        metadata = fields.metadata()
        if "metadata" in fields:
            message.metadata = metadata
        return message

    def delete_message(self, thread_id: str, message_id: str) -> dict[str, Any]:
        """Delete one message."""
        del self.thread(thread_id).messages[self.message(thread_id, message_id).id]
        return deleted("thread.message", message_id)

    def list_messages(self, thread_id: str, query: Query) -> Page[Message]:
        """One page of a thread's messages; `run_id` keeps those that one run wrote."""
        messages: Iterable[Message] = self.thread(thread_id).messages.values()
        run_id = query.get("run_id")
        if run_id:
            messages = [message for message in messages if message.run_id == run_id]
        return page(messages, query, "message")

    # --- runs ---------------------------------------------------------------------------------------------------

    def create_run(self, thread_id: str, body: Body) -> tuple[Run, list[Message]]:
        """A new run, queued, and the messages that were added with it; refused while another run is active."""
        thread = self.thread(thread_id)
        fields = Fields(body)
        added = drafts(fields, "additional_messages")
        made = self._new_run(thread_id, fields)
        active = self.active_run(thread)
        if active is not None:
            raise errors.run_active(thread_id, active.id)
        messages = self._add(thread, added)
        thread.runs[made.id] = made
        return made, messages

    def create_thread_and_run(self, body: Body) -> tuple[Thread, Run]:
        """A new thread, with its messages, and a run on it."""
        fields = Fields(body)
        fields.object("thread")
        run = self._new_run("", fields)
        thread = self.create_thread(body.get("thread") or {})
        run.thread_id = thread.id
        thread.runs[run.id] = run
        return thread, run

    def run(self, thread_id: str, run_id: str) -> Run:
        """One run, as it is now."""
        return self._seen(_found(self.thread(thread_id).runs, run_id, "run"))

    def modify_run(self, thread_id: str, run_id: str, body: Body) -> Run:
        """Change its metadata."""
        run = self.run(thread_id, run_id)
        fields = Fields(body)
        metadata = fields.metadata()
        if "metadata" in fields:
            run.modify(metadata)
        return run

    def list_runs(self, thread_id: str, query: Query) -> Page[Run]:
        """One page of a thread's runs."""
        return page([self._seen(run) for run in self.thread(thread_id).runs.values()], query, "run")

    def active_run(self, thread: Thread) -> Run | None:
        """The run that locks the thread; it can only be the latest."""
        for run in reversed(thread.runs.values()):
            return run if self._seen(run).active else None
        return None

    def submit(self, run: Run, outputs: Sequence[tuple[str, str]], repeat: str = "400") -> Submission:
        """Commit the outputs of the pending step, all of them at once.

        `repeat` is what a repeat gets, that is a submit for the calls of the last accepted step, whatever the run does
        meanwhile: refused with 400 or 409, or (200) accepted again without effect.
        """
        given = [call_id for call_id, _ in outputs]
        step = self._seen(run).pending
        if step is not None and sorted(given) == sorted(step.call_ids):
            return Submission(run.take(outputs, self._now()))
        repeated = run.accepted is not None and sorted(given) == sorted(run.accepted.call_ids)
        if run.accepted is not None and repeated and repeat == "200":
            return Submission(run.accepted, repeat=True)
        status = 409 if repeated and repeat == "409" else 400
        if step is None:
            raise errors.takes_no_outputs(run.status, status)
        raise errors.other_outputs(step.call_ids, given, status)

    def cancel(self, run: Run) -> Run:
        """To cancelling; `cancelled` finishes it."""
        if self._seen(run).status not in WORKING:
            raise errors.not_cancellable(run.status)
        run.cancel()
        return run

    def step(self, thread_id: str, run_id: str, step_id: str) -> Step:
        """One step."""
        return _found(self.run(thread_id, run_id).steps, step_id, "run step")

    def list_steps(self, thread_id: str, run_id: str, query: Query) -> Page[Step]:
        """One page of a run's steps."""
        return page(self.run(thread_id, run_id).steps.values(), query, "run step")

    # --- what moves a run ---------------------------------------------------------------------------------------

    def begin(self, run: Run) -> int | None:
        """Start the next generation: its number, None when the run is not queued."""
        return self._seen(run).begin(self._now())

    def require_action(self, run: Run, attempt: int, calls: Sequence[ToolCall], usage: Usage) -> Step | None:
        """A generation asked for calls: the step that waits now, None when the generation does not count any more."""
        if not self._counts(run, attempt):
            return None
        passed = _limit_passed(run, usage)
        if passed is not None:
            run.usage = run.usage.plus(usage)
            self._end_incomplete(run, passed)
            return None
        return run.require_action(self.ids.new("step"), self._now(), calls, usage)

    def complete(self, run: Run, attempt: int, text: str, usage: Usage, cut_off: bool = False) -> Message | None:
        """A generation brought the closing words: the message. `cut_off` words (too many tokens) end it as incomplete."""
        if not self._counts(run, attempt):
            return None
        passed = "max_completion_tokens" if cut_off else _limit_passed(run, usage)
        content = [{"type": "text", "text": {"value": text, "annotations": []}}]
        message = Message(
            self.ids.new("msg"), self._now(), run.thread_id, "assistant", content, assistant_id=run.assistant_id, run_id=run.id,
            cut_off="max_tokens" if passed == "max_completion_tokens" else None,
        )
        self.threads[run.thread_id].messages[message.id] = message
        run.wrote(self.ids.new("step"), message, self._now(), usage)
        if passed is not None:
            self._end_incomplete(run, passed)
        else:
            self._end(run, "completed", None)
        return message

    def fail(self, run: Run, attempt: int, message: str) -> None:
        """A generation failed, and with it the run."""
        if self._counts(run, attempt):
            run.last_error = {"code": "server_error", "message": message}
            self._end(run, "failed", message)

    def cancelled(self, run: Run, reason: str) -> None:
        """Cancelling to cancelled."""
        if run.status == "cancelling":
            self._end(run, "cancelled", reason)

    def expire(self, run: Run, reason: str) -> bool:
        """The run expires now, whatever the clock says; False when it is over or being cancelled."""
        if run.status not in WORKING:
            return False
        self._end(run, "expired", reason)
        return True

    def look(self, run: Run) -> None:
        """Nothing, but that a run whose time is over expires."""
        self._seen(run)

    # --- inside -------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self.clock())

    def _seen(self, run: Run) -> Run:
        if run.status in WORKING and self.clock() >= run.expires_at:
            self.expire(run, "expires_at passed")
        return run

    def _end(self, run: Run, status: str, reason: str | None) -> None:
        run.end(status, self._now())
        self.ended.append(Ended(run, reason))

    def _counts(self, run: Run, attempt: int) -> bool:
        return self._seen(run).current(attempt)

    def _end_incomplete(self, run: Run, reason: str) -> None:
        run.incomplete_reason = reason
        self._end(run, "incomplete", reason)

    def _new_run(self, thread_id: str, fields: Fields) -> Run:
        assistant = self.assistant(fields.required_text("assistant_id"))
        named = {name: value for name, value in settings(fields, RUN_SETTINGS).items() if value is not None}
        merged: dict[str, Any] = {
            "model": assistant.model,
            "instructions": assistant.instructions or "",
            "tools": assistant.tools or [],
            "temperature": assistant.temperature,
            "top_p": assistant.top_p,
            "response_format": assistant.response_format,
            **named,
        }
        further = fields.text("additional_instructions")
        if further:
            merged["instructions"] = f"{merged['instructions']}\n{further}".lstrip()
        return Run(self.ids.new("run"), thread_id, assistant.id, self._now(), **merged)

    def _add(self, thread: Thread, new: Sequence[Draft]) -> list[Message]:
        made = [
            Message(self.ids.new("msg"), self._now(), thread.id, d.role, d.content, d.attachments, d.metadata) for d in new
        ]
        thread.messages.update((message.id, message) for message in made)
        return made


def _found(things: Mapping[str, T], wanted: str, what: str) -> T:
    thing = things.get(wanted)
    if thing is None:
        raise errors.not_found(what, wanted)
    return thing


def _limit_passed(run: Run, further: Usage) -> str | None:
    spent = run.usage.plus(further)
    if run.max_completion_tokens is not None and spent.completion_tokens > run.max_completion_tokens:
        return "max_completion_tokens"
    if run.max_prompt_tokens is not None and spent.prompt_tokens > run.max_prompt_tokens:
        return "max_prompt_tokens"
    return None
