"""Posted results that are acknowledged too early, lost, turned around, overwritten, or taken from anybody."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from typing import Any

from coordinators.common.gateway import ToolResult
from coordinators.common.stores import StoreUnavailable
from coordinators.hardened import Hardened
from coordinators.hardened.dispatch import Bench, Dispatcher
from coordinators.hardened.recovery import Outcome
from coordinators.hardened.sqlite_store import SqliteStore
from coordinators.hardened.store import Store
from coordinators.hardened.submission import Receiver
from coordinators.mutants.variant import app


class _Relying(Dispatcher):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._promised: set[str] = set()

    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        if outcome is Outcome.ACCEPTED:
            self._promised.add(bench.claim.slot)
        if bench.claim.slot in self._promised and await bench.settled_within(math.inf):
            return Outcome.SETTLED
        return await super().recover(bench, outcome, attempt)


class RelyingOnCallbacks(Hardened):
    """No bug where a gateway keeps its word: a 202 promises a result, which is posted until it is acknowledged."""

    dispatcher_class = _Relying


FLUSH_AFTER = 0.2
"""Seconds that a result stays in the queue."""


class _Flags(Store):
    async def flag(self, run_id: str, tool_call_id: str) -> None:
        """The call is done: noted beside the accepted steps, where none has this name."""
        await self.accept_step(f"{run_id}/{tool_call_id}", 0)

    async def is_settled(self, slot: str) -> bool:
        claim = await self.find_claim(slot)
        return claim is not None and await self.is_accepted(f"{claim.run_id}/{claim.tool_call_id}", 0)


class _FlagFirst(Receiver):
    store: _Flags

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue: set[asyncio.Task[None]] = set()

    async def receive(self, result: ToolResult) -> str:
        await self.store.flag(result.run_id, result.tool_call_id)
        task = asyncio.create_task(self._flush(result))
        self._queue.add(task)
        task.add_done_callback(self._queue.discard)
        return "queued"

    async def _flush(self, result: ToolResult) -> None:
        await asyncio.sleep(FLUSH_AFTER)
        await super().receive(result)


class DoneBeforeQueued(Hardened):
    """A call is flagged as done before its result is stored, which happens a moment later from a queue in memory.

    Exposed by kill right after callback_posted: the successor sees the flag, and waits for a result that nobody has. Breaks C2;
    without a key or a look-up C2'.
    """

    store_class = _Flags
    receiver_class = _FlagFirst


class _AckFirst(Receiver):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._storing: set[asyncio.Task[None]] = set()

    async def receive(self, result: ToolResult) -> str:
        task = asyncio.create_task(self._process(result))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        return "accepted"

    async def _process(self, result: ToolResult) -> None:
        with contextlib.suppress(StoreUnavailable):
            await super().receive(result)


class AckBeforeProcessing(RelyingOnCallbacks):
    """A result is acknowledged before it is stored; when the store is away it is lost, and the gateway does not post it again.

    Exposed by store_outage when a callback is due. Breaks C2; without a key or a look-up C2'.
    """

    receiver_class = _AckFirst


class _ErrorIsSuccess(Receiver):
    async def receive(self, result: ToolResult) -> str:
        if result.failed:
            result = dataclasses.replace(result, output='{"status":"ok"}')
        return await super().receive(result)


class ErrorTurnedIntoSuccess(Hardened):
    """Whatever the gateway posts is normalised into a success, a definite error too.

    Symptom: S7. Exposed by permanent_failure. Breaks C9.
    """

    receiver_class = _ErrorIsSuccess


DEADLINE = 1.0
"""Seconds from the gateway's 202."""


class _Deadline(Dispatcher):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.closed: set[tuple[str, str]] = set()

    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        if outcome is not Outcome.ACCEPTED:
            return await super().recover(bench, outcome, attempt)
        if not await bench.settled_within(DEADLINE):
            self.closed.add((bench.claim.run_id, bench.claim.tool_call_id))
            await bench.settled_within(math.inf)
        return Outcome.SETTLED


class _NotTooLate(Receiver):
    dispatcher: _Deadline

    async def receive(self, result: ToolResult) -> str:
        if (result.run_id, result.tool_call_id) in self.dispatcher.closed:
            return "ignored: too late"
        return await super().receive(result)


class LateResultDropped(Hardened):
    """A result that comes more than a second after its call was accepted is acknowledged and thrown away.

    Symptom: S6. Exposed by late_callback, slow. Breaks C2; without a key or a look-up C2'.
    """

    dispatcher_class = _Deadline
    receiver_class = _NotTooLate


class _Map(SqliteStore):
    async def outputs_of(self, run_id: str, tool_call_id: str) -> dict[str, str | None]:
        """The outputs of the call's step by tool_call_id, the missing ones included."""
        return dict(
            self._db.read(
                "SELECT c.tool_call_id, c.output FROM claims AS c JOIN claims AS own USING (run_id, ordinal) "
                "WHERE run_id = ? AND own.tool_call_id = ?",
                (run_id, tool_call_id),
            )
        )

    async def write_outputs(self, run_id: str, outputs: dict[str, str | None]) -> None:
        """Write the whole map back."""
        for tool_call_id, output in outputs.items():
            self._db.write(
                "UPDATE claims SET output = ? WHERE run_id = ? AND tool_call_id = ?", (output, run_id, tool_call_id)
            )


class _ReadModifyWrite(Receiver):
    store: _Map

    async def receive(self, result: ToolResult) -> str:
        outputs = await self.store.outputs_of(result.run_id, result.tool_call_id)
        await asyncio.sleep(0.02)  # the way to the store and back
        if result.definite and outputs.get(result.tool_call_id, "") is None:
            await self.store.write_outputs(result.run_id, {**outputs, result.tool_call_id: result.output})
        return await super().receive(result)


class OutputsReadModifyWrite(RelyingOnCallbacks):
    """The outputs of a step are one map, which is read, changed and written back: of two results at once one gets lost.

    Exposed by two calls in one step; no fault is needed. Breaks C2.
    """

    store_class = _Map
    receiver_class = _ReadModifyWrite


class _ByIdAlone(SqliteStore):
    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        rows = self._db.write(
            "UPDATE claims SET output = COALESCE(output, ?) WHERE tool_call_id = ? RETURNING slot", (output, tool_call_id)
        )
        return rows[0][0] if rows else None


class ForeignCallbackAccepted(Hardened):
    """A posted result is matched by its tool_call_id alone, whichever run it says that it is of.

    Exposed by foreign_callback. Breaks C3.
    """

    store_class = _ByIdAlone


relying_on_callbacks = app(RelyingOnCallbacks)
done_before_queued = app(DoneBeforeQueued)
ack_before_processing = app(AckBeforeProcessing)
error_turned_into_success = app(ErrorTurnedIntoSuccess)
late_result_dropped = app(LateResultDropped)
outputs_read_modify_write = app(OutputsReadModifyWrite)
foreign_callback_accepted = app(ForeignCallbackAccepted)
