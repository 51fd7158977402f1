"""What Toxiproxy's toxics do to one message, when every request is a connection of its own."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from chaos.words import unknown

NEVER = float("inf")
_ATTRIBUTES: Mapping[str, Mapping[str, int]] = {
    "latency": {"latency": 0, "jitter": 0},
    "bandwidth": {"rate": 0},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "limit_data": {"bytes": 0},
    "slicer": {"average_size": 64, "size_variation": 0, "delay": 0},
}


class ToxicError(ValueError):
    """A toxic that cannot be put on a simulated edge."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message: it arrives `delay` seconds later, or it is lost and the sender's connection breaks then.

    A delay of `NEVER` with `lost` is silence.
    """

    delay: float = 0.0
    lost: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Toxic:
    """One toxic on one edge. Raises ToxicError for a type that has no meaning here, or for wrong attributes."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int]

    @classmethod
    def of(cls, name: str, args: Mapping[str, Any]) -> Toxic:
        """The toxic that a fault's arguments describe."""
        kind = args["type"]
        known = _ATTRIBUTES.get(kind)
        if known is None:
            raise ToxicError(
                f"toxic {kind!r} is about the end of a connection, and a simulation has none: use the wire, or one of "
                f"{', '.join(_ATTRIBUTES)}"
            )
        given = args["attributes"]
        for key, value in given.items():
            if key not in known:
                raise ToxicError(unknown(f"attribute of toxic {kind!r}", key, known))
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ToxicError(f"attribute {key}={value!r} of toxic {kind!r} must be a whole number, 0 or more")
        return cls(name, kind, args["stream"], args["toxicity"], {**known, **given})

    def fate(self, size: int, dice: random.Random) -> Fate:
        """What becomes of a message of `size` bytes."""
        if self.toxicity < 1 and dice.random() >= self.toxicity:
            return Fate()
        a = self.attributes
        if self.type == "latency":
            return Fate(max(0.0, a["latency"] + dice.uniform(-a["jitter"], a["jitter"])) / 1000)
        if self.type == "bandwidth":
            return Fate(size / (a["rate"] * 1000)) if a["rate"] else Fate(NEVER, lost=True)
        if self.type == "timeout":
            return Fate(a["timeout"] / 1000 if a["timeout"] else NEVER, lost=True)
        if self.type == "reset_peer":
            return Fate(a["timeout"] / 1000, lost=True)
        if self.type == "limit_data":
            return Fate(lost=size > a["bytes"])
        return Fate(a["delay"] / 1e6 * (size // max(1, a["average_size"])))
