"""How fast the contracts judge: a history of about a million events, once calm and once full of duplicates.

    python benchmarks/checkers.py [EVENTS]

Prints events per second. The figure to reach is 1 million events in 10 s, and twice
the events may take twice the time only.
"""

from __future__ import annotations

import sys
import time

from contracts import judge
from fakes.gateway.profile import PROFILES
from fakes.history import (
    ActionRequired,
    Call,
    EffectCommitted,
    Event,
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
)

TOOLS = ("create_ticket", "send_email", "refund_payment")


def history(size: int, duplicate_every: int | None = None) -> list[Event]:
    """Turns of three calls and a dozen polls, until there are `size` events; each n-th turn does everything twice."""
    events: list[Event] = []

    def add(cls: type[Event], **fields: object) -> None:
        events.append(cls(seq=len(events) + 1, t=len(events) * 0.001, **fields))

    turn = 0
    while len(events) < size:
        turn += 1
        twice = duplicate_every is not None and turn % duplicate_every == 0
        conversation, turn_id, run_id = f"C{turn}", f"turn_{turn}", f"run_{turn}"
        who = f"coordinator-{turn % 3 + 1}"
        about = {"conversation": conversation}
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
    return events


def measure(what: str, events: list[Event]) -> None:
    """Print how long the judgement takes, its index included."""
    start, cpu = time.perf_counter(), time.process_time()
    judgement = judge(events, PROFILES["keyed"])
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{what:<28}{len(events):>9,} events in {took:5.2f} s ({used:5.2f} s of CPU) = {len(events) / took:>9,.0f} events/s  "
        f"{judgement.verdict}, {len(judgement.violations):,} violations"
    )


def main() -> None:
    """Measure half the size and the whole, calm and with a duplicate in every 20th turn."""
    size = int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 1_000_000
    for part in (size // 2, size):
        measure("calm", history(part))
        measure("duplicates in 5 % of turns", history(part, 20))


if __name__ == "__main__":
    main()
