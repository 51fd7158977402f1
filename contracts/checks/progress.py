"""C2 at_least_one_effect, C2' no_silent_loss and C10 isolation: what was asked for gets done, or is owned up to.

All three speak of the end, so they need a history that has one: without `quiesce_ended` they are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

from contracts.checks.common import (
    NO_QUIESCE,
    UNATTRIBUTED,
    called,
    complete,
    excused,
    honestly_in_doubt,
    touched,
    trail,
)
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Intent, Turn
from contracts.result import Tally

ISOLATED = ("poison_result", "permanent_failure")
"""Faults of one call that may hurt nobody but its own conversation."""


def at_least_one_effect(index: Index, terms: Terms) -> Tally:
    """Every turn is answered, and every intent has its effect and an accepted output.

    At intent level: a later generation or another run of the same turn satisfies it too. Where C1 and C2 together are
    impossible it is demanded only of what no fault can have touched and what was not reported in doubt.
    """
    tally = Tally("C2")
    if index.quiesced is None:
        tally.unsure(NO_QUIESCE)
        return tally
    spared = 0
    for turn in tally.each(index.turns.values()):
        if terms.c2_in_full or not (touched(index, turn) or any(honestly_in_doubt(index, i, terms) for i in turn.intents)):
            tally.checked += 1
            _turn(tally, index, turn)
    for intent in tally.each(index.intents):
        if not terms.c2_in_full and (honestly_in_doubt(index, intent, terms) or touched(index, intent.turn, intent)):
            spared += 1
            continue
        tally.checked += 1
        _intent(tally, index, intent)
    tally.count(spared, "calls that a fault may have touched, or that were reported in doubt, are not held to it")
    finished = sum(1 for t in index.turns.values() if t.ended and t.ended.status == "failed" and t.intents and _all_done(t))
    tally.count(finished, "turns were called failed although all their calls were done")
    return tally


def isolation(index: Index, terms: Terms) -> Tally:
    """A poisoned or failing call in one conversation leaves the others alone.

    Judged of the conversations without any fault of their own, during whose turns no fault touched everybody.
    """
    tally = Tally("C10")
    sources = index.faults.conversations(*ISOLATED)
    if not sources and not index.part.poisoned:
        tally.note("no call was poisoned or failed for good in this history")
        return tally
    if index.quiesced is None:
        tally.unsure(NO_QUIESCE)
        return tally
    for turn in tally.each(index.turns.values()):
        if turn.conversation in sources or touched(index, turn):
            continue
        tally.checked += 1
        in_doubt = any(honestly_in_doubt(index, i, terms) for i in turn.intents)
        if not in_doubt:
            _turn(tally, index, turn)
        for intent in turn.intents:
            if not honestly_in_doubt(index, intent, terms):
                _intent(tally, index, intent)
    return tally


def no_silent_loss(index: Index, terms: Terms) -> Tally:
    """Where a loss cannot be helped, it is reported: an unfinished call was named in doubt under any of its ids."""
    tally = Tally("C2'")
    if index.quiesced is None:
        tally.unsure(NO_QUIESCE)
        return tally
    for intent in tally.each(index.intents):
        tally.checked += 1
        if complete(intent) or excused(index, intent) or intent.in_doubt():
            continue
        if not intent.effects and index.unsure(intent.conversation):
            tally.unsure(UNATTRIBUTED)
            continue
        tally.violate(
            _shape(intent),
            f"{called(intent)}: {_seen(intent)}, and no instance reported it in doubt; "
            "a call that cannot be finished is expected in GET /in-doubt",
            run_id=intent.calls[-1].run.run_id,
            tool_call_id=intent.calls[-1].tool_call_id,
            effects=[e.external_id for e in intent.effects],
            events=trail(index, intent),
            liveness=True,
        )
    return tally


def lost(index: Index) -> int:
    """How many intents ended without any effect, though nothing excuses it and nobody reported them in doubt."""
    if index.quiesced is None:
        return 0
    return sum(1 for i in index.intents if not i.effects and not excused(index, i) and not i.in_doubt())


def _intent(tally: Tally, index: Index, intent: Intent) -> None:
    if complete(intent) or excused(index, intent):
        return
    if not intent.effects and index.unsure(intent.conversation):
        tally.unsure(UNATTRIBUTED)
        return
    tally.violate(
        _shape(intent),
        f"{called(intent)}: {_seen(intent)} by the end; one effect and an accepted output were expected",
        run_id=intent.calls[-1].run.run_id,
        tool_call_id=intent.calls[-1].tool_call_id,
        effects=[e.external_id for e in intent.effects],
        events=trail(index, intent),
        liveness=True,
    )


def _turn(tally: Tally, index: Index, turn: Turn) -> None:
    """The turn was answered, got a run, and no run was walked away from before it had asked for everything."""
    if not turn.sent and turn.ended is None:
        return  # never delivered, or a log without turns
    planned = sum(map(len, turn.planned.calls)) if turn.planned else 0
    shape = seen = ""
    if not turn.answered:
        shape, seen = "unanswered", f"was never answered ({turn.ended.detail if turn.ended else 'it never ended'})"
    elif planned and not turn.runs and turn.conversation not in index.stray:
        assert turn.ended is not None
        shape, seen = "no_run", f"was called {turn.ended.status}, and no run was ever created for it"
    elif planned > len(turn.intents) and turn.runs and all(run.ended is None for run in turn.runs):
        assert turn.ended is not None
        shape = "walked_away"
        seen = (
            f"was called {turn.ended.status} while its run {turn.runs[-1].run_id} was still going: "
            f"{len(turn.intents)} of its {planned} calls had been asked for"
        )
    if shape:
        tally.violate(
            shape,
            f"turn {turn.turn_id} {seen}; every turn is expected to be carried through",
            run_id=turn.runs[-1].run_id if turn.runs else None,
            events=_turn_trail(index, turn),
            liveness=True,
        )


def _turn_trail(index: Index, turn: Turn) -> list[int]:
    events: Iterable[int] = (e.seq for e in (turn.planned, *turn.sent, turn.ended) if e is not None)
    return sorted({*events, *(seq for intent in turn.intents for seq in trail(index, intent))})


def _shape(intent: Intent) -> str:
    return "no_effect" if not intent.effects else "no_output"


def _seen(intent: Intent) -> str:
    effects = ", ".join(e.external_id for e in intent.effects)
    effect = f"its effect {effects} was committed" if effects else "no effect was committed"
    output = "an output was accepted" if any(True for _ in intent.told()) else "no output was accepted"
    return f"{effect} and {output}" if bool(effects) == output.startswith("an ") else f"{effect} but {output}"


def _all_done(turn: Turn) -> bool:
    return all(complete(intent) for intent in turn.intents)
