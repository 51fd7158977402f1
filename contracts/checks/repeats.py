"""C8 idempotent_submission: a repeat says the same again, and a refused repeat is no reason to do anything.

That a repeat is refused is information, not a failure: the outputs were accepted before.
"""

from __future__ import annotations

import json
from typing import Any

from contracts.checks.common import RACE_WINDOW, honestly_in_doubt, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Intent, Run, Submit, Turn
from contracts.result import Tally
from fakes.history import SubmitRefused, ToolRequested


def idempotent_submission(index: Index, terms: Terms) -> Tally:
    """Repeats of an accepted submit carry the same outputs, and a 4xx on one leads neither to a failed turn nor to new work."""
    tally = Tally("C8")
    refused = 0
    for run in tally.each(index.runs.values()):
        accepted: dict[Intent, str] = {}
        for submit in run.submits:
            if submit.received is not None and submit.received.outputs:
                intents = [run.calls[o.tool_call_id].intent for o in submit.received.outputs if o.tool_call_id in run.calls]
                if intents and all(intent in accepted for intent in intents):
                    tally.checked += 1
                    _same_again(tally, index, terms, run, submit, accepted)
                    if submit.refused is not None and 400 <= submit.refused.http_status < 500:
                        refused += 1
                        _no_new_work(tally, index, terms, run, submit.refused, intents)
                        _no_failed_turn(tally, index, run, submit.refused)
            if submit.accepted is not None and not submit.accepted.repeat:
                for output in submit.accepted.outputs:
                    if output.tool_call_id in run.calls:
                        accepted.setdefault(run.calls[output.tool_call_id].intent, output.output)
    tally.count(refused, "repeats were refused, which is information and no failure")
    return tally


def _same_again(
    tally: Tally, index: Index, terms: Terms, run: Run, submit: Submit, accepted: dict[Intent, str]
) -> None:
    assert submit.received is not None
    for output in submit.received.outputs:
        call = run.calls.get(output.tool_call_id)
        if call is None or _equal(accepted[call.intent], output.output) or honestly_in_doubt(index, call.intent, terms):
            continue
        tally.violate(
            "other_output",
            f"{output.tool_call_id} was submitted again with another output: {output.output[:80]!r} after "
            f"{accepted[call.intent][:80]!r} had been accepted; the same output was expected",
            run_id=run.run_id,
            tool_call_id=output.tool_call_id,
            events=[*trail(index, call.intent), submit.received.seq],
        )


def _no_new_work(
    tally: Tally, index: Index, terms: Terms, run: Run, refused: SubmitRefused, intents: list[Intent]
) -> None:
    """The instance that was refused does not call the step's tools again, unless it was told that the run waits for them."""
    if refused.instance is None:
        return
    for intent in dict.fromkeys(intents):
        requests = [a.request for a in intent.attempts if a.request is not None and a.request.instance == refused.instance]
        keys = {r.key for r in requests if r.seq < refused.seq and r.key is not None} if terms.profile.honours_key else set()
        for request in requests:
            if request.t - refused.t < RACE_WINDOW or request.seq < refused.seq or request.key in keys:
                continue
            if not _asked_again(run, intent, refused, request):
                tally.violate(
                    "new_dispatch",
                    f"{refused.instance} sent {request.request_id} for {intent.tool} after its repeat of an accepted submit "
                    f"was refused with {refused.http_status}; the refusal of a repeat was expected to be understood as done",
                    run_id=run.run_id,
                    tool_call_id=intent.calls[-1].tool_call_id,
                    events=[*trail(index, intent), refused.seq],
                )
                break


def _asked_again(run: Run, intent: Intent, refused: SubmitRefused, request: ToolRequested) -> bool:
    """Whether anyone but the refusal asked for the call: an answer that shows the run waiting for it, or another run."""
    if any(call.asked[0].seq > refused.seq and call.asked[0].seq < request.seq for call in intent.calls):
        return True
    ids = {call.tool_call_id for call in intent.calls}
    return any(
        refused.seq < told.seq < request.seq and told.instance == refused.instance and not ids.isdisjoint(told.waiting_for)
        for told in run.tells
    )


def _no_failed_turn(tally: Tally, index: Index, run: Run, refused: SubmitRefused) -> None:
    turn = run.turn
    if turn is None or turn.ended is None or turn.ended.status != "failed" or turn.ended.seq < refused.seq:
        return
    if not _well(run) or _has_another_reason(turn):
        return
    tally.violate(
        "failed_turn",
        f"turn {turn.turn_id} was called failed after a repeat of an accepted submit was refused with {refused.http_status}, "
        f"while {run.run_id} {'completed' if run.ended else 'had all its outputs accepted'}; the refusal of a repeat was "
        "expected to be understood as done",
        run_id=run.run_id,
        events=[refused.seq, turn.ended.seq, *(seq for intent in turn.intents for seq in trail(index, intent))],
    )


def _well(run: Run) -> bool:
    """Whether the run completed, or got the outputs of every step that it asked for."""
    if run.ended is not None:
        return run.ended.status == "completed"
    accepted = {s.accepted.ordinal for s in run.submits if s.accepted is not None}
    return all(asked.ordinal in accepted for asked in run.asked)


def _has_another_reason(turn: Turn) -> bool:
    return any(intent.definite_errors() or intent.in_doubt() for intent in turn.intents)


def _equal(one: str, other: str) -> bool:
    """The same text, or the same JSON."""
    return one == other or (_parsed(one) is not None and _parsed(one) == _parsed(other))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
