"""Live counts of a load over its history, in bounded memory: requests to tools, effects, repeats, duplicates."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

from fakes.history import ActionRequired, EffectCommitted, Event, FaultInjected, ToolRequested

REMEMBERED = 5_000
"""Calls whose requests and effects are remembered; a repeat of an older one is not counted here. The verdict counts all."""


@dataclasses.dataclass(slots=True)
class Tally:
    """Subscribes to a history. What it says of duplicates is for the eye; the contracts over the whole history decide."""

    calls: int = 0
    requests: int = 0
    repeats: int = 0
    effects: int = 0
    duplicates: int = 0
    faults: int = 0
    _seen: OrderedDict[str, list[int]] = dataclasses.field(default_factory=OrderedDict)

    def __call__(self, event: Event) -> None:
        """One more event."""
        if isinstance(event, ToolRequested):
            self.requests += 1
            seen = self._of(event.tool_call_id or event.nonce)
            self.repeats += seen[0] > 0
            seen[0] += 1
        elif isinstance(event, EffectCommitted):
            self.effects += 1
            seen = self._of(event.tool_call_id or event.nonce)
            self.duplicates += seen[1] > 0
            seen[1] += 1
        elif isinstance(event, ActionRequired):
            for call in event.calls:
                seen = self._of(call.tool_call_id)
                self.calls += not seen[2]
                seen[2] = 1
        elif isinstance(event, FaultInjected):
            self.faults += 1

    def _of(self, call: str | None) -> list[int]:
        if call is None:
            return [0, 0, 0]
        found = self._seen.get(call)
        if found is None:
            found = self._seen[call] = [0, 0, 0]
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return found
