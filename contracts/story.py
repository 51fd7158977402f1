"""The story of a violation: the events of that call in order, one short line each, for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from contracts.result import Violation
from fakes import history as h

_TIME, _WHO = 10, 14


class Source(Protocol):
    """Where stories come from: an `Index`, or the parts of a history that was too large for one."""

    def event(self, seq: int) -> h.Event | None:
        """The event of that number."""
        ...

    def sender(self, request_id: str) -> str | None:
        """The instance that sent a request to a tool."""
        ...


def story(source: Source, violation: Violation) -> list[str]:
    """The events of a violation in order: when (seconds), who, what.

    For example `+2.018    tool-gw       create_ticket committed INC-55102 (request req_Ab, call call_X1, from coordinator-1)`.
    """
    events = (source.event(seq) for seq in violation.events)
    return [line(source, event) for event in events if event is not None]


def line(source: Source, event: h.Event) -> str:
    """One event as one line."""
    words = _WORDS.get(type(event))
    who, what = words(source, event) if words is not None else ("harness", event.kind.replace("_", " "))
    return f"{f'+{event.t:.3f}':<{_TIME}}{who:<{_WHO}}{what}"


def _sent(source: Source, e: h.TurnSent) -> tuple[str, str]:
    return "harness", f"delivers turn {e.turn_id} to {e.instance}" + (f", attempt {e.attempt}" if e.attempt > 1 else "")


def _turn_ended(source: Source, e: h.TurnEnded) -> tuple[str, str]:
    return "harness", f"turn {e.turn_id} is {e.status}" + (f": {e.detail}" if e.detail else "")


def _planned(source: Source, e: h.TurnPlanned) -> tuple[str, str]:
    return "harness", f"plans turn {e.turn_id} with {sum(map(len, e.calls))} calls in {len(e.calls)} steps"


def _fault(words: str) -> Callable[[Source, Any], tuple[str, str]]:
    def told(source: Source, e: Any) -> tuple[str, str]:
        detail = getattr(e, "detail", None) or getattr(e, "reason", None)
        return "nemesis", f"{e.fault} {words} (rule {e.rule})" + (f": {detail}" if detail else "")

    return told


def _run_created(source: Source, e: h.RunCreated) -> tuple[str, str]:
    return "assistants", f"run {e.run_id} was created on {e.thread_id}{_by(e)}"


def _run_ended(source: Source, e: h.RunEnded) -> tuple[str, str]:
    return "assistants", f"run {e.run_id} is {e.status}" + (f": {e.reason}" if e.reason else "")


def _asked(source: Source, e: h.ActionRequired) -> tuple[str, str]:
    calls = ", ".join(f"{c.tool} {c.tool_call_id}" for c in e.calls)
    again = f", generation {e.generation}" if e.generation > 1 else ""
    return "assistants", f"run {e.run_id} requires action, step {e.ordinal}{again}: {calls}"


def _told(source: Source, e: h.RunTold) -> tuple[str, str]:
    waits = f", waiting for {', '.join(e.waiting_for)}" if e.waiting_for else ""
    stale = " (stale)" if e.stale else ""
    return e.instance or "somebody", f"is told: run {e.run_id} is {e.status}{waits}{stale}, by {e.via}"


def _received(source: Source, e: h.SubmitReceived) -> tuple[str, str]:
    return e.instance or "somebody", f"submits {_outputs(e.outputs)} ({e.submit_id})"


def _accepted(source: Source, e: h.SubmitAccepted) -> tuple[str, str]:
    repeat = " as a repeat" if e.repeat else ""
    return "assistants", f"accepted {e.submit_id}{repeat}: {_ids(e.outputs)} for step {e.ordinal}"


def _refused(source: Source, e: h.SubmitRefused) -> tuple[str, str]:
    return "assistants", f"refused {e.submit_id} with {e.http_status}: {e.message}"


def _requested(source: Source, e: h.ToolRequested) -> tuple[str, str]:
    key = f", key {e.key}" if e.key else ""
    fence = f", fence {e.fence}" if e.fence is not None else ""
    return e.instance or "somebody", f"requests {e.tool} ({_request(e)}{key}{fence}, payload {e.payload_hash[:8]})"


def _committed(source: Source, e: h.EffectCommitted) -> tuple[str, str]:
    sender = source.sender(e.request_id)
    return "tool-gw", f"{e.tool} committed {e.external_id} ({_request(e)}{f', from {sender}' if sender else ''})"


def _replied(source: Source, e: h.ToolReplied) -> tuple[str, str]:
    lost = "" if e.delivered else ", but the answer was lost"
    replayed = ", brought back by its key" if e.replayed else ""
    said = e.external_id or e.error or ""
    return "tool-gw", f"answers {e.request_id} with {e.http_status}{f' {said}' if said else ''}{replayed}{lost}"


def _posted(source: Source, e: h.CallbackPosted) -> tuple[str, str]:
    answer = f"answered {e.http_status}" if e.http_status is not None else "no answer"
    which = (f", copy {e.copy}" if e.copy > 1 else "") + (f", attempt {e.attempt}" if e.attempt > 1 else "")
    return "tool-gw", f"posts the result of {e.request_id} ({e.external_id or e.error}){which}: {answer}"


def _looked(source: Source, e: h.LookupAnswered) -> tuple[str, str]:
    if e.fence is not None:
        return e.instance or "somebody", f"raises the fence of {e.tool_call_id} to {e.fence}"
    return e.instance or "somebody", f"looks up {e.tool_call_id} and finds {', '.join(e.found) or 'nothing'}"


def _in_doubt(source: Source, e: h.InDoubtReported) -> tuple[str, str]:
    return e.instance, f"reports {e.tool_call_id} in doubt"


def _by(e: Any) -> str:
    return f" by {e.instance}" if e.instance else ""


def _request(e: h.ToolRequested | h.EffectCommitted) -> str:
    named = f"call {e.tool_call_id}" if e.tool_call_id else f"reference {e.nonce}" if e.nonce else "naming no call"
    return f"request {e.request_id}, {named}"


def _ids(outputs: tuple[h.Output, ...]) -> str:
    return ", ".join(output.tool_call_id for output in outputs) or "nothing"


def _outputs(outputs: tuple[h.Output, ...]) -> str:
    return ", ".join(f"{o.tool_call_id} = {_short(o.output)}" for o in outputs) or "nothing"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


_WORDS: dict[type[h.Event], Callable[[Source, Any], tuple[str, str]]] = {
    h.TurnPlanned: _planned,
    h.TurnSent: _sent,
    h.TurnEnded: _turn_ended,
    h.FaultIntended: _fault("is about to happen"),
    h.FaultInjected: _fault("happened"),
    h.FaultHealed: _fault("is over"),
    h.FaultFailed: _fault("could not be done"),
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
}
