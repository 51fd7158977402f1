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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from chaos.collector import collector_paused
from contracts.catalogue import CONTRACTS, HONEST, LIVE, SAFE
from contracts.findings import Findings, examine, last_line
from contracts.index import Index
from contracts.profiles import RetryBudget, Terms, demand
from contracts.result import Result, Status, Violation
from contracts.story import Source
from fakes.gateway.profile import Profile
from fakes.history import BudgetEnded, Event

INTERRUPTED = 130
"""Exit code of a run that was stopped from outside."""


class Verdict(enum.StrEnum):
    """One of the four answers."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"
    INVALID = "invalid"


WORST_FIRST = (Verdict.FAIL, Verdict.INVALID, Verdict.UNKNOWN, Verdict.PASS)
"""In the order in which one of several decides."""
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

    `seconds` is how long the history is, `turns_under` counts the turns under each plan, `together` holds every set of plans
    that a conversation had. `index` tells the stories of violations; it is None when the history could not be indexed.
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
    seconds: float
    budget_ended: BudgetEnded | None
    turns_under: Mapping[str, int]
    together: frozenset[frozenset[str]]
    index: Source | None = dataclasses.field(repr=False)

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
        findings = examine(index, terms)
    except Exception as error:
        return unreadable(error, terms, rules)
    return conclude(findings, terms, rules, index)


def conclude(findings: Findings, terms: Terms, rules: Sequence[tuple[str, bool]], index: Source) -> Judgement:
    """The judgement that follows from what the checks saw."""
    results = tuple(_result(contract, findings, terms) for contract in CONTRACTS)
    further = sorted((rule for rule in findings.fired), key=lambda rule: findings.fired[rule].since)
    fired = {rule: 0 for rule, _ in rules} | {rule: findings.fired[rule].times for rule in further}
    flaws = _flaws(findings, rules, fired)
    if broke := flaws.invalid + flaws.stopped + flaws.cut:
        results = tuple(_without_liveness(result, broke[0]) for result in results)
    verdicts = _verdicts(results, flaws)
    worst = _worst(verdicts.values())
    undecided = [f"{r.contract} {r.name}: {r.note}" for r in results if r.status is Status.UNKNOWN]
    plans = sorted(findings.plans, key=lambda plan: (findings.plans[plan].since, plan))
    return Judgement(
        worst, verdicts[SAFE], verdicts[LIVE], verdicts[HONEST],
        INTERRUPTED if flaws.stopped else _EXIT_CODES[worst],
        results, (*flaws.all, *undecided), flaws, dict(findings.counts), findings.reached(), fired, terms, findings.end,
        findings.budget_ended, {plan: findings.plans[plan].times for plan in plans}, frozenset(findings.together), index,
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


def _result(contract: str, findings: Findings, terms: Terms) -> Result:
    if contract in terms.wanted:
        return findings.tallies[contract].result()
    why = {"C12": "no budget was declared"}
    if terms.exactly_once:
        why["C2'"] = "C2 is demanded of every call at this gateway"
    return Result(contract, Status.NOT_DEMANDED, note=why.get(contract, "not asked for"))


def _flaws(findings: Findings, rules: Sequence[tuple[str, bool]], fired: Mapping[str, int]) -> Flaws:
    if findings.empty:
        return Flaws(findings.stopped, vacuous=("vacuous: the history is empty",))
    silent = {
        rule: "its fault never took effect" if rule in findings.fired else "the event that it waits for never happened"
        for rule, optional in rules
        if not fired[rule] and not optional
    }
    return Flaws(findings.stopped, findings.cut, findings.invalid, tuple(_vacuous(findings)), silent)


def _vacuous(findings: Findings) -> Iterator[str]:
    if not findings.answered:
        yield "vacuous: no turn came to its end"
    if not findings.counts["tool_calls"]:
        yield "vacuous: no tool call was issued"
    if not findings.counts["effects"]:
        yield "vacuous: no effect was committed"


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
    return next(v for v in WORST_FIRST if v in verdicts)


def unreadable(error: Exception, terms: Terms, rules: Sequence[tuple[str, bool]]) -> Judgement:
    """The judgement where not even an index could be made."""
    reason = f"the history could not be indexed: {last_line(error)}"
    status = {c: Status.UNKNOWN if c in terms.wanted else Status.NOT_DEMANDED for c in CONTRACTS}
    unknown = Verdict.UNKNOWN
    return Judgement(
        unknown, unknown, unknown, unknown, _EXIT_CODES[unknown],
        tuple(Result(c, status[c], note=reason) for c in CONTRACTS), (reason,), Flaws(vacuous=(reason,)),
        {"turns": 0, "tool_calls": 0, "effects": 0, "duplicates": 0, "lost": 0, "unattributed": 0},
        {}, {rule: 0 for rule, _ in rules}, terms, 0.0, None, {}, frozenset(), None,
    )
