"""C1 at_most_one_effect and C7 one_effect_per_intent: nothing was done twice."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.checks.common import called, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Effect, Family, Intent
from contracts.result import Tally


def at_most_one_effect(index: Index, terms: Terms) -> Tally:
    """No call has two committed effects.

    Where nobody can say for which of several calls an effect was, one of them has two when there are more effects than calls.
    """
    tally = Tally("C1")
    tally.checked = len(index.calls)
    for family in tally.each(index.families):
        seen = False
        for intent in family.intents:
            for call in intent.calls:
                if len(call.effects) > 1:
                    seen = True
                    _violate(tally, index, [intent], call.effects, "call", f"{called(intent)} has", call.tool_call_id)
            if not seen and intent.loose and intent.known_effects() > len(intent.calls):
                seen = True
                _violate(tally, index, [intent], _known(intent), "intent", f"{called(intent)} has")
        if not seen and family.loose and len(effects := family.all_effects()) > len(family.calls):
            _violate(tally, index, family.intents, effects, "family", f"{_siblings(family)} have")
    _unattributed(tally, index)
    return tally


def one_effect_per_intent(index: Index, terms: Terms) -> Tally:
    """No intent has two effects under different ids: of a step generated again, or of a second run of the same turn.

    A step that came again with other calls or arguments is another wish: not satisfiable at this layer, and noted only.
    """
    tally = Tally("C7")
    for family in tally.each(index.families):
        if len(family.calls) == len(family.intents):
            continue
        changed = any(intent.changed for intent in family.intents)
        if changed:
            tally.note("not satisfiable at this layer for steps that were generated again with other calls or arguments")
            continue
        seen = False
        for intent in family.intents:
            if len(intent.calls) == 1:
                continue
            tally.checked += 1
            by_call = sum(1 for call in intent.calls if call.effects)
            if intent.known_effects() > 1 and (intent.loose or by_call > 1):
                seen = True
                _violate(tally, index, [intent], _known(intent), "intent", f"{called(intent)} was asked for once and has")
        if not seen and family.loose and len(effects := family.all_effects()) > len(family.intents):
            what = f"{_siblings(family)} were asked for {len(family.intents)} times and have"
            _violate(tally, index, family.intents, effects, "family", what)
    _unattributed(tally, index)
    return tally


def no_invented_effect(index: Index, terms: Terms) -> Tally:
    """Every effect maps to a call that the API issued."""
    tally = Tally("C5b")
    for effect in tally.each(index.effects):
        tally.checked += 1
        if effect.target.by == "invented":
            event = effect.event
            attempt = effect.attempt
            tally.violate(
                "invented",
                f"{event.tool} was done ({event.external_id}) for {event.tool_call_id}, a call that the API never issued; "
                "an effect is expected only for a call that a run asked for",
                run_id=event.run_id,
                tool_call_id=event.tool_call_id,
                effects=[event.external_id],
                events=[event.seq, *([attempt.request.seq] if attempt.request else []), *(r.seq for r in attempt.replies)],
            )
    _unattributed(tally, index)
    return tally


def _known(intent: Intent) -> list[Effect]:
    effects = [*intent.loose, *(effect for call in intent.calls for effect in call.effects)]
    return sorted(effects, key=lambda effect: effect.event.seq)


def _siblings(family: Family) -> str:
    return f"the {len(family.calls)} calls that are alike: " + ", ".join(c.tool_call_id for c in family.calls) + ","


def _violate(
    tally: Tally,
    index: Index,
    intents: list[Intent],
    effects: Sequence[Effect],
    shape: str,
    what: str,
    call_id: str | None = None,
) -> None:
    calls = [call for intent in intents for call in intent.calls]
    call = next((c for c in calls if c.tool_call_id == call_id), calls[0])
    ids = [effect.external_id for effect in effects]
    apart = f", {effects[-1].event.t - effects[0].event.t:.3f} s apart"
    expected = "at most one" if len(intents) == 1 else f"at most {len(calls if tally.contract == 'C1' else intents)}"
    tally.violate(
        shape,
        f"{what} {len(effects)} effects ({', '.join(ids)}{apart}); {expected} was expected",
        run_id=call.run.run_id,
        tool_call_id=call.tool_call_id,
        effects=ids,
        events=[seq for intent in intents for seq in trail(index, intent)],
    )


def _unattributed(tally: Tally, index: Index) -> None:
    for effect in tally.each(index.unattributed):
        tally.unsure_of_many(
            f"effect {effect.external_id} of {effect.event.tool} names no call: "
            "neither a tool_call_id, nor a reference, nor arguments that the API asked for",
            "more effects that name no call",
        )
