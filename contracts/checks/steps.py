"""C4 step_order and C6 complete_batch: what a submit may carry, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from contracts.checks.common import RACE_WINDOW, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Run, Submit
from contracts.result import Tally
from fakes.history import ActionRequired, SubmitReceived


def step_order(index: Index, terms: Terms) -> Tally:
    """Submits follow step order, and none mixes calls of two steps.

    Outputs that were accepted before and come again unchanged are a repeat, and no matter of order; repeats are judged by C8.
    """
    tally = Tally("C4")
    repeats = 0
    for run in tally.each(index.runs.values()):
        highest = -1
        accepted: dict[str, str] = {}
        for submit, current in _received(run):
            received = submit.received
            if received is not None:
                tally.checked += 1
                ordinals = {run.calls[o.tool_call_id].ordinal for o in received.outputs if o.tool_call_id in run.calls}
                if len(ordinals) > 1:
                    _violate(
                        tally, index, run, submit, "mixed",
                        f"a submit to {run.run_id} mixes calls of steps {' and '.join(map(str, sorted(ordinals)))}; "
                        "the calls of one step were expected",
                    )
                elif current and ordinals and max(ordinals) < current[0].ordinal:
                    if all(accepted.get(o.tool_call_id) == o.output for o in received.outputs):
                        repeats += 1
                    elif _knew_better(index, run, submit, max(ordinals)):
                        _violate(
                            tally, index, run, submit, "earlier",
                            f"a submit to {run.run_id} names step {max(ordinals)} after its instance was told that the run "
                            f"waits for a later step; outputs for step {current[0].ordinal} were expected",
                        )
            if submit.accepted is not None and not submit.accepted.repeat:
                if submit.accepted.ordinal < highest:
                    _violate(
                        tally, index, run, submit, "backwards",
                        f"{run.run_id} accepted outputs for step {submit.accepted.ordinal} after those for step {highest}; "
                        "steps were expected in order",
                    )
                highest = max(highest, submit.accepted.ordinal)
                accepted.update((o.tool_call_id, o.output) for o in submit.accepted.outputs)
    tally.count(repeats, "submits repeated an earlier step unchanged")
    return tally


def complete_batch(index: Index, terms: Terms) -> Tally:
    """Each submit carries exactly the calls of the step in force: all of them, once, and no others.

    The calls of an earlier generation of the step are as good: their ids went away behind the sender's back. Repeats of
    earlier steps are judged by C4 and C8.
    """
    tally = Tally("C6")
    for run in tally.each(index.runs.values()):
        for submit, generations in _received(run):
            if submit.received is None:
                continue
            ids = [o.tool_call_id for o in submit.received.outputs]
            known = {run.calls[i].ordinal for i in ids if i in run.calls}
            earlier = generations and len(known) == 1 and max(known) < generations[0].ordinal
            if earlier and all(i in run.calls for i in ids):
                continue
            tally.checked += 1
            if any(sorted(ids) == sorted(c.tool_call_id for c in a.calls) for a in generations):
                continue
            shape, seen = _wrong_batch(ids, generations[-1] if generations else None)
            expected = ", ".join(c.tool_call_id for c in generations[-1].calls) if generations else "no outputs yet"
            _violate(tally, index, run, submit, shape, f"a submit to {run.run_id} {seen}; expected: {expected}")
    return tally


def _received(run: Run) -> Iterator[tuple[Submit, list[ActionRequired]]]:
    """The run's submits in order, each with the generations of the step in force when it came."""
    asked = iter(run.asked)
    ahead = next(asked, None)
    current: list[ActionRequired] = []
    for submit in run.submits:
        event = submit.received or submit.accepted or submit.refused
        while ahead is not None and event is not None and ahead.seq < event.seq:
            current = [*current, ahead] if current and current[0].ordinal == ahead.ordinal else [ahead]
            ahead = next(asked, None)
        yield submit, current


def _wrong_batch(ids: list[str], step: ActionRequired | None) -> tuple[str, str]:
    wanted = [c.tool_call_id for c in step.calls] if step else []
    foreign = [i for i in dict.fromkeys(ids) if i not in wanted]
    missing = [i for i in wanted if i not in ids]
    twice = [i for i, n in Counter(ids).items() if n > 1]
    if foreign:
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        return "foreign", f"names {', '.join(foreign)}, which its step does not ask for{lacks}"
    if missing:
        return "incomplete", f"carries {len(ids)} of {len(wanted)} outputs and lacks {', '.join(missing)}"
    return "duplicate", f"names {', '.join(twice)} more than once"


def _knew_better(index: Index, run: Run, submit: Submit, ordinal: int) -> bool:
    """Whether the sender was told, long enough before, that the run waits for a later step."""
    sent: SubmitReceived | None = submit.received
    if sent is None or sent.instance is None:
        return False
    for told in run.tells:
        if told.seq > sent.seq or told.t + RACE_WINDOW > sent.t:
            return False
        later = any(run.calls[i].ordinal > ordinal for i in told.waiting_for if i in run.calls)
        if later and told.instance == sent.instance and not index.faults.held_up(run.conversation, told.t, sent.t):
            return True
    return False


def _violate(tally: Tally, index: Index, run: Run, submit: Submit, shape: str, message: str) -> None:
    event = submit.received or submit.accepted
    outputs = event.outputs if event is not None else ()
    calls = [run.calls[o.tool_call_id] for o in outputs if o.tool_call_id in run.calls]
    events = {e.seq for e in (submit.received, submit.accepted, submit.refused) if e is not None}
    for call in calls:
        events.update(trail(index, call.intent))
    events.update(asked.seq for asked in run.asked)
    tally.violate(
        shape, message, run_id=run.run_id, tool_call_id=outputs[0].tool_call_id if outputs else None, events=events
    )
