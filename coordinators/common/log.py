"""What an instance logs: text lines of the coordinator, JSON lines of the submission handler.

Neither holds tool payloads or message content: ids, counts and times only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Sink = Callable[[str], None]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_stdout(line: str) -> None:
    """Write one line to standard output at once, so that a kill loses nothing of it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Log:
    """The log of one instance; `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], sink: Sink = to_stdout) -> None:
        self._clock = clock
        self._sink = sink

    def coordinator(self, level: str, text: str) -> None:
        """One line of the coordinator, as in `10:11:40.332 coordinator INFO run_status ...`."""
        now = self._now()
        self._sink(f"{now:%H:%M:%S}.{now.microsecond // 1000:03d} coordinator {level} {text}")

    def submission(self, level: str, **fields: Any) -> None:
        """One JSON line of the submission handler."""
        now = self._now()
        ts = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
        self._sink(_encode({"ts": ts, "service": "tool-output-submitter", "level": level, **fields}))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
