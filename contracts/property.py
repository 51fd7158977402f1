"""The property: every contract that the gateway's profile makes possible holds, whatever is asked and whatever breaks.

`search` looks for a case that falsifies it, in either world, and makes that case as small as it can be. A failure is known by
its contract and its shape, and stays that one while it shrinks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.case import Case
from contracts.counterexample import Kept
from contracts.minimise import minimise
from contracts.profiles import RetryBudget, demand
from contracts.result import Status, Violation
from contracts.strategies import SIZE, decode, pairs, sweep
from contracts.trial import InSimulation, OutOfTime, Runner, Trial
from contracts.verdict import Verdict
from fakes.gateway.profile import Profile

EXAMPLES = 300
SHRINK_SECONDS = 60.0
"""At most so long is spent on making a case smaller."""


class BrokenContract(AssertionError):
    """A contract was broken; the message names it. `violation` is what was broken."""

    violation: Violation


@functools.cache
def _kind_of_broken(contract: str, shape: str) -> type[BrokenContract]:
    """A class for each way to break a contract: Hypothesis tells failures apart by their class, and shrinks each by itself."""
    name = f"Broken{''.join(c for c in contract if c.isalnum())}"
    return type(name, (BrokenContract,), {"__module__": __name__, "shape": shape})


def broken(violation: Violation, told: str = "") -> BrokenContract:
    """The exception for a violation, to be raised by a test of one's own."""
    error = _kind_of_broken(violation.contract, violation.shape)(f"{violation.contract}: {violation.message}\n{told}".rstrip())
    error.violation = violation
    return error


