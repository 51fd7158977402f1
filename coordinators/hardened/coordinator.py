"""The coordinator: opens turns, follows their runs, and brings each step from its calls to an accepted submit.

It works by levels, not by edges: each poll is compared with what the store knows, and what is missing is done. So a poll
that is stale, a step that comes back and an owner that comes late all find the same next move.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from coordinators.common.assistants import Assistants, Refused, Run, Unreachable
from coordinators.common.log import Log
from coordinators.common.stores import StoreUnavailable
from coordinators.hardened.dispatch import Conduct, Dispatcher, NotWanted
from coordinators.hardened.opening import Opening
from coordinators.hardened.patience import Pace, until_stored
from coordinators.hardened.records import Asked, Turn, TurnLost
from coordinators.hardened.store import Store
from coordinators.hardened.submission import Submission


class Coordinator:
    """Conducts the turns that this instance owns."""

    def __init__(
        self,
        assistants: Assistants,
        store: Store,
        log: Log,
        opening: Opening,
        dispatcher: Dispatcher,
        submission: Submission,
        *,
        poll_interval: float,
    ) -> None:
        self.assistants = assistants
        self.store = store
        self.log = log
        self.opening = opening
        self.dispatcher = dispatcher
        self.submission = submission
        self.poll_interval = poll_interval
        self.stopping = False
        self._turns: Counter[str] = Counter()
        self._conducting: set[asyncio.Task[None]] = set()
        self._performing: set[asyncio.Task[None]] = set()

    def take(self, turn: Turn) -> None:
        """Conduct a turn that this instance has come to own."""
        self._turns[turn.turn_id] += 1
        _spawn(self.conduct(turn), self._conducting)

    def conducts(self, turn_id: str) -> bool:
        """Whether this instance works on the turn now, under whichever epoch."""
        return self._turns[turn_id] > 0

    async def stop(self, within: float) -> None:
        """Take no new call, give the turns a moment to reach a point where they can be left, then leave them."""
        self.stopping = self.dispatcher.stopping = True
        if self._conducting:
            await asyncio.wait(self._conducting, timeout=within)
        tasks = [*self._conducting, *self._performing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def conduct(self, turn: Turn) -> None:
        """One turn, from where it is to its end, or until it is lost to another owner."""
        conduct = Conduct(turn)
        try:
            conduct.turn, conduct.told = await self.opening.open(turn)
            run = await self.follow(conduct)
            if run is not None:
                await self.finish(conduct, *self.verdict(run))
        except TurnLost:
            self.log.coordinator("WARN", f"turn {turn.turn_id} lost epoch={turn.epoch}")
        except Refused as error:
            await self.finish(conduct, "failed", f"the Assistants API refused it: {error}")
        except Exception as error:
            self.log.coordinator("ERROR", f"turn {turn.turn_id} failed: {type(error).__name__}: {error}")
            await self.finish(conduct, "failed", f"{type(error).__name__}: {error}")
        finally:
            self.leave(conduct)
            self._turns[turn.turn_id] -= 1
            self._turns += Counter()  # those at zero go

    def leave(self, conduct: Conduct) -> None:
        """Stop what works on calls of a turn that this instance conducts no longer."""
        for task in conduct.tasks.values():
            task.cancel()

    async def follow(self, conduct: Conduct) -> Run | None:
        """Poll the run and act on it until it has ended; None when this instance is stopping. Raises TurnLost, Refused."""
        pace = Pace(self.poll_interval)
        acted = conduct.told is None
        while True:
            if not acted:
                await asyncio.sleep(pace.next())
            acted = False
            if self.stopping and not conduct.tasks:
                return None
            try:
                await self.store.check_owner(conduct.turn)
                run = await self.poll(conduct)
                if run.ended:
                    return run
                if run.waits:
                    acted = await self.act(conduct, run, pace)
            except (Unreachable, StoreUnavailable) as error:
                self.log.coordinator("WARN", f"run {conduct.turn.run_id}: {type(error).__name__}: {error}")

    async def poll(self, conduct: Conduct) -> Run:
        """The state of the run; from now on this instance has been told. Raises Unreachable, Refused."""
        turn = conduct.turn
        run = await self.assistants.run(turn.thread_id or "", turn.run_id or "")
        conduct.told = run
        return run

    async def act(self, conduct: Conduct, run: Run, pace: Pace) -> bool:
        """Do what a waiting run still lacks; whether time was spent waiting already."""
        step = await self.recognise(conduct, run)
        if step is None:
            return False
        asked = self.asked(run, *step)
        slots = [a.slot for a in asked]
        outcomes = await self.begin(conduct, asked)
        if not self.ready(slots, outcomes):
            outcomes = await self.await_outcomes(conduct, slots, pace.next())
        if not self.ready(slots, outcomes):
            return True
        if await self.submission.submit(conduct, asked, outcomes):
            pace.reset()
        return False

    async def recognise(self, conduct: Conduct, run: Run) -> tuple[str, int] | None:
        """Which step the run waits for: its id, and its ordinal. None when the poll shows a step that is over or unknown.

        Polls can be old, the list of steps is true; a step that was generated again stands at its old place in it.
        """
        ids = run.call_ids
        if ids in conduct.steps:
            return conduct.steps[ids]
        for ordinal, step in enumerate(await self.assistants.steps(run.thread_id, run.id)):
            if step.call_ids and set(step.call_ids) == set(ids):
                is_open = step.open and not await self.store.is_accepted(run.id, ordinal)
                conduct.steps[ids] = (step.id, ordinal) if is_open else None
                calls = ", ".join(ids)
                self.log.coordinator(
                    "INFO", f"run_status {run.thread_id}/{run.id} = {run.status} step={step.id} tool_calls=[{calls}]"
                )
                return conduct.steps[ids]
        return None

    def asked(self, run: Run, step_id: str, ordinal: int) -> list[Asked]:
        """The calls that the step asks for, each with its place."""
        return [
            Asked(thread_id=run.thread_id, run_id=run.id, step_id=step_id, ordinal=ordinal, position=position, call=call)
            for position, call in enumerate(run.calls)
        ]

    def ready(self, slots: list[str], outcomes: dict[str, str | None]) -> bool:
        """Whether the step can be submitted: every call has its outcome."""
        return len(outcomes) == len(slots)

    async def begin(self, conduct: Conduct, asked: list[Asked]) -> dict[str, str | None]:
        """Have every call worked on that has no outcome yet; the outcomes so far, by slot."""
        outcomes = await self.store.outcomes([a.slot for a in asked])
        for a in asked:
            if a.slot not in outcomes and a.slot not in conduct.tasks:
                conduct.tasks[a.slot] = _spawn(self.perform(conduct, a), self._performing)
        return outcomes

    async def perform(self, conduct: Conduct, asked: Asked) -> None:
        """Work on one call; whatever goes wrong with it stays with it."""
        try:
            await self.dispatcher.perform(conduct, asked)
        except (NotWanted, TurnLost):
            pass
        except Exception as error:
            self.log.coordinator("ERROR", f"call {asked.call.id} failed: {type(error).__name__}: {error}")
        finally:
            conduct.tasks.pop(asked.slot, None)
            conduct.news.set()

    async def await_outcomes(self, conduct: Conduct, slots: list[str], seconds: float) -> dict[str, str | None]:
        """Wait until every call has its outcome, at most so long; the outcomes so far, by slot."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    conduct.news.clear()
                    outcomes = await self.store.outcomes(slots)
                    if self.ready(slots, outcomes):
                        return outcomes
                    await conduct.news.wait()
        except TimeoutError:
            return await self.store.outcomes(slots)

    def verdict(self, run: Run) -> tuple[str, str | None]:
        """How the turn ends with its run."""
        if run.status == "completed":
            return "done", None
        return "failed", f"run {run.status}: {run.detail or 'no reason given'}"

    async def finish(self, conduct: Conduct, status: str, detail: str | None) -> None:
        """Store how the turn ended, unless it is somebody else's by now."""
        try:
            await until_stored(lambda: self.store.finish(conduct.turn, status, detail))
        except TurnLost:
            self.log.coordinator("WARN", f"turn {conduct.turn.turn_id} lost epoch={conduct.turn.epoch}")


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
