"""C12 retry_budget: no more attempts than declared, and no faster."""

from __future__ import annotations

from itertools import pairwise

from contracts.checks.common import called, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Intent
from contracts.result import Tally


def retry_budget(index: Index, terms: Terms) -> Tally:
    """Attempts per intent stay within the declared number, and as far apart as declared.

    Requests that may be for either of several identical calls are not judged.
    """
    tally = Tally("C12")
    budget = terms.retry_budget
    if budget is None:
        tally.note("no budget was declared")
        return tally
    for intent in tally.each(index.intents):
        requests = sorted((a.request for a in intent.attempts if a.request is not None), key=lambda r: r.seq)
        if not requests:
            continue
        tally.checked += 1
        if budget.max_attempts is not None and len(requests) > budget.max_attempts:
            _violate(
                tally, index, intent, "attempts",
                f"{called(intent)} was sent {len(requests)} times; at most {budget.max_attempts} were declared",
            )
        gaps = [later.t - earlier.t for earlier, later in pairwise(requests)]
        if budget.min_backoff is not None and gaps and min(gaps) < budget.min_backoff:
            _violate(
                tally, index, intent, "backoff",
                f"{called(intent)} was sent again {min(gaps):.3f} s later; at least {budget.min_backoff:g} s were declared",
            )
    return tally


def _violate(tally: Tally, index: Index, intent: Intent, shape: str, message: str) -> None:
    call = intent.calls[-1]
    tally.violate(shape, message, run_id=call.run.run_id, tool_call_id=call.tool_call_id, events=trail(index, intent))
