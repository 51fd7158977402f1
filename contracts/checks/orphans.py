"""C5 no_orphan_effect: nobody starts work that he was told nobody waits for.

Judged by knowledge, not by time: what counts is the latest that this very instance was told, in this life, before it sent
the request. A cancel that lands between its look and its request is no failure, and an answer that a fault made stale
excuses it: that is what it was told.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

from contracts.checks.common import RACE_WINDOW, called, trail
from contracts.index import Index
from contracts.profiles import Terms
from contracts.records import Attempt, IssuedCall
from contracts.result import Tally
from fakes.history import InstanceExited, InstanceStarted, RunTold, SubmitAccepted, ToolRequested

_BETWEEN_STEPS = ("queued", "in_progress")


@dataclasses.dataclass(slots=True)
class _Belief:
    """What one instance believes of one run: the calls that it waits for, and the answer that told of each one's end."""

    waiting: set[str] = dataclasses.field(default_factory=set)
    last: tuple[str, ...] | None = None
    over: dict[str, RunTold] = dataclasses.field(default_factory=dict)


class _Knowledge:
    """What every instance was told, and what it sent, up to one moment."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self._beliefs: defaultdict[str, defaultdict[str, _Belief]] = defaultdict(lambda: defaultdict(_Belief))
        self._sent: dict[tuple[str, str, str], int] = {}

    def forget(self, instance: str) -> None:
        """A process that ended takes its knowledge with it."""
        self._beliefs.pop(instance, None)

    def told(self, event: RunTold, instance: str) -> None:
        """Take in one answer. A step that is generated again is not over: until its outputs are accepted it may come back."""
        belief = self._beliefs[instance][event.run_id]
        if event.waiting_for == belief.last and len(belief.waiting) == len(event.waiting_for):
            return  # the usual poll: nothing new
        belief.last = event.waiting_for
        waiting = set(event.waiting_for)
        if event.status in _BETWEEN_STEPS:
            waiting |= {call for call in belief.waiting if call not in self.accepted}
        for call in belief.waiting - waiting:
            belief.over[call] = event
        for call in waiting - belief.waiting:
            belief.over.pop(call, None)
        belief.waiting = waiting

    def waits(self, instance: str, call: IssuedCall) -> bool:
        """Whether the instance believes that the run waits for this call."""
        return call.tool_call_id in self._beliefs[instance][call.run.run_id].waiting

    def over(self, instance: str, call: IssuedCall) -> RunTold | None:
        """The answer from which the instance knows that the run no longer waits for this call."""
        return self._beliefs[instance][call.run.run_id].over.get(call.tool_call_id)

    def first_sent(self, event: ToolRequested, instance: str) -> int | None:
        """When (seq) the instance first sent a request under this key; None without a key."""
        if event.key is None:
            return None
        return self._sent.setdefault((instance, event.tool, event.key), event.seq)


def no_orphan_effect(index: Index, terms: Terms) -> Tally:
    """No instance sends a request for a call after it was told that the run no longer waits for it.

    Not judged: who sent it is unknown; the two lie within RACE_WINDOW, or a fault held messages up between them; the run waits
    for the same intent under another id. A request in flight may be repeated under its key where the gateway honours keys.
    """
    tally = Tally("C5")
    knowledge = _Knowledge()
    for event in index.knowledge:
        if isinstance(event, RunTold):
            if event.instance is not None:
                knowledge.told(event, event.instance)
        elif isinstance(event, SubmitAccepted):
            knowledge.accepted.update(o.tool_call_id for o in event.outputs)
        elif isinstance(event, InstanceStarted | InstanceExited):
            knowledge.forget(event.instance)
        elif isinstance(event, ToolRequested) and event.instance is not None:
            first = knowledge.first_sent(event, event.instance)
            attempt = index.attempts[event.request_id]
            if attempt.target.family is not None:
                tally.checked += 1
                told = _told_off(knowledge, attempt, event, event.instance)
                if told is not None and not _excused(index, terms, told, event, first):
                    tally.at(event.seq)
                    _violate(tally, index, attempt, event, told)
    return tally


def _told_off(knowledge: _Knowledge, attempt: Attempt, event: ToolRequested, instance: str) -> RunTold | None:
    """The answer that should have kept the instance from sending this, if there is one."""
    target = attempt.target
    assert target.family is not None
    calls = [c for c in (target.intent or target.family).calls if c.asked[0].seq < event.seq]
    if any(knowledge.waits(instance, call) for call in calls):
        return None
    if target.call is not None:
        return knowledge.over(instance, target.call)
    answers = [knowledge.over(instance, call) for call in calls]
    known = [answer for answer in answers if answer is not None]
    return max(known, key=lambda told: told.seq) if known and len(known) == len(answers) else None


def _excused(index: Index, terms: Terms, told: RunTold, event: ToolRequested, first: int | None) -> bool:
    retry = first is not None and first < told.seq and terms.profile.honours_key
    crossed = event.t - told.t < RACE_WINDOW
    return retry or crossed or index.faults.held_up(told.conversation or event.conversation, told.t, event.t)


def _violate(tally: Tally, index: Index, attempt: Attempt, event: ToolRequested, told: RunTold) -> None:
    target = attempt.target
    intent = target.intent or (target.family.intents[0] if target.family else None)
    assert intent is not None
    effects = [effect.external_id for effect in attempt.effects]
    came = f" It made {', '.join(effects)}." if effects else ""
    tally.violate(
        told.status if told.status in ("cancelled", "cancelling", "expired") else "moved_on",
        f"{event.instance} sent {event.request_id} for {called(intent)} {event.t - told.t:.3f} s after it was told that "
        f"{told.run_id} is {told.status} and does not wait for it; no request was expected any more.{came}",
        run_id=told.run_id,
        tool_call_id=(target.call or intent.calls[-1]).tool_call_id,
        effects=effects,
        events=[*trail(index, intent), told.seq, event.seq],
    )
