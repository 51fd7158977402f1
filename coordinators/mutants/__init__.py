"""Coordinators that are wrong in one way each: what a tester of coordinators is tested with.

Each mutant is the hardened coordinator with one small change. What is expected of a harness is written beside it: at which
gateway profiles the mutant fails, by which contracts, and where it survives because the gateway hides the bug.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping

PROFILES = ("keyless", "keyed", "lookup", "fenced")
"""The gateway profiles that every mutant has an expected verdict for."""

FAIL, PASS = "fail", "pass"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One wrong coordinator.

    `module_attribute` names a callable that takes what `coordinators.hardened.create_app` takes. `faults` are words of fault
    plans, any one of which exposes it unless `needs` says which ones it takes together; none at all for a bug that needs no
    fault. `breaks` are ids of contracts, the telling one first. `expected` says for each gateway profile whether some plan
    makes it `fail`, or it passes every plan (the gateway hides the bug, or there is none). `budget` is the retry budget (most
    attempts per call, fewest seconds between two) without which C12 is not judged. `turns` is how many it takes.
    """

    number: int
    name: str
    about: str
    module_attribute: str
    faults: tuple[str, ...]
    breaks: tuple[str, ...]
    expected: Mapping[str, str]
    needs: tuple[str, ...] = ()
    budget: tuple[int, float] | None = None
    turns: int = 1
    harmless: bool = False


def _mutant(number: int, where: str, about: str, faults: str, breaks: str, fails: str, **more: object) -> Mutant:
    failing = PROFILES if fails == "everywhere" else tuple(fails.split())
    profiles = (*PROFILES, *(name for name in failing if name not in PROFILES))
    return Mutant(
        number=number,
        name=where.partition(":")[2],
        about=about,
        module_attribute=f"coordinators.mutants.{where}",
        faults=tuple(faults.split()),
        breaks=tuple(breaks.split()),
        expected={profile: FAIL if profile in failing else PASS for profile in profiles},
        **more,  # type: ignore[arg-type]
    )


_EVERYWHERE = "everywhere"
_NOT_KEYED = "keyless lookup fenced"

