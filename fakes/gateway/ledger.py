"""The ledger: every effect that was committed, in order. Nothing is ever taken back."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence

from fakes.gateway.result import Effect


class Ledger:
    """The external world as an append-only list of effects."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._by_name: dict[str, list[Effect]] = defaultdict(list)
        self._identities: set[tuple[str, ...]] = set()

    @property
    def effects(self) -> Sequence[Effect]:
        """Every effect, oldest first."""
        return self._effects

    def append(self, effect: Effect) -> None:
        """Commit one effect."""
        self._effects.append(effect)
        for name in effect.call.names:
            self._by_name[name].append(effect)
        self._identities.add(effect.call.identity)

    def forget(self, before: float) -> None:
        """Let go of the effects that were committed before that time: for runs that are longer than memory."""
        count = bisect.bisect_left(self._effects, before, key=lambda effect: effect.at)
        for effect in self._effects[:count]:
            for name in effect.call.names:
                self._by_name.pop(name, None)
            self._identities.discard(effect.call.identity)
        del self._effects[:count]

    def of(self, tool_call_id: str) -> Sequence[Effect]:
        """The effects of requests that named this call, in the body, the header or as their key."""
        return self._by_name.get(tool_call_id, ())

    def knows(self, identity: tuple[str, ...]) -> bool:
        """Whether a call of this identity has an effect."""
        return identity in self._identities
