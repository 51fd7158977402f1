"""The story of a violation as a sequence diagram has it: who sent what to whom, in few words."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from contracts.result import Violation
from contracts.story import Source
from fakes import history as h

HARNESS, API, GATEWAY = "harness", "Assistants API", "tool gateway"
LONGEST = 26
"""More messages than that are not drawn; the least telling ones are left out."""
_ID = re.compile(r"\b((?:run|call|turn|thread|step|submit|req|msg|re)_)([A-Za-z0-9]{7,})\b")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One arrow from `sender` to `receiver`, or a note at the sender where there is no receiver, or over all without either.

    `kind` is message, lost (it never arrived), effect (the outside world changed) or fault; `rank` says how telling it is,
    0 the most. `times` counts equal ones in a row.
    """

    t: float
    sender: str | None
    receiver: str | None
    text: str
    kind: str = "message"
    rank: int = 1
    times: int = 1

    @property
    def label(self) -> str:
        """The text, and how often."""
        return self.text if self.times == 1 else f"{self.text} ({self.times} times)"


@dataclasses.dataclass(frozen=True, slots=True)
class Diagram:
    """What is drawn: the actors from left to right, the messages in order, and how many are left out."""

    actors: Sequence[str]
    messages: Sequence[Message]
    left_out: int = 0


def diagram(index: Source, violation: Violation, longest: int = LONGEST) -> Diagram:
    """The sequence of a violation's events, `longest` messages at most."""
    events = (index.event(seq) for seq in violation.events)
    made = list(_joined(message for event in events if event is not None and (message := _message(event)) is not None))
    kept = sorted(sorted(range(len(made)), key=lambda n: (made[n].rank, n))[:longest])
    messages = [made[n] for n in kept]
    seen = {actor for m in messages for actor in (m.sender, m.receiver) if actor is not None}
    instances = sorted(seen - {HARNESS, API, GATEWAY}, key=_number)
    actors = [*([HARNESS] if HARNESS in seen else []), *instances, *(a for a in (API, GATEWAY) if a in seen)]
    return Diagram(actors, messages, len(made) - len(kept))


def short(text: str) -> str:
    """A text with its long ids cut: `call_WzG4...`."""
    return _ID.sub(lambda found: f"{found[1]}{found[2][:4]}..", text)


