"""Whom a fault hits: `which` = sender, other, any or all, told from the event that a rule is about."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar

from fakes.history import Event, History, ToolRequested

REMEMBERED = 65_536
"""Requests to tools whose senders are known at any time: minutes of the fastest run."""


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str:
        """Its name in the history."""
        ...


N = TypeVar("N", bound=Named)


class Aim:
    """Chooses among instances and replicas; `any` and `other` take turns, so that the same run chooses the same ones."""

    def __init__(self, history: History) -> None:
        self._turn = itertools.count()
        self._senders: dict[str, str | None] = {}
        """the instance of each of the latest requests to a tool, by request_id"""
        history.subscribe(self._notice)

    def sender(self, event: Event | None) -> str | None:
        """The instance that sent what an event is about; None where it has none."""
        if event is None:
            return None
        instance = getattr(event, "instance", None)
        request = getattr(event, "request_id", None)
        return self._senders.get(request) if instance is None and request is not None else instance

    def pick(self, which: str, cause: Event | None, everyone: Sequence[N]) -> list[N]:
        """The instances that are meant."""
        if which == "all":
            return list(everyone)
        sender = self.sender(cause)
        known = [i for i in everyone if i.name == sender]
        if which == "sender" and known:
            return known
        others = [i for i in everyone if i.name != sender] or list(everyone)
        pool = others if which == "other" else everyone
        return [pool[next(self._turn) % len(pool)]]

    def owner(self, which: str, cause: Event | None, everyone: Sequence[N]) -> str | None:
        """The instance whose edges are meant; None for those of all."""
        return None if which == "all" else self.pick(which, cause, everyone)[0].name

    def replicas(self, which: str, cause: Event | None, names: Sequence[str]) -> list[str]:
        """The serving replicas that are meant."""
        named = getattr(cause, "replica", "")
        if which == "all":
            return list(names)
        if which == "sender" and named in names:
            return [named]
        return [names[next(self._turn) % len(names)]]

    def _notice(self, event: Event) -> None:
        if isinstance(event, ToolRequested):
            self._senders[event.request_id] = event.instance
            if len(self._senders) > REMEMBERED:
                del self._senders[next(iter(self._senders))]
