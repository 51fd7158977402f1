"""What a run reached: which faults took effect on what, and which paths were walked, so that a green verdict can be trusted."""

from __future__ import annotations

from collections import Counter

from contracts.index import Index


def faults(index: Index) -> Counter[str]:
    """What was hit by which faults that took effect."""
    count: Counter[str] = Counter()
    for fault in index.faults.all:
        if fault.injected and index.counts(fault.events[0]):
            cause = index.event(fault.cause) if fault.cause is not None else None
            tool = getattr(cause, "tool", None)
            count[f"{fault.name} on {tool}" if tool else fault.name] += 1
    return count


def paths(index: Index) -> Counter[str]:
    """Which paths were walked."""
    count: Counter[str] = Counter()
    for run in index.runs.values():
        _run(index, run.run_id, count)
    for family in index.families:
        retried = max(0, len(family.attempts) - len(family.intents))
        retried += sum(len(intent.attempts) - 1 for intent in family.intents if intent.attempts)
        if retried:
            count["requests retried"] += retried
    for attempt in index.attempts.values():
        for reply in attempt.replies:
            if not reply.delivered:
                count["gateway answers lost"] += 1
            if reply.replayed:
                count["gateway answers brought back by a key"] += 1
        if attempt.definite_errors():
            count["tools failed for good"] += 1
        if attempt.posts:
            taken = sum(1 for post in attempt.posts if post.http_status is not None and 200 <= post.http_status < 300)
            count["callbacks taken more than once"] += max(0, taken - 1)
    for turn in index.turns.values():
        count["turns delivered again"] += max(0, len(turn.sent) - 1)
        count["turns with more than one run"] += len(turn.runs) > 1
    for exited in index.exits:
        if exited.expected and index.quiesced is not None and exited.seq > index.quiesced.seq:
            continue  # the run was over
        if index.counts(exited.seq):
            count["instances ended by a fault" if exited.expected else "instances ended by themselves"] += 1
    count["calls reported in doubt"] = sum(1 for call in index.calls.values() if call.in_doubt)
    return count


def _run(index: Index, run_id: str, count: Counter[str]) -> None:
    run = index.runs[run_id]
    accepted: dict[str, int] = {}
    for submit in run.submits:
        if submit.accepted is not None and not submit.accepted.repeat:
            for output in submit.accepted.outputs:
                accepted.setdefault(output.tool_call_id, submit.accepted.seq)
        if submit.refused is not None and 400 <= submit.refused.http_status < 500:
            count["submits refused 4xx"] += 1
        count["repeated submits answered 200"] += submit.accepted is not None and submit.accepted.repeat
    first = min(accepted.values(), default=None)
    for told in run.tells:
        if told.stale:
            count["stale answers"] += 1
        if first is not None and first < told.seq and any(accepted.get(c, told.seq) < told.seq for c in told.waiting_for):
            count["requires_action told again after accepted submit"] += 1
    for asked in run.asked:
        count["steps generated again"] += asked.generation > 1
    if run.called_off and run.ended is not None:
        count[f"runs {run.ended.status}"] += 1
