"""Opening a turn: its thread, its message and its run, each made once although answers get lost.

A POST whose answer did not come may have been carried out. So nothing is posted a second time before a look: the turn's
id travels in the metadata of the message and of the run.
"""

from __future__ import annotations

import asyncio

from coordinators.common.assistants import Assistants, Refused, Run, Unreachable
from coordinators.common.log import Log
from coordinators.hardened.patience import backoff, until_stored
from coordinators.hardened.records import Turn
from coordinators.hardened.store import Store


class Opening:
    """Opens turns for one instance."""

    def __init__(self, assistants: Assistants, store: Store, log: Log) -> None:
        self._assistants = assistants
        self._store = store
        self._log = log

    async def open(self, turn: Turn) -> tuple[Turn, Run | None]:
        """The turn with its thread and run; also the run's state, when it was made just now.

        Raises TurnLost, or Refused when the API will not have the turn.
        """
        fresh = turn.epoch == 1
        if turn.thread_id is None:
            thread_id = await self._thread()
            turn = await until_stored(lambda: self._store.set_thread(turn, thread_id))
        if turn.run_id is not None:
            return turn, None
        run = await self._run(turn, turn.thread_id or "", fresh)
        return await until_stored(lambda: self._store.set_run(turn, run.id)), run

    async def _thread(self) -> str:
        """A new thread; one that was made and never heard of stays empty, and harms nobody."""
        attempt = 0
        while True:
            try:
                return await self._assistants.create_thread()
            except Unreachable as error:
                self._log.coordinator("WARN", f"create thread: {error}")
            await asyncio.sleep(backoff(attempt, 1.0))
            attempt += 1

    async def _run(self, turn: Turn, thread_id: str, fresh: bool) -> Run:
        """The turn's run. `fresh` says that nobody has posted anything for this turn before."""
        posted = False
        attempt = 0
        while True:
            refused: Refused | None = None
            try:
                if not fresh:
                    run = await self.existing_run(turn, thread_id)
                    if run is not None:
                        return run
                    posted = posted or await self._assistants.has_message(thread_id, turn.turn_id)
                fresh = False
                if not posted:
                    await self._assistants.add_message(thread_id, turn.message, turn.turn_id)
                    posted = True
                await until_stored(lambda: self._store.check_owner(turn))
                return await self._assistants.create_run(thread_id, turn.turn_id)
            except Unreachable as error:
                self._log.coordinator("WARN", f"open turn {turn.turn_id}: {error}")
            except Refused as error:
                refused = error
            await asyncio.sleep(backoff(attempt, 1.0))
            attempt += 1
            if refused is not None and not await self._may_pass(turn, thread_id):
                raise refused

    async def existing_run(self, turn: Turn, thread_id: str) -> Run | None:
        """The run that was made for this turn before, if any."""
        runs = await self._assistants.runs(thread_id)
        return next((run for run in runs if run.turn_id == turn.turn_id[:512]), None)

    async def _may_pass(self, turn: Turn, thread_id: str) -> bool:
        """Whether a refusal is no last word: the thread is locked by a run, that of this turn or another."""
        try:
            return any(run.turn_id == turn.turn_id[:512] or not run.ended for run in await self._assistants.runs(thread_id))
        except (Unreachable, Refused) as error:
            return isinstance(error, Unreachable)
