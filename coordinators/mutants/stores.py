"""The shared store misread: from a replica that lags, or through an outage, as a miss or as a hit."""

from __future__ import annotations

import secrets
from typing import Any

from coordinators.common.stores import StoreUnavailable
from coordinators.hardened import Hardened
from coordinators.hardened.dispatch import Conduct, Dispatcher, NotWanted
from coordinators.hardened.records import Asked, Claim, Turn, TurnLost
from coordinators.hardened.store import Store
from coordinators.mutants.variant import app

LAG = 3.0
"""Seconds until the replica shows a claim."""


class _Replica(Store):
    async def claim(self, turn: Turn, asked: Asked, now: float, claimant: str) -> tuple[Claim, bool]:
        claim, made = await super().claim(turn, asked, now, claimant)
        return claim, made or (claim.output is None and now - claim.first_sent < LAG)


class LaggingReplica(Hardened):
    """Whether a call was claimed before is read from a replica, which shows a claim 3 s after it was made.

    Symptoms: S1, S3, S4. Exposed by kill or pause of the owner after its call was sent. Breaks C1. Hidden by a gateway that
    honours keys.
    """

    store_class = _Replica


class _FailsOpen(Dispatcher):
    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        try:
            return await self.claim_now(conduct, asked, secrets.token_hex(8))
        except StoreUnavailable:
            return _unstored(asked, self.now()), True

    def idempotency_key(self, claim: Claim) -> str:
        return claim.slot  # not the id, which is lost with the claim: so that only the missing claim is wrong


def _unstored(asked: Asked, now: float) -> Claim:
    return Claim(
        slot=asked.slot, thread_id=asked.thread_id, run_id=asked.run_id, step_id=asked.step_id, ordinal=asked.ordinal,
        position=asked.position, tool_call_id=asked.call.id, tool=asked.call.name, arguments=asked.call.arguments,
        attempt=1, first_sent=now, output=None, in_doubt=False, waited=0.0,
    )


class OutageIsMiss(Hardened):
    """When the store does not answer, the call counts as new and is sent without a claim.

    Symptoms: S1, S4. Exposed by store_outage while a step begins. Breaks C1. Hidden by a gateway that honours keys.
    """

    dispatcher_class = _FailsOpen


class _Lost(Store):
    async def change(self, turn: Turn, **fields: str | None) -> None:
        try:
            await super().change(turn, **fields)
        except StoreUnavailable:
            raise TurnLost(turn.turn_id) from None


class _FailsClosed(Dispatcher):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hits: set[str] = set()

    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        try:
            if asked.slot not in self._hits:
                return await self.claim_now(conduct, asked, secrets.token_hex(8))
        except StoreUnavailable:
            self._hits.add(asked.slot)
        raise NotWanted(asked.slot)


class OutageIsHit(Hardened):
    """When the store does not answer, the turn or call counts as somebody else's, for as long as the instance lives.

    Exposed by store_outage while a turn or a step begins. Breaks C2; without a key or a look-up C2'.
    """

    store_class = _Lost
    dispatcher_class = _FailsClosed


lagging_replica = app(LaggingReplica)
outage_is_miss = app(OutageIsMiss)
outage_is_hit = app(OutageIsHit)
