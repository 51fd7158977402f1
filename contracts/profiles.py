"""What can be demanded of a coordinator at a gateway of a given profile, and why not more.

Exactly-once belongs to the pair of coordinator and gateway. Where the gateway offers no way to find out what became of a
request, at most one effect and at least one effect are each possible, and both together are not; then C2' stands in for C2
wherever a fault may have touched the call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from contracts.catalogue import CONTRACTS, HEADLINE, named
from fakes.gateway.profile import Profile


class ImpossibleDemand(ValueError):
    """A set of contracts that no coordinator can keep at this gateway: a configuration error, exit code 2."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryBudget:
    """What C12 holds a coordinator to: attempts per call, and seconds between two of them; None is not held to."""

    max_attempts: int | None = None
    min_backoff: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """One row of `anechoic contracts`: `status` is demanded, in part, impossible or optional; `reason` says why."""

    contract: str
    name: str
    status: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What the checks hold a coordinator to.

    `exactly_once` says whether C1 and C2 together are possible at this gateway, `why` the reason either way; `wanted` are
    the ids of the contracts to judge.
    """

    profile: Profile
    exactly_once: bool
    why: str
    wanted: frozenset[str]
    retry_budget: RetryBudget | None = None

    @property
    def c2_in_full(self) -> bool:
        """Whether C2 is demanded of every call, not only of those that no fault can have touched."""
        return self.exactly_once or ("C2" in self.wanted and not self.wanted & {"C1", "C7"})


def exactly_once(profile: Profile) -> tuple[bool, str]:
    """Whether C1 and C2 together are possible at a gateway of this profile, and the reason."""
    if profile.honours_key and profile.key_ttl > profile.redelivery_window:
        return True, "a stable key is honoured for longer than requests are repeated, so the gateway removes duplicates"
    if profile.lookup and profile.fence:
        return True, "with the fence raised nothing older can land, so the look-up is final"
    if profile.lookup and profile.delivery_bound is not None:
        return True, (
            f"a request lands within {profile.delivery_bound:g} s or never does, so the look-up is final once that time is over"
        )
    if profile.honours_key:
        return False, (
            f"a key is forgotten after {profile.key_ttl:g} s while requests are repeated for up to "
            f"{profile.redelivery_window:g} s: a repeat with an evicted key is a new request"
        )
    if profile.lookup:
        return False, "a timed-out request may still land, so a look-up that finds nothing can become false after acting on it"
    if profile.fence:
        return False, "a fence keeps late requests out, but nothing tells whether the first one was committed"
    return False, "without a key or a look-up, a timeout after the commit and a lost request look the same to the sender"


def demand(profile: Profile, wanted: Iterable[str] | None = None, retry_budget: RetryBudget | None = None) -> Terms:
    """The terms at this gateway for these contracts (ids or names), by default for all that can be demanded.

    Raises UnknownContract, and ImpossibleDemand when C1 (or C7) and C2 are both asked for where that is impossible.
    """
    possible, why = exactly_once(profile)
    if wanted is None:
        ids = frozenset(CONTRACTS) - ({"C2'"} if possible else set())
        return Terms(profile, possible, why, ids - (set() if retry_budget else {"C12"}), retry_budget)
    ids = named(wanted)
    if not possible and "C2" in ids and ids & {"C1", "C7"}:
        raise ImpossibleDemand(
            f"{' and '.join(sorted(ids & {'C1', 'C2', 'C7'}))} cannot be demanded together at gateway profile "
            f"{profile.name!r}: {why}. Ask for C1 with C2' (no_silent_loss), or for C2 alone, or choose a profile that makes "
            f"{HEADLINE} possible"
        )
    if "C12" in ids and retry_budget is None:
        raise ImpossibleDemand("C12 (retry_budget) needs a declared budget: how many attempts, how many seconds between them")
    return Terms(profile, possible, why, ids, retry_budget)


def demands(profile: Profile) -> list[Demand]:
    """Every contract at this gateway, the headline first: whether it is demanded, and why."""
    possible, why = exactly_once(profile)
    rows = [Demand("C1+C2", HEADLINE, "demanded" if possible else "impossible", why)]
    for contract in CONTRACTS.values():
        status, reason = "demanded", contract.about
        if contract.id == "C2" and not possible:
            status, reason = "in part", "only of calls that no fault can have touched; C2' stands in for the others"
        elif contract.id == "C2'" and possible:
            status, reason = "not needed", "C2 is demanded of every call"
        elif contract.id == "C12":
            status, reason = "optional", "judged when a budget is declared: " + contract.about
        elif contract.id == "C10" and not possible:
            reason = contract.about + ", as far as no fault can have touched them"
        rows.append(Demand(contract.id, contract.name, status, reason))
    return rows
