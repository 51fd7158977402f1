"""Errors and endings misread: a timeout is a failure, or the end, or no reason to wait; a cancelled run is still served."""

from __future__ import annotations

import asyncio

from coordinators.common.gateway import error_output
from coordinators.hardened import Hardened
from coordinators.hardened.coordinator import Coordinator
from coordinators.hardened.dispatch import Bench, Conduct, Dispatcher
from coordinators.hardened.records import Claim
from coordinators.hardened.recovery import Keyless, Outcome, Recovery
from coordinators.mutants.variant import app


class _TimeoutIsFailure(Dispatcher):
    async def send(self, conduct: Conduct, claim: Claim) -> Outcome:
        outcome = await super().send(conduct, claim)
        if outcome is Outcome.UNKNOWN:
            await self.settle(claim, error_output("the tool failed: timed out"))
            return Outcome.SETTLED
        return outcome


class TimeoutToldAsFailure(Hardened):
    """A request without an answer is told to the model as a failure, although nobody knows, and the effect may be there.

    Symptom: S6. Exposed by lose_request, and by commit_then_lose_reply or commit_then_500 with late_callback. Breaks C3.
    """

    dispatcher_class = _TimeoutIsFailure


class _NeverAgain(Dispatcher):
    def policy(self) -> Recovery:
        return Keyless()


class NoRetryOnTimeout(Hardened):
    """A request without an answer is never sent again, although the gateway would make that safe.

    Symptom: S6, as loss. Exposed by lose_request, unavailable. Breaks C2, and C3 where the model is told that nobody knows.
    Right where a gateway offers neither key nor look-up.
    """

    dispatcher_class = _NeverAgain


class _Detached(Coordinator):
    def leave(self, conduct: Conduct) -> None:
        pass


QUEUE_LAG = 0.4
"""Seconds until a worker takes a job."""


class _JobQueue(Dispatcher):
    async def send(self, conduct: Conduct, claim: Claim) -> Outcome:
        await asyncio.sleep(QUEUE_LAG)
        return await super().send(conduct, claim)


class CancelledStillDispatched(Hardened):
    """Calls are jobs of a queue, and nobody takes them out of it when their run is cancelled or expires.

    Exposed by cancel_run or expire_run after the calls were told. Breaks C5.
    """

    coordinator_class = _Detached
    dispatcher_class = _JobQueue


STORM = 20


class _Storm(Dispatcher):
    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        if outcome is not Outcome.UNKNOWN or self.capabilities is None or not self.capabilities.idempotency_key:
            return await super().recover(bench, outcome, attempt)
        for _ in range(STORM):
            outcome = await bench.send_again()
            if outcome is not Outcome.UNKNOWN:
                break
        return outcome


class RetryStorm(Hardened):
    """Where a key makes repeats safe, a request without an answer is repeated at once, and again, without a pause.

    Symptom: S6. Exposed by unavailable or lose_request, and by nothing but a declared budget of retries. Breaks C12.
    """

    dispatcher_class = _Storm


timeout_told_as_failure = app(TimeoutToldAsFailure)
no_retry_on_timeout = app(NoRetryOnTimeout)
cancelled_still_dispatched = app(CancelledStillDispatched)
retry_storm = app(RetryStorm)
