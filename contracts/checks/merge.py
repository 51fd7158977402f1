"""C11 no_wrong_merge: two distinct calls with equal arguments are two wishes."""

from __future__ import annotations

from collections import Counter

from contracts.checks.common import UNATTRIBUTED, excused, honestly_in_doubt, touched, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Intent
from contracts.result import Tally


def no_wrong_merge(index: Index, terms: Terms) -> Tally:
    """Identical calls of one step each get an effect of their own.

    Judged once all of them were answered to the model, or the turn was called done. Where a lost call cannot be helped,
    only two answers that quote the same effect show that calls were merged.
    """
    tally = Tally("C11")
    for family in tally.each(index.families):
        if len(family.intents) == 1:
            continue
        groups: dict[tuple[str, int], list[Intent]] = {}
        for intent in family.intents:
            groups.setdefault(intent.step, []).append(intent)
        for group in groups.values():
            if len(group) > 1:
                tally.checked += 1
                _group(tally, index, terms, group)
    return tally


def _group(tally: Tally, index: Index, terms: Terms, group: list[Intent]) -> None:
    held = [i for i in group if not excused(index, i) and not honestly_in_doubt(index, i, terms)]
    missing = [i for i in held if not i.effects]
    turn = group[0].turn
    finished = all(any(True for _ in i.told()) for i in held) or (turn is not None and turn.done)
    if not missing or not finished:
        return
    quoted = Counter(e.external_id for i in group for e in {e for told in i.told() for e in told.quoted})
    shared = [external_id for external_id, count in quoted.items() if count > 1]
    if not terms.c2_in_full and not shared and touched(index, turn, group[0]):
        return
    if index.unsure(group[0].conversation):
        tally.unsure(UNATTRIBUTED)
        return
    effects = list(dict.fromkeys(e.external_id for i in group for e in i.effects))
    ids = ", ".join(call.tool_call_id for i in group for call in i.calls)
    merged = f"; {', '.join(shared)} was told as the result of more than one of them" if shared else ""
    tally.violate(
        "merged" if shared else "missing",
        f"{len(group)} distinct calls of {group[0].tool} with equal arguments ({ids}) have {len(effects)} effects "
        f"({', '.join(effects) or 'none'}){merged}; {len(held)} were expected",
        run_id=missing[0].calls[0].run.run_id,
        tool_call_id=missing[0].calls[0].tool_call_id,
        effects=effects,
        events=[seq for i in group for seq in trail(index, i)],
    )
