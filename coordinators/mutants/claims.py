"""Claims that do not hold: the dedup of dispatches is missing, forgetful, not atomic, too short, or bound to what changes."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from coordinators.common.asgi import Reply
from coordinators.common.assistants import Run
from coordinators.hardened import Hardened
from coordinators.hardened.coordinator import Coordinator
from coordinators.hardened.dispatch import Bench, Conduct, Dispatcher
from coordinators.hardened.patience import until_stored
from coordinators.hardened.records import Asked, Claim
from coordinators.hardened.recovery import Outcome
from coordinators.mutants.variant import app


class _AtEveryPoll(Coordinator):
    async def recognise(self, conduct: Conduct, run: Run) -> tuple[str, int] | None:
        for ordinal, step in enumerate(await self.assistants.steps(run.thread_id, run.id)):
            if set(step.call_ids) == set(run.call_ids):
                return step.id, ordinal
        return None

    async def begin(self, conduct: Conduct, asked: list[Asked]) -> dict[str, str | None]:
        for a in asked:
            if a.slot not in conduct.tasks:
                conduct.tasks[a.slot] = asyncio.create_task(self.perform(conduct, a))
        return await self.store.outcomes([a.slot for a in asked])


class _AlwaysFresh(Dispatcher):
    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        claim, _ = await super().claim(conduct, asked)
        return claim, True


class NoDispatchDedup(Hardened):
    """Every poll that shows requires_action dispatches its calls: the dedup record guards the submission only.

    Symptoms: S1, S2, S5. Exposed by stale_status, stale_submit_reply, regenerate_step, and by a takeover. Breaks C1.
    A gateway that honours keys hides it: every repeat carries the same key.
    """

    coordinator_class = _AtEveryPoll
    dispatcher_class = _AlwaysFresh


class _InMemory(Dispatcher):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: set[str] = set()

    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        claim, _ = await super().claim(conduct, asked)
        fresh = asked.slot not in self._sent
        self._sent.add(asked.slot)
        return claim, fresh


class InMemoryDedup(Hardened):
    """What was dispatched is known to the instance that dispatched it, and to no other and no later life.

    Symptoms: S1, S3. Exposed by kill, pause or terminate of the owner after its call was sent. Breaks C1. Hidden by a gateway
    that honours keys.
    """

    dispatcher_class = _InMemory


class JointConduct(Hardened):
    """No bug yet: a turn that is delivered again to another instance is conducted by both, and the claims keep them apart."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._joining: set[asyncio.Task[None]] = set()

    async def post_turn(self, body: dict[str, Any]) -> Reply:
        """Take the turn, or part in it."""
        reply = await super().post_turn(body)
        if reply[0] == 202:
            task = asyncio.create_task(self._join(body["turn_id"]))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)
        return reply

    async def _join(self, turn_id: str) -> None:
        """Take part in a turn that runs elsewhere, as soon as it has its run."""
        while turn := await until_stored(lambda: self.store.turn(turn_id)):
            if turn.owner == self.lease.owner or turn.status != "running":
                return
            if turn.run_id is not None:
                self.coordinator.take(turn)
                return
            await asyncio.sleep(self.settings.poll_interval / 5)


class _CheckThenSet(Dispatcher):
    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        found = await self.store.find_claim(asked.slot)
        await asyncio.sleep(0.005)  # the way to the store and back
        claim, _ = await super().claim(conduct, asked)
        return claim, found is None


class CheckThenSet(JointConduct):
    """The claim is looked up first and written afterwards: two instances that look together both find it free.

    Symptoms: S1, S2. Exposed by resend_turn to another instance, aligned by barrier. Breaks C1. Hidden by a gateway that
    honours keys.
    """

    dispatcher_class = _CheckThenSet


CLAIM_TTL = 0.5
"""Seconds."""


class _ShortClaim(Dispatcher):
    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        if attempt > 0:
            return await super().recover(bench, outcome, attempt)
        return Outcome.SETTLED if await bench.settled_within(CLAIM_TTL) else await bench.send_again()


class ClaimTtlTooShort(Hardened):
    """A claim without a result is taken for dead after half a second, however long the tool works, and the call is sent again.

    Symptoms: S1, S6. Exposed by slow, late_callback. Breaks C1. Hidden by a gateway that honours keys.
    """

    dispatcher_class = _ShortClaim


class _NamedById(Asked):
    @property
    def slot(self) -> str:
        return f"{self.run_id}/{self.call.id}"


class _ByCallId(Coordinator):
    async def recognise(self, conduct: Conduct, run: Run) -> tuple[str, int] | None:
        return conduct.steps.setdefault(run.call_ids, (f"step of {run.call_ids[0]}", len(conduct.steps)))

    def asked(self, run: Run, step_id: str, ordinal: int) -> list[Asked]:
        plain = super().asked(run, step_id, ordinal)
        return [_NamedById(**{f.name: getattr(a, f.name) for f in dataclasses.fields(a)}) for a in plain]


class NewIdsDispatchedAgain(Hardened):
    """A step is known by its tool_call_ids: one that is generated again under new ids is new work.

    Symptoms: S2, S3, S4. Exposed by regenerate_step with new ids. Breaks C7, at every gateway: the key changes with the id.
    """

    coordinator_class = _ByCallId


no_dispatch_dedup = app(NoDispatchDedup)
in_memory_dedup = app(InMemoryDedup)
joint_conduct = app(JointConduct)
check_then_set = app(CheckThenSet)
claim_ttl_too_short = app(ClaimTtlTooShort)
new_ids_dispatched_again = app(NewIdsDispatchedAgain)