@dataclasses.dataclass(slots=True)
class Tally:
    """What a search saw over all its examples. `reached` counts as verdicts do, `words` how often each fault took effect."""

    examples: int = 0
    turns: int = 0
    calls: int = 0
    effects: int = 0
    fired: int = 0
    seconds: float = 0.0
    reached: Counter[str] = dataclasses.field(default_factory=Counter)
    invalid: Counter[str] = dataclasses.field(default_factory=Counter)
    undecided: Counter[str] = dataclasses.field(default_factory=Counter)
    known: Counter[Violation] = dataclasses.field(default_factory=Counter)
    """violations that are known and accepted"""

    def add(self, trials: Sequence[Trial]) -> None:
        """Count these trials, which share one judgement if they are several."""
        self.examples += len(trials)
        self.turns += sum(len(trial.case.turns) for trial in trials)
        judgement = trials[0].judgement
        self.calls += judgement.counts["tool_calls"]
        self.effects += judgement.counts["effects"]
        self.fired += sum(judgement.fired.values())
        self.reached.update(judgement.reached)
        if Verdict.INVALID in (judgement.safe, judgement.live, judgement.honest):
            self.invalid[judgement.reasons[0]] += 1
        self.undecided.update(f"{r.contract} {r.name}: {r.note}" for r in judgement.results if r.status is Status.UNKNOWN)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A case that breaks a contract.

    `case` is the smallest one, `first` the one that was found, at example number `examples`; `tried` counts the cases tried
    while shrinking, `seconds` are those of the search and of the shrinking. `confirmed` of `confirmations` runs of the
    smallest case broke it again, in `world`.
    """

    case: Case
    violation: Violation
    trial: Trial
    first: Case
    examples: int
    tried: int
    seconds: float
    tally: Tally
    world: str
    confirmed: int = 1
    confirmations: int = 1

    @property
    def verdict(self) -> Verdict:
        """It was falsified."""
        return Verdict.FAIL


@dataclasses.dataclass(frozen=True, slots=True)
class Survived:
    """No case was found that breaks a contract; `why` says what keeps that from being a pass, if anything does."""

    examples: int
    seconds: float
    tally: Tally
    world: str
    out_of_time: bool = False

    @property
    def verdict(self) -> Verdict:
        """Pass, where something was put to the test and everything could be decided."""
        if self.tally.invalid:
            return Verdict.INVALID
        return Verdict.UNKNOWN if self.why else Verdict.PASS

    @property
    def why(self) -> tuple[str, ...]:
        """What was wrong with the search."""
        tally = self.tally
        out = [f"{reason} ({count} examples)" for reason, count in tally.invalid.items()]
        needed = {"example was tried": tally.examples, "fault fired": tally.fired, "effect was committed": tally.effects}
        out += [f"vacuous: no {what}" for what, count in needed.items() if not count]
        return (*out, *(f"{reason} ({count} examples)" for reason, count in tally.undecided.items()))


def search(
    coordinator: object,
    profile: Profile,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    derandomize: bool = False,
    max_time: float | None = None,
    runner: Runner | None = None,
    shrinker: Runner | None = None,
    confirmations: int = 1,
    database: Path | None = None,
    demanded: Sequence[str] = (),
    retry_budget: RetryBudget | None = None,
    fixed: Mapping[str, Any] | None = None,
    shrink: bool = True,
    shrink_seconds: float = SHRINK_SECONDS,
    known: Callable[[Violation], bool] = lambda violation: False,
    on_trial: Callable[[Tally], None] = lambda tally: None,
) -> Found | Survived:
    """Look for a case that breaks a contract, and make it small.

    Args:
        coordinator: what `chaos.simulation` takes, or any word for it where `runner` knows how it is started.
        examples: how many cases to try, at most.
        derandomize: the same cases in every run, whatever the seed, and no database.
        max_time: real seconds after which no further example is begun.
        runner: the world to search in; the simulation when left out.
        shrinker: the world to shrink in, where the case fails there, too; the runner itself when left out.
        confirmations: how often the smallest case is run again in the world that was searched.
        database: folder in which failing cases are kept, to be tried first the next time.
        demanded: contracts, by default all that are possible. Raises ImpossibleDemand.
        fixed: fields of `Case` that are to be as given, such as `instances`.
        shrink: whether the case that was found is made smaller.
        shrink_seconds: real seconds after which no smaller case is tried.
        known: whether a violation is accepted; it is counted and does not end the search.

    Raises SimulationError or WireError when the coordinator cannot be run.
    """
    demand(profile, demanded or None, retry_budget)
    run = runner if runner is not None else InSimulation(coordinator)
    label = coordinator if isinstance(coordinator, str) else str(getattr(run, "label", None) or type(coordinator).__name__)
    hunt = _Hunt(run, Tally(), time.monotonic(), examples, max_time, on_trial, known)

    def read(data: bytes) -> Case:
        case = decode(
            data, coordinator=label, profile=profile, world=run.world, demand=demanded, retry_budget=retry_budget
        )
        return dataclasses.replace(case, **(fixed or {}))

    if derandomize:
        seed, database = 0, None
    kept = None if database is None else Kept(database, f"{label}/{profile.name}/{run.world}")
    with contextlib.suppress(_Over):
        if kept is not None:
            for case in kept.cases():
                again = dataclasses.replace(case, demand=tuple(demanded))
                if hunt.try_all([again]).failed is None and again == case:
                    kept.forget(case)
        planned = map(read, _alternating(sweep(profile, seed, run.world), pairs(profile, seed, run.world)))
        (_draw if run.batch == 1 else _draw_batches)(hunt, read, planned, seed)
    hunt.tally.seconds = time.monotonic() - hunt.began
    if hunt.failed is None:
        return Survived(hunt.tally.examples, hunt.tally.seconds, hunt.tally, run.world, hunt.out_of_time)
    found = hunt.failed
    # what is wrong tells more than what is missing
    new = hunt.new(found)
    target = next((v for v in new if not v.liveness), new[0])
    if not shrink:
        return Found(
            found.case, target, found, found.case, hunt.tally.examples, 0, hunt.tally.seconds, hunt.tally, run.world
        )
    small = _small(found, target, hunt, shrinker, confirmations, shrink_seconds)
    if kept is not None:
        kept.keep(small.case, target)
    return small


def still_breaks(case: Case, target: Violation, runner: Runner | None = None) -> bool:
    """Whether the case breaks the same contract in the same way."""
    return next(iter((runner or InSimulation())([case]))).breaks(target)


def check(case: Case, runner: Runner | None = None) -> Trial:
    """Run one case. Raises BrokenContract when it breaks a contract: what a test of one's own calls."""
    trial = next(iter((runner or InSimulation())([case])))
    if trial.violations:
        raise broken(trial.violations[0], str(case))
    return trial


# --- how it is done -----------------------------------------------------------------------------------------------------


class _Over(BaseException):
    """Ends the search past Hypothesis, which takes only an `Exception` for a falsified example."""


