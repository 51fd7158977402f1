"""The contracts as pure functions over the index of a history: `CHECKS[id](index, terms)` gives a Tally."""

from __future__ import annotations

from collections.abc import Callable

from contracts.checks.budget import retry_budget
from contracts.checks.errors import honest_errors
from contracts.checks.merge import no_wrong_merge
from contracts.checks.once import at_most_one_effect, no_invented_effect, one_effect_per_intent
from contracts.checks.orphans import no_orphan_effect
from contracts.checks.outputs import outputs_match_effects
from contracts.checks.progress import at_least_one_effect, isolation, no_silent_loss
from contracts.checks.repeats import idempotent_submission
from contracts.checks.steps import complete_batch, step_order
from contracts.index import Index
from contracts.profiles import Terms
from contracts.result import Tally

Check = Callable[[Index, Terms], Tally]

CHECKS: dict[str, Check] = {
    "C1": at_most_one_effect,
    "C2": at_least_one_effect,
    "C2'": no_silent_loss,
    "C3": outputs_match_effects,
    "C4": step_order,
    "C5": no_orphan_effect,
    "C5b": no_invented_effect,
    "C6": complete_batch,
    "C7": one_effect_per_intent,
    "C8": idempotent_submission,
    "C9": honest_errors,
    "C10": isolation,
    "C11": no_wrong_merge,
    "C12": retry_budget,
}
