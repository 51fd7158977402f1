"""The incident of the Tuesday: the design as deployed and the hardened one, through the same plan with the same seed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anechoic import gate
from chaos import builtin
from chaos.wire.settings import Settings, by_name
from contracts.verdict import Verdict
from fakes import history as h
from fakes.gateway.profile import PROFILES

TURNS = 96
EVERY = 0.06
"""Seconds between two turns: 96 turns are the fifteen minutes."""
TOOL_TIMEOUT = 1.0
"""Seconds: long enough that a busy machine alone causes no timeout, which would not be the incident's."""
PATIENCE = 4.0
"""Seconds that open turns have before and after healing: as deployed, a submit that was refused once is never made again."""
WINDOW = (1.5, 4.0)
"""Seconds after the first turn between which things go wrong; the plan `incident` says the same."""
AFTERMATH = 1.5
"""Seconds after the window that still count to it: what it began ends there."""
TOOLS = ("create_ticket", "send_email", "refund_payment")


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """The numbers of Artifact 4 over one part of the run; rates between 0 and 1, latency in milliseconds."""

    http_5xx_rate: float
    p95_latency_ms: float
    submit_success: float
    dedup_miss_rate: float
    replica_restarts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Signal:
    """One of the seed's signals S1 to S7: whether it was seen, and what exactly."""

    id: str
    about: str
    seen: bool
    evidence: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tuesday:
    """What one coordinator did with the fifteen minutes."""

    name: str
    outcome: gate.Outcome
    duplicates: dict[str, int]
    """effects beyond the first for one intent, by tool"""
    calm: Window
    storm: Window
    signals: tuple[Signal, ...]
    story: tuple[str, ...]
    """one duplicate, told in the lines of the logs; empty where there is none"""

    @property
    def in_doubt(self) -> int:
        """Calls that the coordinator reported as undecided instead of repeating them."""
        return len({e.tool_call_id for e in h.of_kind(self.outcome.history.events, h.InDoubtReported)})


def reproduced(tuesday: Tuesday) -> bool:
    """Whether the incident was reproduced: duplicates of customers' effects, every signal seen, and SAFE says fail."""
    return (
        sum(tuesday.duplicates.values()) > 0
        and all(s.seen for s in tuesday.signals)
        and tuesday.outcome.judgement.safe is Verdict.FAIL
    )


def held(tuesday: Tuesday) -> bool:
    """Whether the cure held: no duplicate, nothing lost silently, every verdict pass."""
    return sum(tuesday.duplicates.values()) == 0 and tuesday.outcome.judgement.verdict is Verdict.PASS


async def run(name: str, seed: int, toxiproxy: str | None, report_dir: Path, observer: gate.Observer) -> Tuesday:
    """One coordinator through the incident, three instances, at the keyless gateway of the seed. Raises as `gate.run` does."""
    settings = Settings(
        coordinator=by_name(name), gateway=PROFILES["keyless"], seed=seed, instances=3, in_flight=TURNS,
        toxiproxy=toxiproxy, report_dir=report_dir, turn_budget=PATIENCE, quiesce_budget=PATIENCE,
        tool_timeout=TOOL_TIMEOUT,
    )
    reproduce = f"anechoic gate --coordinator {name} --gateway keyless --plan incident --turns {TURNS} --seed {seed}"
    asked = gate.Gate(settings, turns=TURNS, plans=[builtin.find("incident")], reproduce=reproduce, every=EVERY)
    outcome = await gate.run(asked, observer)
    return measure(name, outcome, report_dir / "logs")


