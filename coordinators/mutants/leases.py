"""Leases: owners that are never replaced, that go on after they were, that trust their clock, or that leave without a word."""

from __future__ import annotations

from coordinators.hardened import Hardened
from coordinators.hardened.dispatch import Bench, Conduct, Dispatcher
from coordinators.hardened.lease import Lease
from coordinators.hardened.records import Asked, Claim
from coordinators.hardened.recovery import Outcome
from coordinators.hardened.store import Store
from coordinators.mutants.variant import app


class _Unfenced(Store):
    owned_sql = "? IS NOT NULL AND ? IS NOT NULL AND ? > 0"
    owned_lua = "local function owned() return true end"


class LeaseWithoutFencing(Hardened):
    """Who lost a turn is not stopped: the store takes changes from an owner whose lease was taken over.

    Symptoms: S1, S3. Exposed by pause of the owner, longer than a lease, while it opens the turn. Breaks C7 at every gateway:
    it starts a second run, whose calls have other keys.
    """

    store_class = _Unfenced


class _Undying(Lease):
    def is_dead(self, other: str, beat: int | None) -> bool:
        return False


class NoTakeover(Hardened):
    """A claim on a turn never expires: what a dead instance held stays with it for ever.

    Symptom: S3, as loss. Exposed by kill of the owner. Breaks C2; without a key or a look-up C2'.
    """

    lease_class = _Undying


CALL_LEASE = 30.0
"""Seconds; no tool takes that long."""
LOOKS = (*[0.004] * 25, *[0.1] * 10)
"""Seconds between two looks at the clock."""


class _WallClock(Dispatcher):
    def _over(self, claim: Claim) -> bool:
        keyed = self.capabilities is not None and self.capabilities.idempotency_key  # then repeats are a matter of its TTL
        return not keyed and claim.output is None and self.now() - claim.first_sent > CALL_LEASE

    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        claim, fresh = await super().claim(conduct, asked)
        return claim, fresh or self._over(claim)

    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        for pause in LOOKS if attempt == 0 else ():
            if self._over(bench.claim):
                return await bench.send_again()
            if await bench.settled_within(pause):
                return Outcome.SETTLED
        return await super().recover(bench, outcome, attempt)


class LeaseByWallClock(Hardened):
    """A claim is a lease on its call, and whoever looks judges by its own wall clock whether it has run out.

    Symptoms: S1, S3. Exposed by clock_jump (one instance or all) of more than 30 s while a call is in flight, or before its
    owner dies by kill or sleeps by pause. Breaks C1. Hidden by a gateway that honours keys.
    """

    dispatcher_class = _WallClock


class _Forgetful(Store):
    async def release(self, owner: str) -> None:
        for turn in await self.take_over(owner, owner):
            await self.finish(turn, "failed", "instance stopped")


class GracefulStopDropsWork(Hardened):
    """A graceful stop calls every open turn failed, instead of handing it over.

    Symptom: S3, as loss. Exposed by restart or terminate of the owner while a step is open. Breaks C2; without a key or a
    look-up C2'.
    """

    store_class = _Forgetful


lease_without_fencing = app(LeaseWithoutFencing)
no_takeover = app(NoTakeover)
lease_by_wall_clock = app(LeaseByWallClock)
graceful_stop_drops_work = app(GracefulStopDropsWork)
