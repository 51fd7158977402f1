"""Recovery: what to do with a call of which it is not known whether it had its effect.

It depends on what the gateway offers, and on nothing else: a key makes repeating harmless, a look-up with a bound on
delivery makes "not found" final after a while, a fence makes it final at once. Where there is none of these, a call is
never sent twice.
"""

from __future__ import annotations

import enum
from typing import Protocol

from coordinators.common.gateway import Capabilities, GatewaySilent
from coordinators.hardened.patience import FIRST, backoff

MOST_ATTEMPTS = 12
"""So many recoveries without a result, about half a minute in all, put a call in doubt."""
SHORTEST_KEY_TTL = 60.0
"""A gateway that forgets keys sooner, in seconds, cannot be trusted with a repeat."""
MARGIN = 0.25
"""Seconds that are waited beyond a gateway's delivery bound."""


class Outcome(enum.Enum):
    """What is known of a call after a move."""

    SETTLED = "the result is stored"
    ACCEPTED = "the gateway works on it, and will post the result"
    UNKNOWN = "it may have had its effect, or may still have it"
    NOT_SENT = "the last request never left"
    IN_DOUBT = "there is no way to know"


class Moves(Protocol):
    """What can be done about one call; see `dispatch.Bench`."""

    @property
    def patience(self) -> float: ...
    @property
    def tool_timeout(self) -> float: ...
    async def age(self) -> float: ...
    async def settled_within(self, seconds: float) -> bool: ...
    async def settled_before(self, waited: float) -> bool: ...
    async def found(self) -> bool: ...
    async def send_again(self) -> Outcome: ...
    async def raise_fence(self) -> None: ...
    async def send_fenced(self) -> Outcome: ...


class Recovery(Protocol):
    """One way to go on."""

    async def resolve(self, moves: Moves, outcome: Outcome, attempt: int) -> Outcome:
        """Go on after `outcome` (ACCEPTED or UNKNOWN); `attempt` counts the recoveries of this call from 0."""
        ...


def recovery_for(capabilities: Capabilities) -> Recovery:
    """The best recovery that a gateway makes possible."""
    if capabilities.idempotency_key and capabilities.key_ttl >= SHORTEST_KEY_TTL:
        return Keyed(capabilities.key_ttl)
    if capabilities.lookup and capabilities.fence:
        return Fenced()
    if capabilities.lookup and capabilities.delivery_bound is not None:
        return LookUp(capabilities.delivery_bound)
    return Keyless(lookup=capabilities.lookup)


class Keyed:
    """Repeat under the same key: the gateway gives the first answer again. Not when the key may be forgotten by then."""

    def __init__(self, key_ttl: float) -> None:
        self._key_ttl = key_ttl

    async def resolve(self, moves: Moves, outcome: Outcome, attempt: int) -> Outcome:
        """Wait a little, then repeat."""
        pause = _slack(moves, attempt) if outcome is Outcome.ACCEPTED else backoff(attempt)
        if await moves.settled_within(pause):
            return Outcome.SETTLED
        try:
            if await moves.age() > self._key_ttl / 2:
                return Outcome.IN_DOUBT
        except GatewaySilent:
            return Outcome.UNKNOWN
        return await moves.send_again()


class LookUp:
    """Wait until the request has landed or never will, then look it up; repeat it only when it is not there."""

    def __init__(self, delivery_bound: float) -> None:
        self._bound = delivery_bound

    async def resolve(self, moves: Moves, outcome: Outcome, attempt: int) -> Outcome:
        """Look early, since it has often landed; believe "not found" only after the bound."""
        early = _slack(moves, 0) if outcome is Outcome.ACCEPTED else FIRST
        try:
            if await moves.settled_before(early) or await moves.found():
                return Outcome.SETTLED
            # an intent that another instance logged may have left as late as the timeout allows
            if await moves.settled_before(self._bound + moves.tool_timeout + MARGIN) or await moves.found():
                return Outcome.SETTLED
        except GatewaySilent:
            await moves.settled_within(backoff(attempt, 1.0))
            return Outcome.UNKNOWN
        return await moves.send_again()


class Fenced:
    """Raise the fence, so that no earlier request can have its effect any more; then the look-up is final."""

    async def resolve(self, moves: Moves, outcome: Outcome, attempt: int) -> Outcome:
        """Give the request some time, more with each attempt, before it is shut out."""
        pause = _slack(moves, attempt) if outcome is Outcome.ACCEPTED else backoff(attempt)
        try:
            if await moves.settled_within(pause):
                return Outcome.SETTLED
            await moves.raise_fence()
            if await moves.found():
                return Outcome.SETTLED
        except GatewaySilent:
            return Outcome.UNKNOWN
        return await moves.send_fenced()


class Keyless:
    """Wait for a late result; then the call is in doubt. A look-up without a bound can still find what has landed."""

    def __init__(self, *, lookup: bool = False) -> None:
        self._lookup = lookup

    async def resolve(self, moves: Moves, outcome: Outcome, attempt: int) -> Outcome:
        """Never repeat."""
        if await moves.settled_before(moves.patience):
            return Outcome.SETTLED
        try:
            if self._lookup and await moves.found():
                return Outcome.SETTLED
        except GatewaySilent:
            return Outcome.UNKNOWN
        return Outcome.IN_DOUBT


def _slack(moves: Moves, attempt: int) -> float:
    """Seconds that accepted work may take before it is asked about, longer with each attempt."""
    return min(2 * moves.tool_timeout * 2.0 ** min(attempt, 10), 8.0)