def _number(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("-")
    return stem, int(number) if number.isdigit() else 0


def _joined(messages: Iterator[Message]) -> Iterator[Message]:
    for _, same in itertools.groupby(messages, key=lambda m: (m.sender, m.receiver, m.text, m.kind)):
        group = list(same)
        yield dataclasses.replace(group[0], times=len(group))


def _message(event: h.Event) -> Message | None:
    words = _WORDS.get(type(event))
    made: Message | None = words(event) if words is not None else None
    return None if made is None else dataclasses.replace(made, t=event.t, text=short(made.text))


def _somebody(instance: str | None) -> str:
    return instance or "somebody"


def _calls(ids: Sequence[str]) -> str:
    return ", ".join(ids) or "nothing"


def _sent(e: h.TurnSent) -> Message:
    again = f", attempt {e.attempt}" if e.attempt > 1 else ""
    return Message(0, HARNESS, e.instance, f"POST /turns{again}", rank=1 if e.attempt > 1 else 2)


def _turn_ended(e: h.TurnEnded) -> Message:
    return Message(0, HARNESS, None, f"turn {e.status}", rank=1 if e.status == "unanswered" else 3)


def _run_created(e: h.RunCreated) -> Message:
    return Message(0, _somebody(e.instance), API, f"create {e.run_id}", rank=2)


def _run_ended(e: h.RunEnded) -> Message:
    return Message(0, API, None, f"{e.run_id} {e.status}", rank=1 if e.status in ("cancelled", "expired", "failed") else 2)


def _asked(e: h.ActionRequired) -> Message:
    again = f" (generation {e.generation})" if e.generation > 1 else ""
    calls = ", ".join(f"{c.tool} {c.tool_call_id}" for c in e.calls)
    return Message(0, API, None, f"step {e.ordinal}{again}: {calls}", rank=1 if e.generation > 1 else 2)


def _told(e: h.RunTold) -> Message | None:
    if e.via in ("submit", "create") and not e.stale:
        return None
    waits = f": {_calls(e.waiting_for)}" if e.waiting_for else ""
    rank = 0 if e.stale else 1 if e.waiting_for else 3
    return Message(0, API, _somebody(e.instance), f"{e.status}{waits}{' (stale)' if e.stale else ''}", rank=rank)


def _received(e: h.SubmitReceived) -> Message:
    outputs = ", ".join(f"{o.tool_call_id} = {_brief(o.output)}" for o in e.outputs) or "nothing"
    return Message(0, _somebody(e.instance), API, f"submit {outputs}")


def _accepted(e: h.SubmitAccepted) -> Message:
    return Message(0, API, _somebody(e.instance), "accepted as a repeat" if e.repeat else "accepted", rank=2)


def _refused(e: h.SubmitRefused) -> Message:
    return Message(0, API, _somebody(e.instance), f"{e.http_status} refused")


def _requested(e: h.ToolRequested) -> Message:
    return Message(0, _somebody(e.instance), GATEWAY, f"{e.tool} {e.tool_call_id or e.nonce or ''}".rstrip(), rank=0)


def _committed(e: h.EffectCommitted) -> Message:
    return Message(0, GATEWAY, None, f"{e.tool} committed {e.external_id}", "effect", rank=0)


def _replied(e: h.ToolReplied) -> Message:
    said = f" {e.external_id or e.error or ''}".rstrip()
    lost = "" if e.delivered else " (lost)"
    kind = "message" if e.delivered else "lost"
    return Message(0, GATEWAY, _somebody(e.instance), f"{e.http_status}{said}{lost}", kind, rank=1 if e.delivered else 0)


def _posted(e: h.CallbackPosted) -> Message:
    copy = f", copy {e.copy}" if e.copy > 1 else ""
    answer = f"answered {e.http_status}" if e.http_status is not None else "no answer"
    kind = "lost" if e.http_status is None else "message"
    text = f"result {e.external_id or e.error or ''}{copy}: {answer}"
    return Message(0, GATEWAY, _somebody(e.instance), text, kind, rank=1 if kind == "lost" else 2)


def _looked(e: h.LookupAnswered) -> Message:
    if e.fence is not None:
        return Message(0, _somebody(e.instance), GATEWAY, f"fence {e.tool_call_id} at {e.fence}")
    return Message(0, GATEWAY, _somebody(e.instance), f"look-up {e.tool_call_id}: {', '.join(e.found) or 'nothing'}")


def _in_doubt(e: h.InDoubtReported) -> Message:
    return Message(0, e.instance, HARNESS, f"in doubt: {e.tool_call_id}")


def _fault(e: h.FaultInjected | h.FaultFailed) -> Message:
    failed = " could not be done" if isinstance(e, h.FaultFailed) else ""
    return Message(0, None, None, f"fault {e.fault}{failed} (rule {e.rule})", "fault", rank=0)


def _brief(output: str) -> str:
    """The external id in an output, else its beginning."""
    found = re.search(r"\b(INC-\d+|(?:msg|re)_[A-Za-z0-9]+)", output)
    return found[0] if found else output if len(output) <= 20 else output[:18] + ".."


_WORDS: dict[type[h.Event], Callable[[Any], Message | None]] = {
    h.TurnSent: _sent,
    h.TurnEnded: _turn_ended,
    h.RunCreated: _run_created,
    h.RunEnded: _run_ended,
    h.ActionRequired: _asked,
    h.RunTold: _told,
    h.SubmitReceived: _received,
    h.SubmitAccepted: _accepted,
    h.SubmitRefused: _refused,
    h.ToolRequested: _requested,
    h.EffectCommitted: _committed,
    h.ToolReplied: _replied,
    h.CallbackPosted: _posted,
    h.LookupAnswered: _looked,
    h.InDoubtReported: _in_doubt,
    h.FaultInjected: _fault,
    h.FaultFailed: _fault,
}
