"""The submission handler: takes tool results, queues them, and submits a step once all of its outputs are there."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable

from coordinators.as_deployed.store import Batch, Store
from coordinators.common.assistants import Assistants
from coordinators.common.gateway import ToolResult
from coordinators.common.http import NoAnswer
from coordinators.common.log import Log
from coordinators.common.stores import StoreUnavailable

PAUSE = 0.2
"""Seconds before a failed submission, or a store that did not answer, is tried again."""


class Handler:
    """One submission handler; several work on the same queue."""

    def __init__(self, store: Store, assistants: Assistants, log: Log, clock: Callable[[], float]) -> None:
        self._store = store
        self._assistants = assistants
        self._log = log
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, result: ToolResult) -> None:
        """Queue a result; the submission goes on in the background. Raises StoreUnavailable."""
        await self._store.enqueue(_normalized(result))
        task = asyncio.get_running_loop().create_task(self._flush(result.run_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Drop what is still in flight."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _flush(self, run_id: str) -> None:
        while True:
            try:
                batch = await self._store.take_batch(run_id)
                if batch is None or await self._submit(batch):
                    return
                await self._store.put_back(batch)
            except StoreUnavailable as error:
                self._log.coordinator("ERROR", f"submission queue unavailable: {error}")
            await asyncio.sleep(PAUSE)

    async def _submit(self, batch: Batch) -> bool:
        """Whether the batch is dealt with: submitted now, or known from before."""
        dedup = {call: await self._dedup(f"{batch.run_id}:{call}") for call, _ in batch.outputs}
        if all(result == "HIT" for result in dedup.values()):
            self._log_submission(batch, dedup, "INFO", None, None)
            return True
        try:
            answer = await self._assistants.submit(batch.thread_id, batch.run_id, list(batch.outputs))
        except NoAnswer:
            self._log_submission(batch, dedup, "ERROR", None, None)
            return False
        self._log_submission(
            batch, dedup, "INFO" if answer.ok else "ERROR", answer.status, answer.headers.get("x-request-id")
        )
        if answer.ok:
            await self._store.mark_submitted(batch)
        return answer.ok

    async def _dedup(self, key: str) -> str:
        try:
            return "HIT" if await self._store.seen_before(key, self._clock()) else "MISS"
        except StoreUnavailable:
            return "MISS"

    def _log_submission(
        self, batch: Batch, dedup: dict[str, str], level: str, http_status: int | None, request_id: str | None
    ) -> None:
        for call, result in dedup.items():
            self._log.submission(
                level,
                thread_id=batch.thread_id,
                run_id=batch.run_id,
                step_id=batch.step_id,
                tool_call_id=call,
                dedup_key=f"{batch.run_id}:{call}",
                dedup_result=result,
                submit_tool_outputs={
                    "tool_outputs_count": len(batch.outputs), "http_status": http_status, "request_id": request_id,
                },
            )


def _normalized(result: ToolResult) -> ToolResult:
    """The result in its canonical shape: output is JSON text."""
    try:
        json.loads(result.output)
    except ValueError:
        return dataclasses.replace(result, output=json.dumps(result.output))
    return result
