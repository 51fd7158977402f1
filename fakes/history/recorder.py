"""The recorder: gives every event its number and time, hands it to those who watch, keeps it, and writes it to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from fakes.encoding import encode
from fakes.history.events import Event, EventT
from fakes.history.lines import FORMAT_VERSION, to_json

Subscriber = Callable[[Event], None]


class NotKept(RuntimeError):
    """Somebody asked a history for its events that does not keep them."""


class History:
    """Records events in order, keeps them, hands them to subscribers, and writes them to a JSONL file as it grows.

    Args:
        clock: seconds, any origin; injected so that virtual time works.
        path: the JSONL file, or None to keep the history in memory only.
        header: what the first line says besides `format_version` (seed, coordinator, gateway, ...).
        keep: False where a run is longer than memory: subscribers and the file get every event, and `events` raises NotKept.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        path: Path | None = None,
        header: Mapping[str, Any] | None = None,
        keep: bool = True,
    ) -> None:
        self.header: dict[str, Any] = {"format_version": FORMAT_VERSION, **(header or {})}
        self.count = 0
        """how many events there were so far: the `seq` of the last one"""
        self._events: list[Event] | None = [] if keep else None
        self._clock = clock
        self._start = clock()
        self._subscribers: list[Subscriber] = []
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._file.write(encode(self.header).decode() + "\n")
            self._file.flush()

    @property
    def events(self) -> list[Event]:
        """Every event so far, in order. Raises NotKept where they are not kept: nothing shall take that for an empty run."""
        if self._events is None:
            raise NotKept("this history keeps no events in memory (keep=False): subscribe to them, or read its file")
        return self._events

    @property
    def keeps(self) -> bool:
        """Whether `events` are kept."""
        return self._events is not None

    def record(self, cls: type[EventT], **fields: Any) -> EventT:
        """Append one event; `seq` and `t` are set here."""
        self.count += 1
        made = cls(seq=self.count, t=round(self._clock() - self._start, 6), **fields)
        if self._events is not None:
            self._events.append(made)
        if self._file is not None:
            self._file.write(encode(to_json(made)).decode() + "\n")
        for subscriber in self._subscribers:
            subscriber(made)
        return made

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` called with every further event, in order, synchronously."""
        self._subscribers.append(subscriber)

    def flush(self) -> None:
        """Hand what was written so far to the operating system, so that a kill loses nothing of it."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush and close the file; recording goes on without it."""
        if self._file is not None:
            self._file.close()
            self._file = None
