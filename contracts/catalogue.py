"""The contracts by id: name, the verdict that each counts in, its class, and when it holds, in one sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from chaos.words import unknown

SAFE, LIVE, HONEST = "safe", "live", "honest"


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """One contract. `verdict` is safe, live or honest; `klass` tells what is bad (safety) from what is missing (liveness)."""

    id: str
    name: str
    verdict: str
    klass: str
    about: str


CONTRACTS: dict[str, Contract] = {
    c.id: c
    for c in (
        Contract("C1", "at_most_one_effect", SAFE, "safety", "no call has two committed effects"),
        Contract("C2", "at_least_one_effect", LIVE, "liveness",
                 "after quiesce, a call whose run was not called off and whose tool can succeed has its effect, "
                 "and its output was accepted"),
        Contract("C2'", "no_silent_loss", HONEST, "safety",
                 "where C1 and C2 together are impossible, a call without effect or output was reported in doubt"),
        Contract("C3", "outputs_match_effects", HONEST, "safety",
                 "every accepted output is the result of the call's own effect, or its definite error"),
        Contract("C4", "step_order", SAFE, "safety", "submits follow step order, and none mixes calls of two steps"),
        Contract("C5", "no_orphan_effect", SAFE, "safety",
                 "no instance sends a request for a call after it was told that the run no longer waits for it"),
        Contract("C5b", "no_invented_effect", SAFE, "safety", "every effect maps to a call that the API issued"),
        Contract("C6", "complete_batch", SAFE, "safety", "a submit carries exactly the calls asked for in its step"),
        Contract("C7", "one_effect_per_intent", SAFE, "safety",
                 "no intent has two effects across regenerated ids and across runs of one turn"),
        Contract("C8", "idempotent_submission", HONEST, "safety",
                 "repeats of an accepted submit carry the same outputs, and a refused repeat has no consequences"),
        Contract("C9", "honest_errors", HONEST, "both",
                 "a tool that fails for good yields one error output: not success, not silence"),
        Contract("C10", "isolation", LIVE, "liveness", "a poisoned or failing call does not break C2 for other conversations"),
        Contract("C11", "no_wrong_merge", SAFE, "safety", "two distinct calls with equal arguments both get their own effect"),
        Contract("C12", "retry_budget", SAFE, "load safety",
                 "attempts per call and their backoff stay within what was declared"),
    )
}
"""Every contract, in the order of reports."""

HEADLINE = "exactly_one_effect"
"""C1 and C2 together."""
_ALIASES: dict[str, tuple[str, ...]] = {
    HEADLINE.lower(): ("C1", "C2"),
    **{c.name.lower(): (c.id,) for c in CONTRACTS.values()},
    **{c.id.lower(): (c.id,) for c in CONTRACTS.values()},
}


class UnknownContract(ValueError):
    """A contract that does not exist; the message names the nearest one that does."""


def named(words: Iterable[str]) -> frozenset[str]:
    """The ids of contracts given by id or name, `exactly_one_effect` included. Raises UnknownContract."""
    found: set[str] = set()
    for word in words:
        ids = _ALIASES.get(word.strip().lower())
        if ids is None:
            known = [HEADLINE, *CONTRACTS, *(c.name for c in CONTRACTS.values())]
            raise UnknownContract(unknown("contract", word, known))
        found.update(ids)
    return frozenset(found)
