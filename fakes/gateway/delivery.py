"""Posting asynchronous results: at least once, until the receiver says 2xx."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from fakes.faults import Nemesis
from fakes.gateway.asked import Asked
from fakes.gateway.call import ToolCall
from fakes.gateway.result import Failure, Result
from fakes.history import CallbackDue, CallbackPosted, History

Post = Callable[[str, dict[str, Any]], Awaitable[int]]
"""Posts a JSON body to a URL and returns the HTTP status. Raises OSError (TimeoutError included) when no answer came."""

FOREIGN_EFFECT = "INC-00000"
"""An effect that the ledger does not hold."""
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 1.0


class Deliveries:
    """Results on their way to the coordinator. A result that is refused is posted again, 0.1 s to 1 s later, for ever."""

    def __init__(self, history: History, nemesis: Nemesis, post: Post) -> None:
        self._history = history
        self._nemesis = nemesis
        self._post = post
        self._held: dict[str | None, list[asyncio.Event]] = defaultdict(list)

    async def deliver(self, call: ToolCall, result: Result) -> None:
        """Post one result until it is accepted; ends when every copy of it was."""
        failure = result if isinstance(result, Failure) else None
        told: dict[str, Any] = {
            "conversation": call.conversation,
            "request_id": call.request_id,
            "tool": call.tool,
            "tool_call_id": call.tool_call_id,
            "nonce": call.nonce,
            "external_id": None if isinstance(result, Failure) else result.external_id,
            "error": failure.message if failure is not None else None,
            "instance": call.instance,
        }
        asked = Asked(await self._nemesis.at(self._history.record(CallbackDue, **told)))
        if asked.has("foreign_callback"):
            await self._attempt(call, _foreign(call))
            asked.injected("foreign_callback", f"{FOREIGN_EFFECT} of another run was posted for {call.tool_call_id}")
        if asked.has("late_callback"):
            seconds = asked.first("late_callback", "seconds")
            await asyncio.sleep(seconds)
            asked.injected("late_callback", f"held for {seconds:g} s")
        if asked.has("reorder_callbacks"):
            overtaken = await self._overtaken(call.conversation, asked.first("reorder_callbacks", "seconds"))
            asked.injected("reorder_callbacks", "overtaken by a later result" if overtaken else "held; no other result came")
        told["definite"] = failure is not None and failure.definite
        if not asked.has("duplicate_callback"):
            await self._copy(call, result, told, asked)
            return
        copies, gap = asked.first("duplicate_callback", "n"), asked.first("duplicate_callback", "gap")
        await asyncio.gather(*(self._copy(call, result, told, asked, n, (n - 1) * gap) for n in range(1, copies + 1)))

    async def _copy(
        self, call: ToolCall, result: Result, told: dict[str, Any], asked: Asked, copy: int = 1, delay: float = 0.0
    ) -> None:
        """Post one copy, `delay` seconds from now, until it is accepted."""
        if delay > 0:
            await asyncio.sleep(delay)
        body = _body(call, result)
        backoff = FIRST_BACKOFF
        for attempt in itertools.count(1):
            status = await self._attempt(call, body)
            if copy > 1:
                asked.injected("duplicate_callback", f"copy {copy} posted")
            await self._nemesis.at(
                self._history.record(CallbackPosted, **told, attempt=attempt, copy=copy, http_status=status)
            )
            for held in self._held.pop(call.conversation, ()):
                held.set()
            if status is not None and 200 <= status < 300:
                return
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _attempt(self, call: ToolCall, body: dict[str, Any]) -> int | None:
        assert call.callback_url is not None
        try:
            return await self._post(call.callback_url, body)
        except OSError:
            return None

    async def _overtaken(self, conversation: str | None, seconds: float) -> bool:
        """Wait until another result of the same conversation was posted, at most `seconds`."""
        held = asyncio.Event()
        self._held[conversation].append(held)
        try:
            async with asyncio.timeout(seconds):
                await held.wait()
        except TimeoutError:
            return False
        return True


def _body(call: ToolCall, result: Result) -> dict[str, Any]:
    """What is posted: the ids as they were sent, and either the output or the error with the status it would have had."""
    body: dict[str, Any] = {
        "thread_id": call.thread_id,
        "run_id": call.run_id,
        "step_id": call.step_id,
        "tool_call_id": call.tool_call_id,
    }
    if isinstance(result, Failure):
        body["error"] = {**result.body(), "status": result.status}
    else:
        body["output"] = result.output
    return body


def _foreign(call: ToolCall) -> dict[str, Any]:
    """A result that looks like one of this call, and says that it is of another run: ids of calls are unique per run only."""
    other = call.request_id.rpartition("_")[2]
    return {
        "thread_id": f"thread_{other}",
        "run_id": f"run_{other}",
        "step_id": f"step_{other}",
        "tool_call_id": call.tool_call_id,
        "output": f'{{"ticket_id":"{FOREIGN_EFFECT}","status":"created"}}',
    }
