"""Histories that do not fit into memory, judged exactly: dealt out into parts on disk, each judged as it is, and added up.

Whatever can bear on the judgement of one event is in the same part (`contracts.kinship`); what is about everybody is in all of
them. Three passes over the file: find out who is kin, deal out, judge. The files are temporary and have no names, so nothing is
left of them whatever ends the process; they take about as much space as the history itself.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from chaos.collector import collector_paused
from contracts.checks.progress import ISOLATED
from contracts.findings import Findings, examine
from contracts.index import Index, Part
from contracts.kinship import NOBODYS, SHARED, Column, Kinship, nameless
from contracts.profiles import RetryBudget, Terms, demand
from contracts.verdict import Judgement, conclude, judge, unreadable
from fakes.encoding import decode
from fakes.gateway.profile import Profile
from fakes.history import Event, FaultHealed, FaultInjected, FaultIntended, HistoryError, HistoryFile, from_json

LARGE = 64 << 20
"""Bytes of a history file from which on it is worth to be judged in parts."""
PART = 60_000
"""Events that a part should have."""
MOST = 128
"""Parts at most: each is an open file."""
SHARE = 32 << 20
"""Bytes of the history for one share of its ids."""
MOST_SHARES = 48
TOLD_EVERY = 8192

Tell = Callable[[str, float], None]
"""Takes what is being done, and how much of it is done (0 to 1)."""


class Parts:
    """A history that was dealt out; `judge` it as often as wanted."""

    def __init__(self, file: HistoryFile, parts: list[IO[bytes]], common: Part, tell: Tell) -> None:
        self._file = file
        self._parts = parts
        self._common = common
        self._tell = tell
        self._judged = 0

    def __len__(self) -> int:
        return len(self._parts)

    def judge(
        self, profile: Profile, *, wanted: Iterable[str] | None = None, expected_rules: Iterable[tuple[str, bool]] = (),
        retry_budget: RetryBudget | None = None,
    ) -> Judgement:
        """The judgement that `contracts.judge` gives of all events, with the same arguments; its stories are in the file."""
        terms, rules = demand(profile, wanted, retry_budget), list(expected_rules)
        try:
            whole = self._examined(terms)
        except HistoryError:
            raise
        except Exception as error:
            return unreadable(error, terms, rules)
        return conclude(whole, terms, rules, _Stories(self._file, whole.senders))

    def _examined(self, terms: Terms) -> Findings:
        """The findings of all parts. When one of them shows what others have to know, these are judged once more."""
        common, found = self._common, dict[int, Findings]()
        waiting, done = deque(range(len(self._parts))), 0
        while waiting:
            number = waiting.popleft()
            self._tell("judging", done / (done + len(waiting) + 1))
            found[number] = part = self._examine(number, terms, common)
            done += 1
            known = dataclasses.replace(
                common, nameless=common.nameless or part.nameless, stray=common.stray | part.stray
            )
            if known != common:
                common = known
                waiting.extend(sorted(found.keys() - {number}))
                found = {number: part}
        whole = found.pop(0)
        for part in found.values():
            whole.merge(part)
        return whole

    def _examine(self, number: int, terms: Terms, common: Part) -> Findings:
        if self._judged > PART / 2:
            gc.collect()  # an index is full of cycles, and the next one needs its memory
            self._judged = 0
        with collector_paused():
            events = list(_events(self._parts[number]))
            self._judged += len(events)
            return examine(Index(events, dataclasses.replace(common, first=number == 0)), terms)


@contextmanager
def dealt_out(
    file: HistoryFile, *, parts: int | None = None, watch: Callable[[Event], None] = lambda event: None,
    tell: Tell = lambda what, share: None,
) -> Iterator[Parts]:
    """Deal a history out into parts, which are there until the block ends.

    Args:
        parts: how many; left out, as many as make them fit into some 200 MB of memory, and at most `MOST`.
        watch: is given every event once, in order.

    Raises HistoryError for a damaged file, and OSError when there is no space for the temporary files (see TMPDIR).
    """
    with ExitStack() as kept:
        with ExitStack() as aside:
            size = max(1, file.size)
            kinship = Kinship(aside, min(MOST_SHARES, 1 + size // SHARE))
            nodes = Column(aside)
            healed: dict[tuple[str, str], int] = {}
            rules: dict[tuple[str, str], int] = {}
            count, end, poisoned = 0, 0.0, False
            for event in file:
                count, end = count + 1, event.t
                watch(event)
                rule = 0
                if isinstance(event, FaultIntended | FaultInjected):
                    rule = rules.setdefault((event.rule, event.fault), len(rules) + 1)
                    hit = isinstance(event, FaultInjected) and event.fault in ISOLATED
                    poisoned = poisoned or (hit and event.conversation is not None)
                elif isinstance(event, FaultHealed):
                    healed[event.rule, event.fault] = 0
                nodes.add(kinship.add(event), rule)
                if count % TOLD_EVERY == 0:
                    tell("reading", file.position / size)
            kinship.settle()
            number = parts or max(1, min(MOST, math.ceil(count / PART)))
            into = [kept.enter_context(nameless()) for _ in range(number)]
            # a rule that heals is paired by order over all conversations, so all its faults are everybody's
            everybodys = {rules[pair] for pair in healed if pair in rules}
            shared = set[int]()
            dealt = 0
            for seq, (line, (node, rule)) in enumerate(zip(file.lines(), nodes, strict=False), start=1):
                dealt = seq
                if node == SHARED or rule in everybodys:
                    shared.add(seq)
                    for part in into:
                        part.write(line)
                elif node != NOBODYS:
                    into[kinship.of(node) % number].write(line)
                if seq % TOLD_EVERY == 0:
                    tell("dealing out", seq / count)
            if dealt != count:
                raise HistoryError(f"{file.path} became shorter while it was read: {dealt} events after {count}")
        yield Parts(file, into, Part(end, not count, file.event, shared, poisoned=poisoned), tell)


def judge_file(
    path: Path, profile: Profile, *, wanted: Iterable[str] | None = None, expected_rules: Iterable[tuple[str, bool]] = (),
    retry_budget: RetryBudget | None = None, parts: int | None = None, tell: Tell = lambda what, share: None,
) -> Judgement:
    """Judge a history file: a large one, or where `parts` says how many, in parts (see `dealt_out`), a small one whole."""
    file = HistoryFile(path)
    if parts is None and file.size <= LARGE:
        return judge(list(file), profile, wanted=wanted, expected_rules=expected_rules, retry_budget=retry_budget)
    with dealt_out(file, parts=parts, tell=tell) as dealt:
        return dealt.judge(profile, wanted=wanted, expected_rules=expected_rules, retry_budget=retry_budget)


class _Stories:
    """Tells stories out of the file."""

    def __init__(self, file: HistoryFile, senders: dict[str, str | None]) -> None:
        self._file = file
        self._senders = senders

    def event(self, seq: int) -> Event | None:
        """The event of that number."""
        return self._file.event(seq)

    def sender(self, request_id: str) -> str | None:
        """The instance that sent a request to a tool, of those that violations are about."""
        return self._senders.get(request_id)


def _events(part: IO[bytes]) -> Iterator[Event]:
    part.seek(0)
    for line in part:
        yield from_json(decode(line))