def measure(name: str, outcome: gate.Outcome, logs: Path) -> Tuesday:
    """Everything that the report says, from the history, and from the logs what only they say (dedup results, timeouts)."""
    events = outcome.history.events
    start = next((e.t for e in events if isinstance(e, h.TurnPlanned)), 0.0)  # a moment after the plan's own clock
    began, ended = start + WINDOW[0] - 0.1, start + WINDOW[1] + AFTERMATH
    submissions = list(_submissions(logs))
    repeats = _repeats(events)
    misses = _missed_repeats(events, submissions)
    stormy = {e.run_id for e in h.of_kind(events, h.RunCreated) if began <= e.t < ended}

    def window(inside: bool) -> Window:
        mine = [e for e in events if (began <= e.t < ended) == inside]
        replies = [e for e in mine if isinstance(e, h.ToolReplied)]
        received = [e.submit_id for e in mine if isinstance(e, h.SubmitReceived)]
        accepted = {e.submit_id for e in events if isinstance(e, h.SubmitAccepted)}
        of_window = [miss for line, miss in zip(submissions, misses, strict=True) if (line.get("run_id") in stormy) == inside]
        return Window(
            http_5xx_rate=_share(sum(r.http_status >= 500 for r in replies), len(replies)),
            p95_latency_ms=_p95([r.latency_ms for r in replies]),
            submit_success=_share(sum(s in accepted for s in received), len(received)) if received else 1.0,
            dedup_miss_rate=_share(sum(of_window), len(of_window)),
            replica_restarts=sum(isinstance(e, h.ReplicaExited) for e in mine),
        )

    calm, storm = window(False), window(True)
    duplicates: Counter[str] = Counter()
    for group in repeats:
        duplicates[group[0].tool] += len(group) - 1
    return Tuesday(
        name, outcome, {tool: duplicates[tool] for tool in TOOLS}, calm, storm,
        tuple(_signals(events, repeats, calm, storm, logs, (began, ended))), tuple(_story(events, repeats, logs)),
    )


def _repeats(events: Sequence[h.Event]) -> list[list[h.EffectCommitted]]:
    """Groups of effects of one intent (one nonce), where there are more than the calls that ask for it at once."""
    asked: dict[str | None, set[tuple[int, int]]] = defaultdict(set)
    effects: dict[str | None, list[h.EffectCommitted]] = defaultdict(list)
    for event in events:
        if isinstance(event, h.ActionRequired):
            for call in event.calls:
                asked[call.nonce].add((event.ordinal, call.position))
        elif isinstance(event, h.EffectCommitted):
            effects[event.nonce].append(event)
    return [group[len(asked[nonce]) - 1 :] for nonce, group in effects.items() if nonce and len(group) > len(asked[nonce]) > 0]


def _missed_repeats(events: Sequence[h.Event], submissions: Sequence[dict[str, Any]]) -> list[bool]:
    """For each dedup look-up whether it was a MISS although the same intent had been looked up before."""
    nonce = {c.tool_call_id: (c.nonce, c.position) for e in h.of_kind(list(events), h.ActionRequired) for c in e.calls}
    seen: set[object] = set()
    out: list[bool] = []
    for line in submissions:
        intent = nonce.get(line.get("tool_call_id", ""))
        out.append(line.get("dedup_result") == "MISS" and intent in seen)
        seen.add(intent)
    return out