@dataclasses.dataclass(slots=True)
class _Hunt:
    """A search under way."""

    runner: Runner
    tally: Tally
    began: float
    examples: int
    max_time: float | None
    on_trial: Callable[[Tally], None]
    known: Callable[[Violation], bool]
    failed: Trial | None = None
    out_of_time: bool = False

    @property
    def left(self) -> int:
        """How many examples may still be tried."""
        return self.examples - self.tally.examples

    def new(self, trial: Trial) -> list[Violation]:
        """The violations of a trial that are not accepted."""
        return [violation for violation in trial.violations if not self.known(violation)]

    def try_all(self, cases: Sequence[Case]) -> _Hunt:
        """Try the cases. Ends the search with `_Over` when one has failed before, or the time or the examples are used up."""
        if self.max_time is not None and time.monotonic() - self.began > self.max_time:
            self.out_of_time = True
            raise _Over
        if self.failed is not None or self.left < 1:
            raise _Over
        try:
            trials = list(self.runner(cases))
        except OutOfTime:
            self.out_of_time = True
            raise _Over from None
        self.tally.add(trials)
        self.tally.known.update(v for trial in trials for v in trial.violations if self.known(v))
        self.on_trial(self.tally)
        self.failed = next((trial for trial in trials if self.new(trial)), None)
        return self


def _alternating(*sources: Iterator[bytes]) -> Iterator[bytes]:
    """One of each source, again and again."""
    return itertools.chain.from_iterable(zip(*sources, strict=True))


def _draw_batches(hunt: _Hunt, read: Callable[[bytes], Case], planned: Iterator[Case], seed: int) -> None:
    dice = random.Random(f"search/{seed}")
    while True:
        size = min(hunt.runner.batch, max(1, hunt.left))
        drawn = [next(planned) if n % 3 else read(dice.randbytes(SIZE)) for n in range(size)]
        first = drawn[0]  # they are in one world, so what is the world's must be the same for all
        same: dict[str, Any] = {"instances": first.instances, "repeat_submit": first.repeat_submit}
        hunt.try_all([dataclasses.replace(case, **same) for case in drawn])


def _draw(hunt: _Hunt, read: Callable[[bytes], Case], planned: Iterator[Case], seed: int) -> None:
    """Every third case is Hypothesis's; those between go through all faults one by one, and through telling pairs of them."""
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    @seeded(seed)
    @settings(
        max_examples=hunt.examples, deadline=None, database=None, phases=[Phase.generate], verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )
    @given(st.binary(min_size=SIZE, max_size=SIZE))
    def holds(data: bytes) -> None:
        hunt.try_all([read(data)])
        for case in itertools.islice(planned, 2):
            hunt.try_all([case])

    holds()


def _small(
    found: Trial, target: Violation, hunt: _Hunt, shrinker: Runner | None, confirmations: int, seconds: float
) -> Found:
    deadline = time.monotonic() + seconds

    def breaks(trial: Trial) -> bool:
        return any(violation.like(target) for violation in hunt.new(trial))

    starts = [found.case, found.among] if found.among is not None else [found.case]
    worlds = [world for world in (shrinker, hunt.runner) if world is not None]
    tried = 0
    last, world = found, hunt.runner
    if found.among is not None or shrinker is not None:
        for start, there in ((start, there) for there in worlds for start in starts):
            tried += 1
            again = _first(there, [start], breaks)
            if again is not None:
                last, world = again, there
                break

    def first_failing(cases: Sequence[Case]) -> int | None:
        nonlocal last
        failed = _first(world, cases, breaks)
        if failed is None:
            return None
        last = failed
        return next(n for n, case in enumerate(cases) if case is failed.case)

    case, more = minimise(last.case, first_failing, over=lambda: time.monotonic() > deadline)
    seconds = time.monotonic() - hunt.began
    confirmed = list(_again(hunt.runner, case, breaks, confirmations))
    violation = next(v for v in hunt.new(last) if v.like(target))
    return Found(
        case, violation, last, found.case, hunt.tally.examples, tried + more, seconds, hunt.tally, hunt.runner.world,
        sum(confirmed), len(confirmed),
    )


def _again(runner: Runner, case: Case, breaks: Callable[[Trial], bool], times: int) -> Iterator[bool]:
    """Whether it breaks again, so often as there is time for."""
    with contextlib.suppress(OutOfTime):
        for _ in range(times):
            yield any(breaks(trial) for trial in runner([case], apart=True))


def _first(runner: Runner, cases: Sequence[Case], breaks: Callable[[Trial], bool]) -> Trial | None:
    try:
        return next((trial for trial in runner(cases, apart=True) if breaks(trial)), None)
    except OutOfTime:
        return None
