"""The idempotency keys that a gateway holds."""

from __future__ import annotations

import dataclasses

from fakes.gateway.result import Result

Scope = tuple[str, str]
"""The tool's name and the key: the same key at another tool is another key."""


@dataclasses.dataclass(slots=True)
class Entry:
    """One key: who sent it first and when, with which payload, and the answer; `result` is None while that is in flight."""

    payload_hash: str
    owner: str
    at: float
    result: Result | None = None


class Keys:
    """Keys in order of their first request; one older than `ttl` seconds is forgotten, answered or not."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._entries: dict[Scope, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, scope: Scope, now: float) -> Entry | None:
        """The entry of a key that is still remembered."""
        self.forget(now - self._ttl)
        return self._entries.get(scope)

    def hold(self, scope: Scope, payload_hash: str, owner: str, now: float) -> None:
        """Note that request `owner` is the first under this key."""
        self._entries[scope] = Entry(payload_hash, owner, now)

    def store(self, scope: Scope, owner: str, result: Result) -> None:
        """Keep the first request's answer; nothing happens when the key was forgotten meanwhile or is somebody else's."""
        entry = self._entries.get(scope)
        if entry is not None and entry.owner == owner:
            entry.result = result

    def release(self, scope: Scope, owner: str) -> None:
        """Forget the key: its first request came to nothing that a repeat could be given."""
        entry = self._entries.get(scope)
        if entry is not None and entry.owner == owner:
            del self._entries[scope]

    def forget_all(self) -> int:
        """Forget every key, in flight or answered; returns how many there were."""
        count = len(self._entries)
        self._entries.clear()
        return count

    def forget(self, before: float) -> None:
        """Forget every key whose first request came before that time."""
        while self._entries:
            scope, entry = next(iter(self._entries.items()))
            if entry.at >= before:
                return
            del self._entries[scope]
