"""C3 outputs_match_effects: what the model was told is what happened.

An output belongs to an effect when it contains the effect's external id as text, whatever its format.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.checks.common import UNATTRIBUTED, honestly_in_doubt, poisoned, quotes, trail
from contracts.checks.wording import tells_doubt, tells_error
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Effect, Intent, Told
from contracts.result import Tally


def outputs_match_effects(index: Index, terms: Terms) -> Tally:
    """Every accepted output is the result of the call's own effect, or its definite error.

    A call that is in doubt for good reason may be told as unknown, and never as failed when its effect is there.
    """
    tally = Tally("C3")
    for family in tally.each(index.families):
        loose = set(family.loose)
        claimed: dict[Effect, Intent] = {}
        for intent in family.intents:
            own = set(intent.effects) | loose
            for call in intent.calls:
                for told in call.told:
                    tally.checked += 1
                    _output(tally, index, intent, terms, told, own)
                    if len(family.intents) > 1:
                        _shared(tally, index, intent, told, own, claimed)
    return tally


def _output(tally: Tally, index: Index, intent: Intent, terms: Terms, told: Told, own: set[Effect]) -> None:
    if any(quotes(told.text, effect.external_id) for effect in own):
        return
    foreign = [e for e in told.quoted if e not in own]
    if any(e.target.by == "nothing" for e in foreign):
        tally.unsure(f"{told.call.tool_call_id} quotes {foreign[0].external_id}, an effect that names no call")
        return
    if foreign:
        theirs = foreign[0]
        owner = theirs.target.call.tool_call_id if theirs.target.call else theirs.event.tool_call_id or "another call"
        _violate(
            tally, index, intent, told, "foreign",
            f"quotes {theirs.external_id}, the effect of {owner}; its own is {_names(intent.effects) or 'missing'}",
            foreign,
        )
        return
    failed = tells_error(told.text) and not tells_doubt(told.text)
    if honestly_in_doubt(index, intent, terms) and not (failed and intent.effects):
        return
    if intent.effects:
        _no_own_id(tally, index, intent, told)
    elif not any(attempt.refused_for_good() for attempt in intent.all_attempts()):
        if index.unsure(intent.conversation):
            tally.unsure(UNATTRIBUTED)
            return
        sent = any(a.request is not None for a in intent.all_attempts())
        said = "the gateway never said anything for good about it" if sent else "the gateway was never asked"
        _violate(
            tally, index, intent, told, "made_up",
            f"was told to the model, but the call has no effect and {said}; "
            "the result of its own effect or its definite error was expected",
            (),
        )


def _no_own_id(tally: Tally, index: Index, intent: Intent, told: Told) -> None:
    """An output without any external id, of a call that has an effect."""
    if poisoned(index, intent) or intent.definite_errors():
        return  # the result could not be read, or the gateway itself said that there is none
    first = intent.effects[0]
    late = first.event.seq > told.accepted.seq
    when = f", {first.event.t - told.accepted.t:.3f} s after this was told" if late else ""
    what = "tells the model that it failed" if tells_error(told.text) else "says nothing of the result"
    _violate(
        tally, index, intent, told, "denied_late" if late else "denied",
        f"{what}, but {_names(intent.effects)} was committed{when}; an output that quotes it was expected",
        intent.effects,
    )


def _shared(tally: Tally, index: Index, intent: Intent, told: Told, own: set[Effect], claimed: dict[Effect, Intent]) -> None:
    """Identical calls may not both be answered with one effect."""
    quoted = [e for e in told.quoted if e in own]
    if len(quoted) != 1:
        return
    other = claimed.setdefault(quoted[0], intent)
    if other is not intent:
        _violate(
            tally, index, intent, told, "shared",
            f"quotes {quoted[0].external_id}, which was told as the result of {other.calls[0].tool_call_id} too; "
            "calls that are alike have an effect each",
            quoted,
        )


def _violate(tally: Tally, index: Index, intent: Intent, told: Told, shape: str, what: str, effects: Sequence[Effect]) -> None:
    text = told.text if len(told.text) <= 80 else told.text[:77] + "..."
    events = [*trail(index, intent), *(e.event.seq for e in effects)]
    tally.violate(
        shape,
        f"the output {text!r} of {told.call.tool_call_id} ({intent.tool}) {what}",
        run_id=told.call.run.run_id,
        tool_call_id=told.call.tool_call_id,
        effects=[e.external_id for e in effects],
        events=events,
    )


def _names(effects: list[Effect]) -> str:
    return ", ".join(e.external_id for e in effects)
