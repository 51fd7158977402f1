"""The coordinator: creates runs, polls them, and sends the tool calls that a run asks for to the gateway."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from coordinators.as_deployed.store import Store
from coordinators.common.assistants import Assistants, Refused, Run, ToolCall, Unreachable
from coordinators.common.gateway import Gateway, ToolRequest, ToolResult, as_text, error_output
from coordinators.common.http import NoAnswer, timed_out
from coordinators.common.log import Log
from coordinators.common.settings import Settings
from coordinators.common.stores import StoreUnavailable

ATTEMPTS = 3
"""How often a request is sent when no usable answer comes."""
RETRY_PAUSE = 0.1
"""Seconds between two attempts, times the attempt."""
BACKOFF_LIMIT = 4
"""The longest pause between two polls, in poll intervals."""
FEWEST_POLLS = 8
"""A step is not taken for stuck before so many polls: on a slow machine the clock alone says little."""

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class Turn:
    """One turn, as this instance remembers it."""

    turn_id: str
    message: str
    thread_id: str | None = None
    run_id: str | None = None
    status: str = "running"
    detail: str | None = None


@dataclasses.dataclass(slots=True)
class Waiting:
    """A requires_action whose calls this instance has dispatched."""

    call_ids: tuple[str, ...]
    step_id: str
    since: float
    grace: float
    polls: int = 0
    submitted_before: bool = False


class Coordinator:
    """Follows the runs of the turns that this instance took. What it knows of them is lost with the process."""

    def __init__(
        self,
        settings: Settings,
        assistants: Assistants,
        gateway: Gateway,
        store: Store,
        log: Log,
        deliver: Callable[[ToolResult], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._assistants = assistants
        self._gateway = gateway
        self._store = store
        self._log = log
        self._deliver = deliver
        self.turns: dict[str, Turn] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._dispatching: set[asyncio.Task[None]] = set()

    def take(self, turn: Turn) -> None:
        """Begin a turn; one that this instance remembers is not begun again."""
        if turn.turn_id in self.turns:
            return
        self.turns[turn.turn_id] = turn
        _spawn(self._conduct(turn), self._following)

    async def stop(self, within: float) -> None:
        """Give the turns in flight a moment to end, then drop them."""
        if self._following:
            await asyncio.wait(self._following, timeout=within)
        tasks = [*self._following, *self._dispatching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _conduct(self, turn: Turn) -> None:
        try:
            if turn.thread_id is None:
                turn.thread_id = await _retrying(self._assistants.create_thread)
            thread_id: str = turn.thread_id
            await _retrying(lambda: self._assistants.add_message(thread_id, turn.message, turn.turn_id))
            run = await _retrying(lambda: self._assistants.create_run(thread_id, turn.turn_id))
            turn.run_id = run.id
            run = await self._follow(run)
            turn.status = "done" if run.status == "completed" else "failed"
            turn.detail = None if run.status == "completed" else f"run {run.status}: {run.detail or 'no reason given'}"
        except (Refused, Unreachable) as error:
            turn.status, turn.detail = "failed", str(error)
            self._log.coordinator("ERROR", f"turn {turn.turn_id} failed: {error}")

    async def _follow(self, run: Run) -> Run:
        waiting: Waiting | None = None
        pause = self._settings.poll_interval
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self._settings.poll_interval * BACKOFF_LIMIT)
            submitted = await self._submitted(run.id) if waiting else frozenset()  # before the poll, or it would not be news
            try:
                run = await self._assistants.run(run.thread_id, run.id)
            except Unreachable as error:
                self._log.coordinator("WARN", f"poll {run.thread_id}/{run.id}: {error}")
                continue
            if run.ended:
                return run
            if not run.waits:
                waiting = None
                continue
            reason = self._reason_to_dispatch(run, waiting, submitted)
            if waiting is None or waiting.call_ids != run.call_ids or reason:
                before = waiting
                waiting = await self._dispatch_step(run, reason)
                if before is not None and before.call_ids == run.call_ids:
                    waiting.grace = before.grace * 2
                    waiting.submitted_before = before.submitted_before or reason == "submitted"
                pause = self._settings.poll_interval
            else:
                self._log_status(run, waiting.step_id)
            waiting.polls += 1

    def _reason_to_dispatch(self, run: Run, waiting: Waiting | None, submitted: frozenset[str]) -> str | None:
        """Why calls that are dispatched already are dispatched again; None when they are not."""
        if waiting is None or waiting.call_ids != run.call_ids:
            return None
        if not waiting.submitted_before and submitted.issuperset(run.call_ids):
            return "submitted"
        quiet = asyncio.get_running_loop().time() - waiting.since
        return "timeout" if quiet >= waiting.grace and waiting.polls >= FEWEST_POLLS else None

    async def _dispatch_step(self, run: Run, reason: str | None) -> Waiting:
        step_id = await self._step_of(run)
        self._log_status(run, step_id)
        if reason == "timeout":
            self._log.coordinator(
                "WARN", f"tool_timeout {run.thread_id}/{run.id} step={step_id} no result in time, invoking again"
            )
        try:
            await self._store.set_latest_step(run.thread_id, run.id, step_id, run.call_ids)
        except StoreUnavailable as error:
            self._log.coordinator("ERROR", f"latest step of {run.id} not stored: {error}")
        for call in run.calls:
            _spawn(self._dispatch(run, step_id, call), self._dispatching)
        return Waiting(run.call_ids, step_id, asyncio.get_running_loop().time(), 3 * self._settings.tool_timeout)

    async def _dispatch(self, run: Run, step_id: str, call: ToolCall) -> None:
        try:
            arguments = json.loads(call.arguments)
        except ValueError as error:
            await self._deliver(_result(run, step_id, call, error_output(f"the arguments are not JSON: {error}")))
            return
        request = ToolRequest(
            tool=call.name, arguments=arguments, thread_id=run.thread_id, run_id=run.id, step_id=step_id, tool_call_id=call.id
        )
        for attempt in range(1, ATTEMPTS + 1):
            trouble = "tool_error"
            try:
                answer = await self._gateway.request(request)
            except NoAnswer as error:
                trouble = "tool_timeout" if timed_out(error) else "tool_error"
            else:
                if answer.status == 202:
                    return
                if answer.ok:
                    output = answer.json().get("output", answer.body.decode("utf-8", "replace"))
                    await self._deliver(_result(run, step_id, call, as_text(output)))
                    return
                if answer.status < 500 and answer.status not in (408, 409, 425, 429):
                    await self._deliver(_result(run, step_id, call, error_output(answer.message)))
                    return
            where = f"{run.thread_id}/{run.id} step={step_id} tool_call={call.id}"
            self._log.coordinator("WARN", f"{trouble} {where} attempt={attempt} of {ATTEMPTS}")
            await asyncio.sleep(RETRY_PAUSE * attempt)

    async def _step_of(self, run: Run) -> str:
        try:
            steps = await self._assistants.steps(run.thread_id, run.id)
        except (Unreachable, Refused):
            return "unknown"
        return steps[-1].id if steps else "unknown"

    async def _submitted(self, run_id: str) -> frozenset[str]:
        try:
            return await self._store.submitted(run_id)
        except StoreUnavailable:
            return frozenset()

    def _log_status(self, run: Run, step_id: str) -> None:
        calls = ", ".join(run.call_ids)
        self._log.coordinator(
            "INFO", f"run_status {run.thread_id}/{run.id} = {run.status} step={step_id} tool_calls=[{calls}]"
        )


def _result(run: Run, step_id: str, call: ToolCall, output: str) -> ToolResult:
    return ToolResult(run.id, call.id, run.thread_id, step_id, output)


async def _retrying(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request again when no usable answer came, whether or not it had its effect."""
    attempt = 1
    while True:
        try:
            return await request()
        except Unreachable:
            if attempt == ATTEMPTS:
                raise
        await asyncio.sleep(RETRY_PAUSE * attempt)
        attempt += 1


def _spawn(coroutine: Awaitable[None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.ensure_future(coroutine)
    assert isinstance(task, asyncio.Task)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
