"""Findings: what the checks saw in a history, or in a part of it, before any verdict; those of all parts make the whole."""

from __future__ import annotations

import dataclasses
import traceback
from collections import Counter
from collections.abc import Iterator

from contracts import reached
from contracts.bound import Bound
from contracts.catalogue import CONTRACTS
from contracts.checks import CHECKS
from contracts.checks.progress import lost
from contracts.index import Index
from contracts.profiles import Terms
from contracts.result import Tally, Violation
from fakes.history import BudgetEnded, EffectCommitted


@dataclasses.dataclass(slots=True)
class Counted:
    """How often something was there, and the number of the event that told of it first."""

    since: int
    times: int = 0


@dataclasses.dataclass(slots=True)
class Findings:
    """All that a judgement is made of. `merge` adds those of another part of the same history.

    `stopped`, `cut` and `invalid` say what is amiss with the run, `senders` who sent the requests behind the effects that
    violations are about, `nameless` and `stray` what other parts have to know (see `contracts.index.Part`).
    """

    end: float
    empty: bool
    stopped: tuple[str, ...]
    cut: tuple[str, ...]
    invalid: tuple[str, ...]
    budget_ended: BudgetEnded | None
    tallies: dict[str, Tally]
    counts: Counter[str]
    answered: bool
    faults: Counter[str]
    paths: Counter[str]
    fired: dict[str, Counted]
    """by rule, also those whose faults never took effect"""
    plans: dict[str, Counted]
    """turns by the plans that were in force for them"""
    together: set[frozenset[str]]
    """every set of plans that a conversation had"""
    senders: dict[str, str | None]
    nameless: bool
    stray: frozenset[None]

    def merge(self, other: Findings) -> None:
        """Add another part's; what is of the whole run is the same in both."""
        self.answered = self.answered or other.answered
        for contract, tally in other.tallies.items():
            self.tallies[contract].merge(tally)
        for mine, theirs in ((self.counts, other.counts), (self.faults, other.faults), (self.paths, other.paths)):
            mine.update(theirs)
        for counted, more in ((self.fired, other.fired), (self.plans, other.plans)):
            for name, count in more.items():
                known = counted.setdefault(name, Counted(count.since))
                known.since = min(known.since, count.since)
                known.times += count.times
        self.together |= other.together
        self.senders |= other.senders
        self.nameless = self.nameless or other.nameless
        self.stray |= other.stray

    def reached(self) -> dict[str, int]:
        """Readable counters, faults first; what was never reached is not listed."""
        return dict(sorted(self.faults.items())) | {words: n for words, n in sorted(self.paths.items()) if n}


def examine(index: Index, terms: Terms) -> Findings:
    """Check the contracts that are wanted. A checker that breaks makes its contract unknown; what else breaks is raised."""
    faults, paths = reached.faults(index), reached.paths(index)
    tallies = {contract: _check(contract, index, terms) for contract in CONTRACTS if contract in terms.wanted}
    bound = Bound(index)
    senders: dict[str, str | None] = {}
    for tally in tallies.values():
        tally.violations = [(place, bound.known(violation)) for place, violation in tally.violations]
        for _, violation in tally.violations:
            senders.update(_senders(index, violation))
    return Findings(
        index.end, index.part.empty, _stopped(index), tuple(_cut(index)), tuple(_invalid(index)), index.budget_ended, tallies,
        _counts(index), any(turn.answered for turn in index.turns.values()), faults, paths, _fired(index), _plans(bound),
        set(bound.together), senders, index.nameless, frozenset({None} & index.stray),
    )


def last_line(error: Exception) -> str:
    """What broke and where, in one line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"{said} ({frame.name}, line {frame.lineno})"


def _check(contract: str, index: Index, terms: Terms) -> Tally:
    try:
        return CHECKS[contract](index, terms)
    except Exception as error:
        tally = Tally(contract)
        tally.crashed(last_line(error))
        return tally


def _senders(index: Index, violation: Violation) -> Iterator[tuple[str, str | None]]:
    for seq in violation.events:
        event = index.event(seq)
        if isinstance(event, EffectCommitted):
            yield event.request_id, index.sender(event.request_id)


def _stopped(index: Index) -> tuple[str, ...]:
    return (f"interrupted: {index.interrupted.reason}",) if index.interrupted else ()


def _cut(index: Index) -> Iterator[str]:
    started, ended = index.quiesce, index.quiesced
    if index.budget_ended is not None and ended is None:
        yield "the budget of the run was over before everything was healed and at rest"
    elif started is not None and started.full is not None and ended is not None and not ended.settled:
        yield (
            f"the budget of the run left {started.budget:g} s of {started.full:g} s for quiesce, "
            f"and the system was not at rest then ({ended.open_turns} turns still open)"
        )


def _invalid(index: Index) -> Iterator[str]:
    for f in index.faults.failed:
        yield f"fault {f.fault} of rule {f.rule} failed: {f.reason}"
    gone = {exited.instance for exited in index.exits if not exited.expected}
    for instance in index.started:
        if instance not in index.ready and (index.quiesced is not None or instance in gone):
            yield f"{instance} was started and never got ready"


def _counts(index: Index) -> Counter[str]:
    asked = sum(1 for effect in index.effects if effect.target.family is not None)
    served = sum(1 for intent in index.intents if intent.effects)
    return Counter({
        "turns": len(index.turns),
        "tool_calls": len(index.calls),
        "effects": len(index.effects),
        "duplicates": asked - served,
        "lost": lost(index),
        "unattributed": len(index.unattributed),
    })


def _fired(index: Index) -> dict[str, Counted]:
    count: dict[str, Counted] = {}
    for fault in index.faults.all:
        known = count.setdefault(fault.rule, Counted(fault.events[0]))
        known.times += fault.injected and index.counts(fault.events[0])
    return count


def _plans(bound: Bound) -> dict[str, Counted]:
    return {name: Counted(bound.since[name], turns) for name, turns in bound.turns.items()}
