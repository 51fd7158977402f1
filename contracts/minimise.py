"""Making a failing case as small as it can be, by dropping one thing after the other for as long as it still fails.

It works on the case, not on the bytes that it was drawn as, so it knows what is simpler: fewer turns, then fewer rules, steps
and calls, then plainer settings, occurrences and parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from chaos.plan import Do, Rule, When
from chaos.vocabulary import FAULTS
from contracts.case import KNOWN_TOOLS, TWIN, Case, CaseTurn, rules_of
from contracts.strategies import points, simpler_args

T = TypeVar("T")

FirstFailing = Callable[[Sequence[Case]], int | None]
"""Which is the first of these cases that still fails in the same way; None when none does."""


def minimise(case: Case, first_failing: FirstFailing, *, over: Callable[[], bool] = lambda: False) -> tuple[Case, int]:
    """The smallest case that can be had so, and how many were tried. Stops early when it is `over`."""
    tried: set[str] = {case.key}
    changed = True
    while changed and not over():
        changed = False
        for reductions in PASSES:
            while not over():
                fresh = {c.key: c for c in reductions(case) if c.key not in tried}
                found = first_failing(list(fresh.values())) if fresh else None
                if found is None:
                    tried.update(fresh)
                    break
                tried.update(list(fresh)[: found + 1])
                case, changed = list(fresh.values())[found], True
    return case, len(tried) - 1


def _fewer_turns(case: Case) -> Iterator[Case]:
    """One turn alone, then each left out."""
    if len(case.turns) > 1:
        for turn in case.turns:
            yield dataclasses.replace(case, turns=(turn,))
        for number in range(len(case.turns)):
            yield dataclasses.replace(case, turns=_without(case.turns, number))


def _fewer_rules(case: Case) -> Iterator[Case]:
    """No rules, one rule alone, then each left out."""
    if not case.rules:
        return
    yield _with_turns(case, lambda turn: dataclasses.replace(turn, rules=()))
    every = [(t, r) for t, turn in enumerate(case.turns) for r in range(len(turn.rules))]
    if len(every) > 2:
        for t, r in every:
            bare = [dataclasses.replace(turn, rules=()) for turn in case.turns]
            bare[t] = dataclasses.replace(case.turns[t], rules=(case.turns[t].rules[r],))
            yield dataclasses.replace(case, turns=tuple(bare))
    for t, r in every:
        yield _replace(case, t, dataclasses.replace(case.turns[t], rules=_without(case.turns[t].rules, r)))


def _fewer_calls(case: Case) -> Iterator[Case]:
    """One call alone, one step alone, then each step and each call left out."""
    for t, turn in enumerate(case.turns):
        if turn.calls == 1:
            continue
        yield _replace(case, t, dataclasses.replace(turn, steps=((turn.steps[0][0],),)))
        if len(turn.steps) > 1:
            for step in turn.steps:
                yield _replace(case, t, dataclasses.replace(turn, steps=(step,)))
            for s in range(len(turn.steps)):
                yield _replace(case, t, dataclasses.replace(turn, steps=_without(turn.steps, s)))
        for s, step in enumerate(turn.steps):
            for size in sorted({1, 2, len(step) // 2} - {0}):
                if size < len(step):
                    yield _replace(case, t, _with_step(turn, s, step[:size]))
            for c in range(len(step)):
                left = _without(step, c)
                if left and left[0] != TWIN:
                    yield _replace(case, t, _with_step(turn, s, left))


def _plainer_settings(case: Case) -> Iterator[Case]:
    """The defaults, one instance, seed 0."""
    if case.settings:
        yield dataclasses.replace(case, settings={})
        for name in case.settings:
            yield dataclasses.replace(case, settings={k: v for k, v in case.settings.items() if k != name})
    for instances in range(1, case.instances):
        yield dataclasses.replace(case, instances=instances)
    if case.repeat_submit != "400":
        yield dataclasses.replace(case, repeat_submit="400")
    if case.seed:
        yield dataclasses.replace(case, seed=0)


def _plainer_rules(case: Case) -> Iterator[Case]:
    """Each rule with its first occurrence, one fault, and plainer parameters."""
    for t, turn in enumerate(case.turns):
        for r, rule in enumerate(turn.rules):
            for plainer in _plainer(rule):
                rules = (*turn.rules[:r], plainer, *turn.rules[r + 1 :])
                yield _replace(case, t, dataclasses.replace(turn, rules=rules))


def _plainer_tools(case: Case) -> Iterator[Case]:
    """The first tool everywhere, then at one place after the other."""
    plain = KNOWN_TOOLS[0]
    yield _with_turns(case, lambda turn: dataclasses.replace(turn, steps=tuple((plain,) * len(s) for s in turn.steps)))
    for t, turn in enumerate(case.turns):
        for s, step in enumerate(turn.steps):
            for c, tool in enumerate(step):
                if tool != plain:
                    yield _replace(case, t, _with_step(turn, s, (*step[:c], plain, *step[c + 1 :])))


def _another_point(case: Case) -> Iterator[Case]:
    """The one fault at another point, with one call in one turn: what it hits there may need no company."""
    if len(case.rules) != 1 or case.calls == 1:
        return
    (rule,) = case.rules
    tools = dict.fromkeys(step[0] for turn in case.turns for step in turn.steps)
    for do in rule.do:
        for when in points(do.fault):
            (moved,) = rules_of([{"when": dict(when), "do": {"fault": do.fault, **do.args}}])
            for tool in tools:
                yield dataclasses.replace(case, turns=(CaseTurn(((tool,),), (moved,)),))


PASSES: tuple[Callable[[Case], Iterator[Case]], ...] = (
    _fewer_turns, _fewer_rules, _fewer_calls, _another_point, _plainer_settings, _plainer_rules, _plainer_tools,
)


def _plainer(rule: Rule) -> Iterator[Rule]:
    when = rule.when
    for plain in (When(when.event, when.at), dataclasses.replace(when, nth=(1,)), dataclasses.replace(when, nth=when.nth[:1])):
        if plain != when:
            yield dataclasses.replace(rule, when=plain)
    if len(rule.do) > 1:
        for do in rule.do:
            yield dataclasses.replace(rule, do=(do,))
    for number, do in enumerate(rule.do):
        for args in simpler_args(do.fault, do.args):
            full = {name: param.default for name, param in FAULTS[do.fault].params.items()} | args
            yield dataclasses.replace(rule, do=(*rule.do[:number], Do(do.fault, full), *rule.do[number + 1 :]))


def _without(items: tuple[T, ...], number: int) -> tuple[T, ...]:
    return (*items[:number], *items[number + 1 :])


def _replace(case: Case, number: int, turn: CaseTurn) -> Case:
    return dataclasses.replace(case, turns=(*case.turns[:number], turn, *case.turns[number + 1 :]))


def _with_turns(case: Case, change: Callable[[CaseTurn], CaseTurn]) -> Case:
    return dataclasses.replace(case, turns=tuple(map(change, case.turns)))


def _with_step(turn: CaseTurn, number: int, step: tuple[str, ...]) -> CaseTurn:
    return dataclasses.replace(turn, steps=(*turn.steps[:number], step, *turn.steps[number + 1 :]))
