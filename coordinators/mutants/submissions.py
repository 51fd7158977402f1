"""Submissions that come too early, too seldom, in part, too full, mixed up, or not at all."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

from coordinators.common.assistants import Run
from coordinators.hardened import Hardened
from coordinators.hardened.coordinator import Coordinator
from coordinators.hardened.dispatch import Conduct
from coordinators.hardened.patience import until_stored
from coordinators.hardened.records import Asked
from coordinators.hardened.sqlite_store import SCHEMA, SqliteStore
from coordinators.hardened.store import Store
from coordinators.hardened.submission import Submission
from coordinators.mutants.variant import app


class _RecordFirst(Submission):
    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        await self.note_accepted(asked[0].run_id, asked[0].ordinal)
        return await super().submit(conduct, asked, outcomes)


class RecordBeforeSubmit(Hardened):
    """The dedup record "submitted" is written before the submit: one that failed, or that a crash prevented, looks done.

    Symptom: S4. Exposed by refuse_submit, lose_submit, and by kill between record and submit. Breaks C2.
    """

    submission_class = _RecordFirst


class _NoRecord(Submission):
    async def note_accepted(self, run_id: str, ordinal: int) -> None:
        pass


class RecordAfterSubmit(Hardened):
    """The dedup record comes after the submit, and so late that it never comes. Harmless: the run's steps tell the same.

    Symptom: S4, as information: more submits are a MISS. No contract is broken.
    """

    submission_class = _NoRecord


class _OneAtATime(Coordinator):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = asyncio.Lock()

    async def perform(self, conduct: Conduct, asked: Asked) -> None:
        async with self._line:
            await super().perform(conduct, asked)
            while not await until_stored(lambda: self.store.is_accepted(asked.run_id, asked.ordinal)):
                await asyncio.sleep(self.poll_interval)


class AckAfterSubmit(Hardened):
    """An instance takes the next call from its queue only after the submit of the one before: the head blocks the line.

    Exposed by two calls in one step, which wait for each other; no fault is needed. Also by cancel_run, which leaves a head
    that is never submitted. Breaks C2.
    """

    coordinator_class = _OneAtATime


class _Line(SqliteStore):
    schema = SCHEMA + "CREATE TABLE IF NOT EXISTS line (run_id TEXT PRIMARY KEY);"

    async def is_head(self, run_id: str) -> bool:
        """Line up; whether it is this run's turn."""
        self._db.write("INSERT OR IGNORE INTO line VALUES (?)", (run_id,))
        return self._db.read("SELECT run_id FROM line ORDER BY rowid LIMIT 1") == [(run_id,)]

    async def leave(self, run_id: str) -> None:
        """Make room for the next."""
        self._db.write("DELETE FROM line WHERE run_id = ?", (run_id,))


class _InLine(Submission):
    store: _Line

    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        run_id = asked[0].run_id
        if not await self.store.is_head(run_id):
            return False
        try:
            for a in asked:
                json.loads(self.text_of(outcomes[a.slot]))
        except ValueError:
            return False  # to be tried again
        await self.store.leave(run_id)
        return await super().submit(conduct, asked, outcomes)


class PoisonBlocksQueue(Hardened):
    """Submissions of all instances stand in one line, and one whose result cannot be read is tried again at its head, for ever.

    Exposed by poison_result, with another conversation behind it. Breaks C10 (and C2).
    """

    store_class = _Line
    submission_class = _InLine


class _Once(Submission):
    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        accepted = await super().submit(conduct, asked, outcomes)
        conduct.steps[tuple(a.call.id for a in asked)] = None
        return accepted


class FailedSubmitNotRetried(Hardened):
    """A step is over once it was submitted, whatever came of it.

    Exposed by refuse_submit, lose_submit. Breaks C2.
    """

    submission_class = _Once


class _Bell(Store):
    @functools.cached_property
    def rung(self) -> set[str]:
        """The runs for which a callback has come in since their last submit."""
        return set()

    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        self.rung.add(run_id)
        return await super().settle_call(run_id, tool_call_id, thread_id, output)


