"""The wall time that a whole run may take, and how it is shared out: most for the turns, then quiesce, then stopping it all."""

from __future__ import annotations

import dataclasses
import re
import time

_UNITS = {"s": 1, "m": 60, "h": 3600}
STOPPING = 7.0
"""Seconds kept for stopping everything and judging, a quarter of the budget at most: an instance has 5 for a graceful stop."""


class NoDuration(ValueError):
    """A text that says no time: what was seen, and examples."""


def seconds_of(text: str, flag: str) -> float:
    """The seconds in "90s", "30m", "2h" or "45". Raises NoDuration, which names the flag."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise NoDuration(f"{flag} {text!r} is no time; give for example 90s, 30m or 2h")
    return float(found[1]) * _UNITS[found[2] or "s"]


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """So many `seconds` from `began` (of time.monotonic) on."""

    seconds: float
    began: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def running(self) -> float:
        """Seconds left until everything has to be stopped, so that the whole ends in time; below 0 when that is past."""
        return self.seconds - min(STOPPING, self.seconds / 4) - self.used

    def share(self, runs: int) -> Budget:
        """What the next of so many runs gets of what is left; it begins now."""
        return Budget(max(0.001, self.seconds - self.used) / runs)

    def turns(self, quiesce: float) -> float:
        """Seconds left for turns, when quiesce is to have its `quiesce` seconds, or a third of the budget."""
        return self.running - min(quiesce, self.seconds / 3)
