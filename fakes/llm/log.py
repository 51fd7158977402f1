"""The serving layer's log, in the words that an operator reads: `10:11:41.005 llm-serve WARN replica=...`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class ServingLog:
    """Writes lines to `sink`, each with the time of day (UTC, milliseconds) of `wall`, a clock in unix seconds."""

    def __init__(self, sink: Callable[[str], None], wall: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._wall = wall

    def info(self, text: str) -> None:
        """What is normal."""
        self._write("INFO", text)

    def warn(self, text: str) -> None:
        """What an operator may want to see."""
        self._write("WARN", text)

    def error(self, text: str) -> None:
        """What cannot go on."""
        self._write("ERROR", text)

    def _write(self, level: str, text: str) -> None:
        now = datetime.fromtimestamp(self._wall(), UTC)
        self._sink(f"{now.strftime('%H:%M:%S')}.{now.microsecond // 1000:03d} llm-serve {level} {text}")
