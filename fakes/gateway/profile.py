"""What a gateway offers for exactly-once: its profile, and the named ones."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a gateway declares about repeats, look-ups and late requests. Times are seconds."""

    name: str
    about: str
    honours_key: bool = False
    """whether a repeat under the same Idempotency-Key gets the first answer; otherwise the key is only recorded"""
    key_ttl: float = 0.0
    """how long a key is remembered, counted from its first request"""
    lookup: bool = False
    """whether GET /effects?tool_call_id= tells what was committed for a call"""
    fence: bool = False
    """whether PUT /fences/{tool_call_id} shuts out older requests, those in flight included"""
    delivery_bound: float | None = None
    """a request that has not committed this long after it was sent never will; None: it may land at any time"""
    redelivery_window: float = 60.0
    """how long after the first request for a call a coordinator may still repeat it"""

    @property
    def work_bound(self) -> float | None:
        """How old a request may be, counted from its arrival, when it commits: the other half is for its way here."""
        return None if self.delivery_bound is None else self.delivery_bound / 2

    def capabilities(self) -> dict[str, Any]:
        """What GET /capabilities answers."""
        return {
            "profile": self.name,
            "idempotency_key": self.honours_key,
            "key_ttl": self.key_ttl,
            "lookup": self.lookup,
            "fence": self.fence,
            "delivery_bound": self.delivery_bound,
        }


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="keyless", about="Every request is new: an Idempotency-Key is recorded and not honoured."),
        Profile(
            name="keyed",
            about="The first answer under an Idempotency-Key is stored for a day and given to every repeat.",
            honours_key=True,
            key_ttl=86400.0,
        ),
        Profile(
            name="lookup",
            about="The ledger can be asked for a call, and a request lands within 3 s of being sent or never does.",
            lookup=True,
            delivery_bound=3.0,
        ),
        Profile(
            name="fenced",
            about="The ledger can be asked for a call, and a fence shuts out every older request for it.",
            lookup=True,
            fence=True,
        ),
        Profile(
            name="keyed-short-ttl",
            about="Keys are honoured, yet forgotten after 0.2 s: a repeat that comes later is a new request.",
            honours_key=True,
            key_ttl=0.2,
        ),
        Profile(
            name="lookup-unbounded",
            about="The ledger can be asked for a call, but a request on its way may still land after the answer.",
            lookup=True,
        ),
        Profile(
            name="fence-only",
            about="A fence shuts out older requests, but nothing tells whether one of them had committed before.",
            fence=True,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of that name. Raises ValueError that names the nearest known one."""
    found = PROFILES.get(name)
    if found is None:
        near = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown gateway profile {name!r}: {hint}Known: {', '.join(PROFILES)}")
    return found
