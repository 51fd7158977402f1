"""What an event of a history costs: to be recorded, written to a file, read again and checked, as histories grow.

    python -m benchmarks.history [--events 1_000_000] [--rounds 3]

Turns of three calls and a dozen polls each, in histories of a hundredth of so many events, a tenth, and all of them; the
checkers judge all contracts, index included, once where all is calm and once where every 20th turn does everything twice.
Figures are microseconds of CPU per event. Exit 1 when a check takes more than 10 (a million events in 10 s), or when an event
costs clearly more in a long history than in a short one, at any step.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common.figures import Figure, command_line, finish, table
from contracts import judge
from fakes.gateway.profile import PROFILES
from fakes.history import (
    ActionRequired,
    Call,
    EffectCommitted,
    Event,
    History,
    Output,
    QuiesceEnded,
    RunCreated,
    RunEnded,
    RunTold,
    SubmitAccepted,
    SubmitReceived,
    ToolReplied,
    ToolRequested,
    TurnEnded,
    TurnPlanned,
    TurnSent,
    read,
)

T = TypeVar("T")
TARGET = 10.0
"""Microseconds of CPU in which an event is checked: a million in 10 s."""
LINEAR = 1.5
"""What an event may cost in a history a hundred times as long, times what it costs in a short one."""
STEPS = ("record in memory", "record to a file", "read the file", "check, calm", "check, 5 % twice")
TOOLS = ("create_ticket", "send_email", "refund_payment")


def events_of(size: int, duplicate_every: int | None = None) -> Iterator[Event]:
    """Turns of three calls and a dozen polls, until there are `size` events; each n-th turn does everything twice."""
    events: list[Event] = []
    count = turn = 0

    def add(cls: type[Event], **fields: Any) -> None:
        nonlocal count
        events.append(cls(seq=count + 1, t=count * 0.001, **fields))
        count += 1

    while count < size:
        yield from events
        events.clear()
        turn += 1
        twice = duplicate_every is not None and turn % duplicate_every == 0
        conversation, turn_id, run_id = f"C{turn}", f"turn_{turn}", f"run_{turn}"
        who = f"coordinator-{turn % 3 + 1}"
        about: dict[str, Any] = {"conversation": conversation}
        add(TurnPlanned, **about, turn_id=turn_id, calls=(TOOLS,))
        add(TurnSent, **about, turn_id=turn_id, instance=who, attempt=1)
        add(RunCreated, **about, run_id=run_id, thread_id=f"thread_{turn}", turn_id=turn_id, instance=who)
        calls = tuple(
            Call(tool_call_id=f"call_{turn}_{n}", tool=tool, position=n, nonce=f"C{turn}_{n}", payload_hash=f"{turn}/{n}")
            for n, tool in enumerate(TOOLS)
        )
        add(
            ActionRequired, **about, run_id=run_id, thread_id=f"thread_{turn}", step_id=f"step_{turn}", ordinal=0, generation=1,
            calls=calls, turn_id=turn_id,
        )
        waiting = tuple(call.tool_call_id for call in calls)
        outputs: list[Output] = []
        for attempt in range(2 if twice else 1):
            for _ in range(6):
                add(RunTold, **about, run_id=run_id, status="requires_action", via="poll", waiting_for=waiting, instance=who)
            for call in calls:
                request = f"req_{turn}_{call.position}_{attempt}"
                external = f"INC-{turn}{call.position}{attempt}"
                said = {**about, "request_id": request, "tool": call.tool, "nonce": call.nonce}
                said["tool_call_id"] = call.tool_call_id
                sent = {**said, "payload_hash": call.payload_hash, "run_id": run_id}
                add(ToolRequested, **sent, instance=who)
                add(EffectCommitted, **sent, effect_id=request, external_id=external)
                add(ToolReplied, **said, http_status=200, delivered=True, latency_ms=5.0, external_id=external, instance=who)
                if attempt == 0:
                    outputs.append(Output(tool_call_id=call.tool_call_id, output=f'{{"id":"{external}","status":"done"}}'))
        submit = {"run_id": run_id, "submit_id": f"submit_{turn}", "outputs": tuple(outputs), "instance": who, **about}
        add(SubmitReceived, **submit)
        add(SubmitAccepted, **submit, step_id=f"step_{turn}", ordinal=0)
        for _ in range(6):
            add(RunTold, **about, run_id=run_id, status="in_progress", via="poll", instance=who)
        add(RunEnded, **about, run_id=run_id, status="completed")
        add(TurnEnded, **about, turn_id=turn_id, status="done")
    add(QuiesceEnded, settled=True)
    yield from events


def cpu(work: Callable[[], T]) -> tuple[float, T]:
    """The CPU-seconds of some work, and what it gave; garbage of before is collected first."""
    gc.collect()
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def record(made: Sequence[tuple[type[Event], dict[str, Any]]], path: Path | None) -> None:
    """Record every event anew, as fakes and drivers do."""
    history = History(path=path)
    for cls, fields in made:
        history.record(cls, **fields)
    history.close()


def measure(size: int, folder: Path) -> dict[str, float]:
    """Microseconds of CPU per event at each step."""
    calm, twice = list(events_of(size)), list(events_of(size, 20))
    names = {cls: [f.name for f in dataclasses.fields(cls) if f.name not in ("seq", "t")] for cls in {type(e) for e in calm}}
    asked = [(type(event), {name: getattr(event, name) for name in names[type(event)]}) for event in calm]
    path = folder / "history.jsonl"
    took = {
        "record in memory": cpu(lambda: record(asked, None))[0],
        "record to a file": cpu(lambda: record(asked, path))[0],
    }
    took["read the file"], (_, events, _) = cpu(lambda: read(path))
    if [*map(type, events)] != [*map(type, calm)]:
        raise RuntimeError("what was read is not what was recorded")
    took["check, calm"], judgement = cpu(lambda: judge(calm, PROFILES["keyed"]))
    if judgement.violations:
        raise RuntimeError(f"violations in a calm history: {len(judgement.violations)}")
    took["check, 5 % twice"], judgement = cpu(lambda: judge(twice, PROFILES["keyed"]))
    if len(judgement.violations) < size // 10_000:
        raise RuntimeError(f"only {len(judgement.violations)} violations in a history with duplicates")
    return {step: took[step] / (len(twice) if step == "check, 5 % twice" else len(calm)) * 1e6 for step in STEPS}


def main() -> int:
    """Measure, print, and say whether the targets are met."""
    parser = command_line(__doc__)
    parser.add_argument("--events", type=int, help="of the longest history (default 1,000,000)")
    parser.add_argument("--rounds", type=int, help="of the shorter two; the best counts (default 3)")
    given = parser.parse_args()
    most = given.events or (40_000 if given.quick else 1_000_000)
    sizes = (max(400, most // 100), max(4_000, most // 10), most)
    best: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            rounds = 1 if size == most else given.rounds or 3
            rows = [measure(size, Path(folder)) for _ in range(rounds)]
            best[size] = {step: min(row[step] for row in rows) for step in STEPS}
            print(f"{size:,} events: " + ", ".join(f"{step} {took:.1f} us" for step, took in best[size].items()), flush=True)
    head = ["us of CPU per event", *(f"{size:,} events" for size in sizes), "longest / shortest"]
    growth = {step: best[most][step] / best[sizes[0]][step] for step in STEPS}
    print()
    print(table([head, *([step, *(f"{best[size][step]:.1f}" for size in sizes), f"{growth[step]:.2f}"] for step in STEPS)]))
    bounds = {step: TARGET if step.startswith("check") else None for step in STEPS}
    found = [Figure(step, best[most][step], "us of CPU per event", at_most=bounds[step]) for step in STEPS]
    found += [Figure(f"{step}: longest / shortest", growth[step], "of the cost of an event", at_most=LINEAR) for step in STEPS]
    return finish(given, found)


if __name__ == "__main__":
    sys.exit(main())
