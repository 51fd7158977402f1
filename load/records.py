"""What Locust processes tell the harness about turns: small records, in batches, through Locust's own messages."""

from __future__ import annotations

import dataclasses
from typing import Any

import gevent

from chaos.turns import Turn

EVERY = 0.05
"""Seconds between two batches."""


@dataclasses.dataclass(slots=True)
class Teller:
    """Collects records, and sends them to whoever runs the load (option `told`); says nothing where nobody listens."""

    environment: Any
    _batch: list[list[Any]] = dataclasses.field(default_factory=list)
    _sender: Any = None

    def start(self) -> None:
        """Begin to send batches."""
        if getattr(self.environment.parsed_options, "told", False) and self._sender is None:
            self._sender = gevent.spawn(self._send)

    def flush(self) -> None:
        """Send what is there."""
        if self._batch and self._sender is not None:
            batch, self._batch = self._batch, []
            self.environment.runner.send_message("turns", batch)

    def planned(self, turn: Turn, due: float) -> None:
        """A turn is about to be delivered for the first time. Times are seconds of the epoch."""
        self._add("planned", turn.turn_id, turn.conversation_id, due, turn.calls, turn.body())

    def sent(self, turn: Turn, url: str, attempt: int) -> None:
        """One delivery begins."""
        self._add("sent", turn.turn_id, turn.conversation_id, url, attempt)

    def answered(self, turn: Turn, url: str, attempt: int, status: int | None, reason: str | None) -> None:
        """One delivery has ended; `status` is None where no answer came."""
        self._add("answered", turn.turn_id, turn.conversation_id, url, attempt, status, reason)

    def ended(self, turn: Turn, status: str, detail: Any, due: float, end: float) -> None:
        """The coordinator says that the turn is done or has failed."""
        self._add("ended", turn.turn_id, turn.conversation_id, status, None if detail is None else str(detail), due, end)

    def dropped(self, due: float) -> None:
        """A turn was due and not delivered."""
        self._add("dropped", due)

    def _add(self, *record: Any) -> None:
        if self._sender is not None:
            self._batch.append(list(record))

    def _send(self) -> None:
        while True:
            gevent.sleep(EVERY)
            self.flush()
