"""The judgement of a history: three verdicts side by side, and what they rest on.

SAFE, LIVE and HONEST are each pass, fail, unknown or invalid, and the worst of them is the verdict: fail before invalid
before unknown before pass. A violation that was seen is a fact, whatever else went wrong, so fail comes first; but what is only
*missing* at the end proves nothing once the run itself broke down, so there it does not count. An invalid run (a fault that
could not be injected or healed, an instance that never got ready) says nothing further, and nothing vacuous is green: where
nothing happened, or a rule of the plan never fired, what would have been a pass is unknown.
"""

from __future__ import annotations

import dataclasses
import enum
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from chaos.collector import collector_paused
from contracts.catalogue import CONTRACTS, HONEST, LIVE, SAFE
from contracts.checks import CHECKS
from contracts.checks.progress import lost
from contracts.index import Index
from contracts.profiles import RetryBudget, Terms, demand
from contracts.reached import reached
from contracts.result import Result, Status, Violation
from fakes.gateway.profile import Profile
from fakes.history import Event

INTERRUPTED = 130
"""Exit code of a run that was stopped from outside."""


class Verdict(enum.StrEnum):
    """One of the four answers."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"
    INVALID = "invalid"


_WORST_FIRST = (Verdict.FAIL, Verdict.INVALID, Verdict.UNKNOWN, Verdict.PASS)
_EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INVALID: 2, Verdict.UNKNOWN: 3}


@dataclasses.dataclass(frozen=True, slots=True)
class Flaws:
    """What keeps a run as a whole from being green: it was stopped, it broke down, nothing happened, a rule never fired.

    `cut` says what the budget of the run left no time for, `silent` says of each rule that had to fire why it did not.
    """

    stopped: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    vacuous: tuple[str, ...] = ()
    silent: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def run(self) -> tuple[str, ...]:
        """Those that are about the whole run, not one plan's."""
        return self.stopped + self.invalid + self.cut + self.vacuous

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them, in words."""
        return (*self.run, *(f"vacuous: rule {rule} never fired: {why}" for rule, why in self.silent.items()))


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What came out. `reasons` say why a verdict is unknown or invalid, `fired` counts each rule's faults that took effect.

    `index` is kept for the stories of violations; it is None when even the index could not be built.
    """

    verdict: Verdict
    safe: Verdict
    live: Verdict
    honest: Verdict
    exit_code: int
    results: tuple[Result, ...]
    reasons: tuple[str, ...]
    flaws: Flaws
    counts: Mapping[str, int]
    reached: Mapping[str, int]
    fired: Mapping[str, int]
    terms: Terms
    index: Index | None = dataclasses.field(repr=False)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Every violation, in the order of the contracts."""
        return tuple(violation for result in self.results for violation in result.violations)

    def result(self, contract: str) -> Result:
        """The result of one contract, by its id."""
        return next(result for result in self.results if result.contract == contract)


def judge(
    events: Sequence[Event],
    profile: Profile,
    *,
    wanted: Iterable[str] | None = None,
    expected_rules: Iterable[tuple[str, bool]] = (),
    retry_budget: RetryBudget | None = None,
) -> Judgement:
    """Judge a history.

    Args:
        profile: what the gateway offers; it decides which contracts can be demanded.
        wanted: ids or names of contracts, by default all that can be demanded.
        expected_rules: (rule id, optional) of every rule in the plan; one that is not optional has to fire.
        retry_budget: what C12 is judged by.

    Raises UnknownContract and ImpossibleDemand for what is wanted. A checker that breaks makes its contract unknown.
    """
    terms = demand(profile, wanted, retry_budget)
    with collector_paused():
        return _judge(events, terms, list(expected_rules))


def _judge(events: Sequence[Event], terms: Terms, rules: Sequence[tuple[str, bool]]) -> Judgement:
    try:
        index = Index(events)
        observed = reached(index)
    except Exception as error:
        return _unreadable(error, terms, rules)
    results = tuple(_run(contract, index, terms) for contract in CONTRACTS)
    fired = {rule: 0 for rule, _ in rules} | index.faults.fired()
    flaws = _flaws(index, rules, fired)
    if broke := flaws.invalid + flaws.stopped + flaws.cut:
        results = tuple(_without_liveness(result, broke[0]) for result in results)
    verdicts = _verdicts(results, flaws)
    worst = _worst(verdicts.values())
    undecided = [f"{r.contract} {r.name}: {r.note}" for r in results if r.status is Status.UNKNOWN]
    return Judgement(
        worst, verdicts[SAFE], verdicts[LIVE], verdicts[HONEST],
        INTERRUPTED if flaws.stopped else _EXIT_CODES[worst],
        results, (*flaws.all, *undecided), flaws, _counts(index), observed, fired, terms, index,
    )


def excusing(judgement: Judgement, accepted: Callable[[Violation], bool]) -> tuple[Verdict, int]:
    """The verdict and the exit code as they would be without the violations that somebody has accepted.

    What is unknown, invalid or interrupted stays so: nothing but a violation can be accepted.
    """
    verdict = _worst(_verdicts([_excused(result, accepted) for result in judgement.results], judgement.flaws).values())
    return verdict, INTERRUPTED if judgement.flaws.stopped else _EXIT_CODES[verdict]


def _excused(result: Result, accepted: Callable[[Violation], bool]) -> Result:
    left = tuple(violation for violation in result.violations if not accepted(violation))
    if left or not result.violations:
        return result
    return dataclasses.replace(result, status=Status.UNKNOWN if result.unsure else Status.PASS, violations=())


def _run(contract: str, index: Index, terms: Terms) -> Result:
    if contract not in terms.wanted:
        why = {"C12": "no budget was declared"}
        if terms.exactly_once:
            why["C2'"] = "C2 is demanded of every call at this gateway"
        return Result(contract, Status.NOT_DEMANDED, note=why.get(contract, "not asked for"))
    try:
        return CHECKS[contract](index, terms)
    except Exception as error:
        return Result(contract, Status.UNKNOWN, note=f"the checker crashed: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"{said} ({frame.name}, line {frame.lineno})"


def _flaws(index: Index, rules: Sequence[tuple[str, bool]], fired: Mapping[str, int]) -> Flaws:
    stopped = (f"interrupted: {index.interrupted.reason}",) if index.interrupted else ()
    if not index.events:
        return Flaws(stopped, vacuous=("vacuous: the history is empty",))
    return Flaws(stopped, tuple(_cut(index)), tuple(_invalid(index)), tuple(_vacuous(index)), _silent(index, rules, fired))


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


def _vacuous(index: Index) -> Iterator[str]:
    if not any(turn.answered for turn in index.turns.values()):
        yield "vacuous: no turn came to its end"
    if not index.calls:
        yield "vacuous: no tool call was issued"
    if not index.effects:
        yield "vacuous: no effect was committed"


def _silent(index: Index, rules: Sequence[tuple[str, bool]], fired: Mapping[str, int]) -> dict[str, str]:
    intended = {fault.rule for fault in index.faults.all}
    return {
        rule: "its fault never took effect" if rule in intended else "the event that it waits for never happened"
        for rule, optional in rules
        if not fired[rule] and not optional
    }


def _without_liveness(result: Result, reason: str) -> Result:
    """The run broke down: what is missing at its end proves nothing."""
    kept = tuple(violation for violation in result.violations if not violation.liveness)
    if len(kept) == len(result.violations):
        return result
    status = Status.FAIL if kept else Status.UNKNOWN
    return dataclasses.replace(result, status=status, violations=kept, note=f"what is missing proves nothing: {reason}")


def _verdicts(results: Sequence[Result], flaws: Flaws) -> dict[str, Verdict]:
    return {which: _verdict(which, results, flaws) for which in (SAFE, LIVE, HONEST)}


def _verdict(which: str, results: Sequence[Result], flaws: Flaws) -> Verdict:
    statuses = {result.status for result in results if CONTRACTS[result.contract].verdict == which}
    if Status.FAIL in statuses:
        return Verdict.FAIL
    if flaws.invalid:
        return Verdict.INVALID
    return Verdict.UNKNOWN if flaws.all or Status.UNKNOWN in statuses else Verdict.PASS


def _worst(verdicts: Collection[Verdict]) -> Verdict:
    return next(v for v in _WORST_FIRST if v in verdicts)


def _counts(index: Index) -> dict[str, int]:
    asked = sum(1 for effect in index.effects if effect.target.family is not None)
    served = sum(1 for intent in index.intents if intent.effects)
    return {
        "turns": len(index.turns),
        "tool_calls": len(index.calls),
        "effects": len(index.effects),
        "duplicates": asked - served,
        "lost": lost(index),
        "unattributed": len(index.unattributed),
    }


def _unreadable(error: Exception, terms: Terms, rules: Sequence[tuple[str, bool]]) -> Judgement:
    reason = f"the history could not be indexed: {_last_line(error)}"
    status = {c: Status.UNKNOWN if c in terms.wanted else Status.NOT_DEMANDED for c in CONTRACTS}
    unknown = Verdict.UNKNOWN
    return Judgement(
        unknown, unknown, unknown, unknown, _EXIT_CODES[unknown],
        tuple(Result(c, status[c], note=reason) for c in CONTRACTS), (reason,), Flaws(vacuous=(reason,)),
        {"turns": 0, "tool_calls": 0, "effects": 0, "duplicates": 0, "lost": 0, "unattributed": 0},
        {}, {rule: 0 for rule, _ in rules}, terms, None,
    )
