"""The faults that live in the fakes, and the port through which a fault plan reaches them.

A fake never decides by itself that something goes wrong. At each protocol point it records an event and asks its
`Nemesis` what happens there; the nemesis (the `chaos` room) matches rules, carries out by itself what is not the fake's
(kill a process, add a toxic ...), and hands back the faults that only the fake can make.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fakes.history import Event


@dataclasses.dataclass(slots=True)
class Fault:
    """One fault that the fake is asked to make now. Call `injected` when it took effect, not before."""

    name: str
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on_injected: Callable[[str | None], None] = lambda detail: None
    _done: bool = False

    def injected(self, detail: str | None = None) -> None:
        """Tell the history that the fault took effect; only the first call counts."""
        if not self._done:
            self._done = True
            self.on_injected(detail)


class Nemesis(Protocol):
    """What a fake asks at each protocol point."""

    async def at(self, event: Event) -> Sequence[Fault]:
        """What happens at `event`. May take its time (a kill is carried out before this returns)."""
        ...


class Runs(Protocol):
    """The fake Assistants API, as the nemesis sees it: what happens to a run while something else is going on elsewhere."""

    async def befall(self, fault: Fault, run_id: str | None, conversation: str | None) -> None:
        """Make a fault of `RUN_FAULTS` on this run, or on the conversation's latest one that has not ended."""
        ...


class NoFaults:
    """The nemesis of a calm day."""

    async def at(self, event: Event) -> Sequence[Fault]:
        """Nothing ever happens."""
        return ()


@dataclasses.dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a fault: its type (a Python type, or a tuple of allowed words), default and meaning."""

    type: type | tuple[str, ...]
    default: Any
    about: str


@dataclasses.dataclass(frozen=True, slots=True)
class FaultKind:
    """A word of the vocabulary: at which events the fault makes sense, and what it takes."""

    name: str
    about: str
    points: tuple[str, ...]
    params: Mapping[str, Param] = dataclasses.field(default_factory=dict)


def _kind(name: str, points: str, about: str, **params: Param) -> FaultKind:
    return FaultKind(name, about, tuple(points.split()), params)


_SECONDS = Param(float, 1.0, "seconds")

FAKE_FAULTS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        # the fake Assistants API
        _kind("stale_status", "submit_accepted", "polls after this accepted submit still answer the old requires_action",
              n=Param(int, 3, "how many polls are stale")),
        _kind("stale_submit_reply", "submit_accepted", "the submit's own answer shows the run as it was before"),
        _kind("lose_submit_reply", "submit_accepted", "the outputs are committed, then the connection is cut"),
        _kind("error_after_submit", "submit_accepted", "the outputs are committed, then the answer is an error",
              status=Param(int, 500, "HTTP status of the answer")),
        _kind("refuse_submit", "submit_received", "the submit is refused before anything is committed",
              status=Param(int, 503, "HTTP status of the answer")),
        _kind("lose_submit", "submit_received", "the submit never arrives: nothing is committed, the connection is cut"),
        _kind("regenerate_step", "action_required run_told tool_requested effect_committed",
              "the serving layer lost the step: it is generated again",
              ids=Param(("same", "new"), "same", "whether the calls keep their ids"),
              after=Param(float, 0.0, "seconds until the step is lost")),
        _kind("barrier", "run_told", "hold answers about this run until n instances wait, then release them together",
              n=Param(int, 2, "how many instances"), seconds=Param(float, 1.0, "longest hold, in seconds")),
        _kind("cut_stream", "run_told", "the stream that tells this ends right after it, before its time",
              how=Param(("cut", "error"), "cut", "the connection is cut, or an error event comes")),
        _kind("cancel_run", "run_created action_required run_told tool_requested effect_committed",
              "somebody else cancels the run"),
        _kind("expire_run", "run_created action_required run_told tool_requested effect_committed",
              "the run passes its expires_at now"),
        _kind("duplicate_delivery", "submit_received message_added run_created", "the router delivers this POST a second time"),
        # the fake tool gateway
        _kind("lose_request", "tool_requested", "the request never reaches the tool: no effect, the connection is cut"),
        _kind("slow", "tool_requested", "the tool takes its time",
              seconds=_SECONDS, where=Param(("before", "after"), "before", "before or after the effect is committed")),
        _kind("unavailable", "tool_requested", "the gateway answers 503 and commits nothing",
              status=Param(int, 503, "HTTP status of the answer")),
        _kind("permanent_failure", "tool_requested", "this call fails now and at every repeat with a definite error",
              status=Param(int, 422, "HTTP status of the answer")),
        _kind("poison_result", "tool_requested", "the effect is committed, and its result is no JSON text"),
        _kind("commit_then_lose_reply", "tool_requested", "the effect is committed, then the connection is cut"),
        _kind("commit_then_500", "tool_requested", "the effect is committed, then the answer is an error",
              status=Param(int, 500, "HTTP status of the answer")),
        _kind("prune_keys", "tool_requested", "the gateway forgets every idempotency key it holds"),
        _kind("duplicate_callback", "callback_due", "an asynchronous result is posted more than once",
              n=Param(int, 2, "copies in all"), gap=Param(float, 0.1, "seconds between copies")),
        _kind("late_callback", "callback_due", "an asynchronous result is posted late", seconds=Param(float, 1.5, "seconds")),
        _kind("foreign_callback", "callback_due",
              "before the result, that of a call of another run is posted, which has the same tool_call_id"),
        _kind("reorder_callbacks", "callback_due", "an asynchronous result waits until the next one was posted",
              seconds=Param(float, 1.0, "longest wait, in seconds")),
        # the fake LLM serving
        _kind("lose_generation", "generation_started", "the replica's answer is lost; the router tries another replica"),
    )
}

RUN_FAULTS = frozenset({"cancel_run", "expire_run", "regenerate_step"})
"""Faults of the Assistants API that a rule may also tie to an event of the tool gateway, such as the first commit."""