MUTANTS: tuple[Mutant, ...] = (
    _mutant(1, "claims:no_dispatch_dedup", "every poll that shows requires_action dispatches its calls",
            "stale_status stale_submit_reply kill pause", "C1", _NOT_KEYED),
    _mutant(2, "claims:in_memory_dedup", "what was dispatched is known to one life of one instance only",
            "kill pause restart terminate", "C1", _NOT_KEYED),
    _mutant(3, "claims:check_then_set", "the claim is looked up first and written afterwards",
            "resend_turn barrier", "C1", _NOT_KEYED, needs=("resend_turn",)),
    _mutant(4, "keys:new_key_per_retry", "every request has a key of its own", "late_callback slow", "C1", "keyed"),
    _mutant(5, "keys:attempt_in_key", "the attempt's number is part of the key", "late_callback slow", "C1", "keyed"),
    _mutant(6, "leases:lease_without_fencing", "an owner whose lease was taken over goes on", "pause", "C7", _EVERYWHERE),
    _mutant(7, "claims:claim_ttl_too_short", "a claim expires while the tool still works",
            "slow late_callback", "C1", _NOT_KEYED),
    _mutant(8, "leases:no_takeover", "what a dead instance held stays with it for ever", "kill", "C2 C2'", _EVERYWHERE),
    _mutant(9, "keys:key_ttl_ignored", "every gateway is taken to keep keys for a day",
            "late_callback slow", "C1", "keyed-short-ttl"),
    _mutant(10, "keys:key_without_run_id", "the key does not say of which run the call is", "", "C2", "keyed", turns=2),
    _mutant(11, "keys:key_without_call_id", "the key does not say which call of the run it is", "", "C2 C11", "keyed"),
    _mutant(12, "keys:payload_hash_key", "the key is the hash of the arguments: calls that are alike are merged",
            "", "C11 C3", "keyed"),
    _mutant(13, "submissions:record_before_submit", "the dedup record is written before the submit",
            "refuse_submit lose_submit", "C2", _EVERYWHERE),
    _mutant(14, "submissions:record_after_submit", "the dedup record is written so late that it never is",
            "", "", "", harmless=True),
    _mutant(15, "results:done_before_queued", "a call is flagged as done before its result is stored",
            "kill", "C2 C2'", _EVERYWHERE),
    _mutant(16, "results:ack_before_processing", "a result is acknowledged before it is stored",
            "store_outage", "C2 C2'", _EVERYWHERE),
    _mutant(17, "submissions:ack_after_submit", "a call is acknowledged only after its submit, and holds up the queue",
            "", "C2", _EVERYWHERE),
    _mutant(18, "submissions:poison_blocks_queue", "a result that cannot be read is tried again at the head of the queue",
            "poison_result", "C10 C2", _EVERYWHERE, turns=2),
    _mutant(19, "submissions:failed_submit_not_retried", "a submit that failed is not tried again",
            "refuse_submit lose_submit", "C2", _EVERYWHERE),
    _mutant(20, "submissions:flushed_on_callback_only", "outputs are submitted when a callback comes in, and never else",
            "refuse_submit lose_submit kill", "C2 C2'", _EVERYWHERE),
    _mutant(21, "submissions:partial_batch", "the outputs that are there are submitted without the others",
            "late_callback slow", "C6", _EVERYWHERE),
    _mutant(22, "submissions:earlier_outputs_again", "outputs of an earlier step are submitted again with the next",
            "", "C4 C6", _EVERYWHERE),
    _mutant(23, "submissions:outputs_swapped", "outputs of parallel calls are swapped", "", "C3", _EVERYWHERE),
    _mutant(24, "results:error_turned_into_success", "a definite error is told as a success",
            "permanent_failure", "C9", _EVERYWHERE),
    _mutant(25, "errors:timeout_told_as_failure", "a request without an answer is told as a failure",
            "lose_request commit_then_lose_reply commit_then_500", "C3", _EVERYWHERE),
    _mutant(26, "results:late_result_dropped", "a result that comes late is acknowledged and thrown away",
            "late_callback slow", "C2 C2'", _EVERYWHERE),
    _mutant(27, "keys:server_error_retried_under_new_key", "a 5xx is retried at once under another key",
            "commit_then_500", "C1", _EVERYWHERE),
    _mutant(28, "errors:no_retry_on_timeout", "a request without an answer is never sent again",
            "lose_request unavailable", "C2 C3", "keyed lookup fenced"),
    _mutant(29, "errors:cancelled_still_dispatched", "calls of a cancelled or expired run are sent all the same",
            "cancel_run expire_run", "C5", _EVERYWHERE),
    _mutant(30, "results:outputs_read_modify_write", "the outputs of a step are read, changed and written back as one map",
            "", "C2", _EVERYWHERE),
    _mutant(31, "claims:new_ids_dispatched_again", "a step that is generated again under new ids is dispatched again",
            "regenerate_step", "C7", _EVERYWHERE),
    _mutant(32, "submissions:first_call_only", "only the first call of a step is dispatched and submitted",
            "", "C6 C2", _EVERYWHERE),
    _mutant(33, "leases:lease_by_wall_clock", "whether a claim is still held is judged by the local wall clock",
            "clock_jump", "C1", _NOT_KEYED),
    _mutant(34, "stores:lagging_replica", "claims are read from a replica that lags", "kill pause", "C1", _NOT_KEYED),
    _mutant(35, "keys:key_reused_with_other_arguments", "a repeat has other arguments under its old key, and no refusal counts",
            "late_callback slow", "C3", "keyed"),
    _mutant(36, "errors:retry_storm", "a request without an answer is repeated without a pause",
            "unavailable lose_request", "C12", "keyed", budget=(16, 0.05)),
    _mutant(37, "results:foreign_callback_accepted", "a result is matched by its tool_call_id, whichever run it is of",
            "foreign_callback", "C3", _EVERYWHERE),
    _mutant(38, "submissions:blind_resubmit", "an accepted submit is sent once more", "", "", "", harmless=True),
    _mutant(39, "leases:graceful_stop_drops_work", "a graceful stop calls its open turns failed",
            "restart terminate", "C2 C2'", _EVERYWHERE),
    _mutant(40, "stores:outage_is_miss", "a store that does not answer counts as a miss", "store_outage", "C1", _NOT_KEYED),
    _mutant(41, "stores:outage_is_hit", "a store that does not answer counts as a hit, for ever",
            "store_outage", "C2 C2'", _EVERYWHERE),
)
"""Every mutant, by number."""


class UnknownMutant(ValueError):
    """There is no mutant of that name; the message names the nearest one."""


def named(name: str) -> Mutant:
    """The mutant of that name. Raises UnknownMutant."""
    found = {mutant.name: mutant for mutant in MUTANTS}
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownMutant(f"there is no mutant {name!r}; {hint}Known: {', '.join(found)}")
