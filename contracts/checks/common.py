"""What several checks ask: who was told what when, what became of an intent, and the events of its story."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Attempt, Intent, Submit, Turn
from fakes.history import RunTold

RACE_WINDOW = 0.2
"""Seconds within which an answer and a request may cross each other on their way. The fakes write down that an instance was
told when they hand the answer to the network, and that a request came when it arrives; only what lies further apart shows
that the instance knew. On a busy machine of two cores each way was seen to take up to 0.1 s."""

PROMPT_MS = 100.0
"""An answer of the gateway within so many milliseconds is not missed by a sender that waits for one."""

NO_QUIESCE = "the history has no quiesce_ended: it was cut off before the system had its time to finish"
UNATTRIBUTED = "an effect that cannot be attributed to any call may be the one that is missing"


def called(intent: Intent) -> str:
    """The intent in words: tool, ids, and where in which turn."""
    ids = ", ".join(dict.fromkeys(call.tool_call_id for call in intent.calls))
    turn = f" of turn {intent.turn.turn_id}" if intent.turn else f" of run {intent.calls[0].run.run_id}"
    return f"{intent.tool} ({ids}), step {intent.ordinal} position {intent.position}{turn}"


def poisoned(index: Index, intent: Intent) -> bool:
    """Whether a result of its conversation was made unreadable."""
    return any(f.injected and f.name == "poison_result" for f in index.faults.of(intent.conversation))


def complete(intent: Intent) -> bool:
    """Whether the intent has its effect, and an accepted output in a run that was not called off."""
    return bool(intent.effects) and any(True for _ in intent.told())


def excused(index: Index, intent: Intent) -> bool:
    """Whether nobody can be held to finish it: called off, failed for good, or an unreadable result."""
    return not intent.live_calls() or bool(intent.definite_errors()) or poisoned(index, intent)


def touched(index: Index, turn: Turn | None, intent: Intent | None = None) -> bool:
    """Whether any fault can have touched the turn (or a run without a turn) between its first delivery and its end."""
    if turn is None:
        return intent is None or index.faults.touched(intent.conversation, intent.calls[0].asked[0].t, index.end)
    firsts = [e.t for e in (turn.planned, *turn.sent[:1], *(r.created for r in turn.runs[:1])) if e is not None]
    known_end = turn.ended is not None and turn.ended.status != "unanswered" and len(turn.runs) == 1
    end = turn.ended.t if turn.ended is not None and known_end else index.end
    return index.faults.touched(turn.conversation, min(firsts, default=0.0), end)


def honestly_in_doubt(index: Index, intent: Intent, terms: Terms) -> bool:
    """Whether nobody can know at this gateway what became of the intent, and that was reported.

    No report excuses anything where C1 and C2 together are possible. And where nothing can have touched the call, there is
    no doubt about one that was never sent, or whose sender was given the result.
    """
    if terms.c2_in_full or not intent.in_doubt():
        return False
    attempts = list(intent.all_attempts())
    return touched(index, intent.turn, intent) or (bool(attempts) and not any(map(_answered, attempts)))


def _answered(attempt: Attempt) -> bool:
    """Whether the sender took the result: it acknowledged a post of it, or was answered long before any time-out."""
    if any(post.external_id and post.http_status is not None and post.http_status < 300 for post in attempt.posts):
        return True
    return any(r.external_id and r.delivered and r.latency_ms < PROMPT_MS for r in attempt.replies)


def quotes(text: str, external_id: str) -> bool:
    """Whether a text contains an external id, and not merely a longer one that begins alike."""
    place = text.find(external_id)
    while place >= 0:
        end = place + len(external_id)
        if end == len(text) or not text[end].isalnum():
            return True
        place = text.find(external_id, end)
    return False


def trail(index: Index, intent: Intent) -> list[int]:
    """The numbers of the events that tell the intent's story."""
    seqs: set[int] = set()
    if intent.turn is not None:
        seqs.update(sent.seq for sent in intent.turn.sent)
        if intent.turn.ended is not None:
            seqs.add(intent.turn.ended.seq)
    sends: dict[str | None, list[int]] = {}
    for attempt in intent.all_attempts():
        if attempt.request is not None:
            seqs.add(attempt.request.seq)
            sends.setdefault(attempt.request.instance, []).append(attempt.request.seq)
        seqs.update(effect.event.seq for effect in attempt.effects)
        seqs.update(reply.seq for reply in attempt.replies)
        seqs.update(post.seq for post in attempt.posts)
    for call in intent.calls:
        seqs.update(asked.seq for asked in call.asked)
        seqs.update(report.seq for report in call.in_doubt)
        for submit in call.submits:
            seqs.update(_parts(submit))
    for run in dict.fromkeys(call.run for call in intent.calls):
        seqs.update(e.seq for e in (run.created, run.ended) if e is not None)
        seqs.update(_turning_points(run.tells, sends))
    for fault in index.faults.of(intent.conversation):
        seqs.update(fault.events)
    return sorted(seqs)


def _parts(submit: Submit) -> Iterator[int]:
    for part in (submit.received, submit.accepted, submit.refused):
        if part is not None:
            yield part.seq


def _turning_points(tells: list[RunTold], sends: dict[str | None, list[int]]) -> Iterator[int]:
    """The answers that told an instance something new, and the last ones before it sent a request."""
    last: dict[str | None, RunTold] = {}
    waiting = {instance: iter(sorted(seqs)) for instance, seqs in sends.items()}
    next_send = {instance: next(seqs, None) for instance, seqs in waiting.items()}
    for told in tells:
        before = last.get(told.instance)
        due = next_send.get(told.instance)
        if due is not None and told.seq > due:
            if before is not None:
                yield before.seq
            while due is not None and told.seq > due:
                due = next(waiting[told.instance], None)
            next_send[told.instance] = due
        if before is None or (before.status, before.waiting_for) != (told.status, told.waiting_for) or told.stale:
            yield told.seq
        last[told.instance] = told
    for instance, due in next_send.items():
        if due is not None and instance in last:
            yield last[instance].seq