def _signals(
    events: Sequence[h.Event], repeats: list[list[h.EffectCommitted]], calm: Window, storm: Window, logs: Path,
    window: tuple[float, float],
) -> Iterator[Signal]:
    pairs = [(a, b) for group in repeats for a, b in itertools.pairwise(group)]
    same = [(a, b) for a, b in pairs if a.payload_hash == b.payload_hash]
    gap = f", {min(b.t - a.t for a, b in same):.2f} to {max(b.t - a.t for a, b in same):.2f} s apart" if same else ""
    yield Signal("S1", "duplicates with the same payload_hash, close together", bool(same), f"{len(same)} pairs{gap}")
    steps = {(e.run_id, e.ordinal) for e in h.of_kind(list(events), h.ActionRequired)}
    runs = {run for run, _ in steps}
    twice = {b.run_id for _, b in pairs} & runs
    yield Signal("S2", "one logical step in the run's history, two creates outside", bool(twice), f"{len(twice)} runs")
    exits = [e for e in h.of_kind(list(events), h.ReplicaExited) if window[0] <= e.t < window[1]]
    overlap = [b for _, b in pairs if window[0] <= b.t < window[1]]
    yield Signal(
        "S3", "replica restarts overlap the duplicates", bool(exits and overlap),
        f"{len(exits)} restarts, {len(overlap)} of {len(pairs)} duplicates within the same {window[1] - window[0]:g} s",
    )
    yield Signal(
        "S4", "submit dedup MISS rate up while dedup works", storm.dedup_miss_rate > calm.dedup_miss_rate,
        f"{calm.dedup_miss_rate:.1%} to {storm.dedup_miss_rate:.1%}",
    )
    again = _told_again(events).total()
    yield Signal("S5", "requires_action polled again for the same calls", again > 0, f"{again} times after they were sent out")
    timeouts = sum(path.read_text(errors="replace").count("tool_timeout") for path in sorted(logs.glob("coordinator-*.out")))
    invoked: Counter[object] = Counter((e.tool_call_id, e.payload_hash) for e in h.of_kind(list(events), h.ToolRequested))
    second = sum(n > 1 for n in invoked.values())
    yield Signal(
        "S6", "timeout, then a second invocation with the same arguments", timeouts > 0 and second > 0,
        f"{timeouts} timeout warnings, {second} calls invoked more than once",
    )
    yield Signal(
        "S7", "gateway error rate flat", storm.http_5xx_rate <= calm.http_5xx_rate + 0.005,
        f"{calm.http_5xx_rate:.1%} to {storm.http_5xx_rate:.1%}",
    )


def _told_again(events: Sequence[h.Event]) -> Counter[str]:
    """How often each run was polled in requires_action although all that it waits for had been sent out."""
    sent: dict[str, set[str]] = defaultdict(set)
    again: Counter[str] = Counter()
    for event in events:
        if isinstance(event, h.ToolRequested) and event.run_id and event.tool_call_id:
            sent[event.run_id].add(event.tool_call_id)
        elif isinstance(event, h.RunTold) and event.waiting_for and event.via == "poll":
            again[event.run_id] += sent[event.run_id].issuperset(event.waiting_for)
    return again


def _story(events: Sequence[h.Event], repeats: list[list[h.EffectCommitted]], logs: Path) -> Iterator[str]:
    """One duplicate in the words of Artifacts 1 to 3, in the order of their time stamps."""
    if not repeats:
        return
    again = _told_again(events)

    def unlike_the_seed(group: list[h.EffectCommitted]) -> tuple[bool, bool, bool, int]:
        first, second = group[:2]
        return (
            len(group) > 2 or first.tool_call_id != second.tool_call_id, again[first.run_id or ""] < 2,
            first.tool != "create_ticket", first.seq,
        )

    group = min(repeats, key=unlike_the_seed)
    runs = {e.run_id for e in group if e.run_id}
    calls = {e.tool_call_id for e in group if e.tool_call_id}
    ids = {e.external_id for e in group}
    lines: list[str] = []
    for path in sorted(logs.glob("*")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            wanted = (
                any(i in line for i in ids) if "AUDIT" in line
                else any(c in line for c in calls) if "dedup_key" in line or "tool_timeout" in line
                else any(r in line for r in runs) if ("run_status" in line and "requires_action" in line) or "llm-serve" in line
                else False
            )
            if wanted:
                lines.append(line)
    yield from sorted(lines, key=_stamp)


def _stamp(line: str) -> str:
    """The time of day of a log line: ISO dates, JSON and bare times all carry it first in this form."""
    found = re.search(r"\d\d:\d\d:\d\d\.\d{3}", line)
    return found[0] if found else ""


def _submissions(logs: Path) -> Iterator[dict[str, Any]]:
    """The submission handlers' log lines (Artifact 2), all instances together, in the order of time."""
    found: list[dict[str, Any]] = []
    for path in sorted(logs.glob("coordinator-*.out")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if '"dedup_result"' in line:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
    yield from sorted(found, key=lambda line: str(line.get("ts", "")))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else (values[0] if values else 0.0)