class _AtTheBell(Coordinator):
    store: _Bell

    def ready(self, slots: list[str], outcomes: dict[str, str | None]) -> bool:
        return super().ready(slots, outcomes) and slots[0].partition("/")[0] in self.store.rung


class _StopTheBell(Submission):
    store: _Bell

    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        self.store.rung.discard(asked[0].run_id)
        return await super().submit(conduct, asked, outcomes)


class FlushedOnCallbackOnly(Hardened):
    """Outputs are submitted when a callback comes in, and at no other time: not after a failed submit, not after a takeover.

    Exposed by refuse_submit, lose_submit, and by kill after the last callback. Breaks C2; without a key or a look-up C2'.
    """

    store_class = _Bell
    coordinator_class = _AtTheBell
    submission_class = _StopTheBell


class _Impatient(Coordinator):
    def ready(self, slots: list[str], outcomes: dict[str, str | None]) -> bool:
        return bool(outcomes)


class _WhatIsThere(Submission):
    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        return await super().submit(conduct, [a for a in asked if a.slot in outcomes], outcomes)


class PartialBatch(Hardened):
    """The outputs that are there are submitted without those that are not.

    Exposed by two calls in one step, at the latest when late_callback or slow keeps one back. Breaks C6.
    """

    coordinator_class = _Impatient
    submission_class = _WhatIsThere


class _KeepsAll(Submission):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: dict[str, dict[str, str]] = {}

    def pairs(self, asked: list[Asked], outputs: dict[str, str]) -> list[tuple[str, str]]:
        sent = self._sent.setdefault(asked[0].run_id, {})
        sent.update(super().pairs(asked, outputs))
        return list(sent.items())


class EarlierOutputsAgain(Hardened):
    """The map of outputs is kept over the steps of a run: the second submit carries those of the first once more.

    Exposed by a run of two steps; no fault is needed. Breaks C4 and C6.
    """

    submission_class = _KeepsAll


class _Swapped(Submission):
    def pairs(self, asked: list[Asked], outputs: dict[str, str]) -> list[tuple[str, str]]:
        pairs = super().pairs(asked, outputs)
        return [(call_id, output) for (call_id, _), (_, output) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]


class OutputsSwapped(Hardened):
    """Outputs are put under the ids of the step by the order in which they lie there, and that is another one.

    Exposed by two calls in one step; no fault is needed. Breaks C3.
    """

    submission_class = _Swapped


class _FirstOnly(Coordinator):
    def asked(self, run: Run, step_id: str, ordinal: int) -> list[Asked]:
        return super().asked(run, step_id, ordinal)[:1]


class FirstCallOnly(Hardened):
    """Only the first call of a step is seen: one is dispatched, and a batch of one is submitted.

    Exposed by two calls in one step; no fault is needed. Breaks C6 (and C2).
    """

    coordinator_class = _FirstOnly


class _Twice(Submission):
    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        accepted = await super().submit(conduct, asked, outcomes)
        if accepted:
            await super().submit(conduct, asked, outcomes)
        return accepted


class BlindResubmit(Hardened):
    """An accepted submit is sent once more. Harmless: the repeat is refused, and says the same.

    No contract is broken; C8 notes the refused repeats.
    """

    submission_class = _Twice


record_before_submit = app(RecordBeforeSubmit)
record_after_submit = app(RecordAfterSubmit)
ack_after_submit = app(AckAfterSubmit)
poison_blocks_queue = app(PoisonBlocksQueue)
failed_submit_not_retried = app(FailedSubmitNotRetried)
flushed_on_callback_only = app(FlushedOnCallbackOnly)
partial_batch = app(PartialBatch)
earlier_outputs_again = app(EarlierOutputsAgain)
outputs_swapped = app(OutputsSwapped)
first_call_only = app(FirstCallOnly)
blind_resubmit = app(BlindResubmit)
