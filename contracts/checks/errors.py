"""C9 honest_errors: a tool that fails for good is told to the model as an error."""

from __future__ import annotations

from contracts.checks.common import NO_QUIESCE, called, honestly_in_doubt, trail
from contracts.checks.wording import tells_error
from contracts.index import Index
from contracts.profiles import Terms
from contracts.result import Tally


def honest_errors(index: Index, terms: Terms) -> Tally:
    """A call that the gateway refused for good has one accepted output, and that one says so.

    Where a coordinator can do no better than report a call in doubt, the gateway's late answer does not make that a lie.
    """
    tally = Tally("C9")
    for intent in tally.each(index.intents):
        errors = intent.definite_errors()
        if not errors or intent.effects or not intent.live_calls():
            continue
        tally.checked += 1
        told = list(intent.told())
        last = intent.calls[-1]
        if not told and not honestly_in_doubt(index, intent, terms):
            if index.quiesced is None:
                tally.unsure(NO_QUIESCE)
                continue
            tally.violate(
                "silence",
                f"{called(intent)} failed for good ({errors[0].error}), and no output was accepted for it by the end; "
                "one error output was expected",
                run_id=last.run.run_id,
                tool_call_id=last.tool_call_id,
                events=trail(index, intent),
                liveness=True,
            )
        for one in told:
            if not tells_error(one.text) and not honestly_in_doubt(index, intent, terms):
                tally.violate(
                    "success",
                    f"{called(intent)} failed for good ({errors[0].error}), and the model was told {one.text[:80]!r}; "
                    "an output that says that it failed was expected",
                    run_id=one.call.run.run_id,
                    tool_call_id=one.call.tool_call_id,
                    events=trail(index, intent),
                )
    return tally
