"""Quiesce: when a system has come to rest, and what its instances say that they are in doubt about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes import history as h

STILL = 1.0
"""Seconds without activity after which the system has come to rest."""
STUCK = 5.0
"""Seconds without activity after which turns that are still open are not waited for any longer before quiesce."""

ACTIVITY = frozenset({
    h.ToolRequested, h.EffectCommitted, h.ToolReplied, h.CallbackDue, h.CallbackPosted, h.SubmitReceived, h.ActionRequired,
    h.RunCreated, h.RunEnded, h.GenerationStarted, h.GenerationEnded, h.TurnSent, h.LookupAnswered, h.InstanceStarted,
})


class Stillness:
    """Watches a history for activity; `clock` gives seconds, any origin."""

    def __init__(self, history: h.History, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        history.subscribe(self._notice)

    def restart(self) -> None:
        """Count from now on."""
        self._last = self._clock()

    @property
    def seconds(self) -> float:
        """How long nothing has happened."""
        return self._clock() - self._last

    @property
    def reached(self) -> bool:
        """Whether the system has come to rest."""
        return self.seconds >= STILL

    def _notice(self, event: h.Event) -> None:
        if type(event) in ACTIVITY:
            self._last = self._clock()


def in_doubt(data: Any) -> list[tuple[str, str | None]]:
    """(tool_call_id, run_id) of each call that GET /in-doubt reports: a list of ids or objects, or an object that holds one."""
    if isinstance(data, dict):
        data = next((v for k in ("calls", "in_doubt", "tool_calls", "data") if isinstance(v := data.get(k), list)), [])
    found: list[tuple[str, str | None]] = []
    for item in data if isinstance(data, list) else []:
        if isinstance(item, str):
            found.append((item, None))
        elif isinstance(item, dict) and isinstance(call := item.get("tool_call_id", item.get("id")), str):
            run = item.get("run_id")
            found.append((call, run if isinstance(run, str) else None))
    return found
