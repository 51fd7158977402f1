"""Toxics as data: which types there are, which attributes they take, and what of a request is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from chaos.toxiproxy import body
from chaos.toxiproxy.errors import ApiError, bad_body

UPSTREAM = "upstream"
DOWNSTREAM = "downstream"
STREAMS = (UPSTREAM, DOWNSTREAM)

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "latency": ("latency", "jitter"),
    "bandwidth": ("rate",),
    "slow_close": ("delay",),
    "timeout": ("timeout",),
    "slicer": ("average_size", "size_variation", "delay"),
    "limit_data": ("bytes",),
    "reset_peer": ("timeout",),
}
"""The attributes of each type, whole numbers that are 0 when not given. latency, jitter, timeout and slow_close's delay are
milliseconds, slicer's delay microseconds, rate kilobytes (1,000 bytes) per second, the others bytes."""

_LARGEST = 2**63 - 1


@dataclasses.dataclass(slots=True)
class Toxic:
    """One toxic of one proxy: what it does to one direction of the connections that it applies to."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As the admin API shows it."""
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }


def parse(value: Any, taken: Callable[[str], bool]) -> Toxic:
    """The toxic that a request asks for.

    Checks come in the order that clients of Toxiproxy know: JSON types, stream, type, duplicate, then attributes.

    Args:
        value: the decoded body.
        taken: whether the proxy already has a toxic of that name.

    Raises:
        ApiError: 400 for a field that is wrong, 409 for a name that is taken.
    """
    given = body.fields(value, "a toxic")
    name = body.text(given, "name", "")
    type_ = body.text(given, "type", "")
    stream = body.text(given, "stream", DOWNSTREAM).lower()
    toxicity = body.number(given, "toxicity", 1.0)
    wanted = body.fields(given.get("attributes"), "attributes")
    if stream not in STREAMS:
        raise ApiError(400, "stream was invalid, can be either upstream or downstream")
    name = name or f"{type_}_{stream}"
    if type_ not in ATTRIBUTES:
        raise ApiError(400, "invalid toxic type")
    if taken(name):
        raise ApiError(409, "toxic already exists")
    attributes = _attributes(type_, dict.fromkeys(ATTRIBUTES[type_], 0), wanted)
    return Toxic(name, type_, stream, _share(toxicity), attributes)


def change(toxic: Toxic, value: Any) -> None:
    """Merge a request's attributes and toxicity into `toxic`; other fields are ignored.

    Raises:
        ApiError: 400 for a value that is wrong; `toxic` is then as it was.
    """
    given = body.fields(value, "a toxic")
    wanted = body.fields(given.get("attributes"), "attributes")
    attributes = _attributes(toxic.type, toxic.attributes, wanted)
    toxicity = _share(body.number(given, "toxicity", toxic.toxicity))
    toxic.attributes, toxic.toxicity = attributes, toxicity


def _attributes(type_: str, before: Mapping[str, int], wanted: Mapping[str, Any]) -> dict[str, int]:
    after = dict(before)
    for name in before:
        value = wanted.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad_body(f"attribute {name} of {type_} must be a whole number, not {value!r}")
        if not 0 <= value <= _LARGEST:
            raise bad_body(f"attribute {name} of {type_} must be 0 or more and fit 63 bits, not {value}")
        after[name] = value
    if type_ == "slicer":
        _slices(after["average_size"], after["size_variation"])
    return after


def _slices(average: int, variation: int) -> None:
    if average < 1:
        raise bad_body(f"attribute average_size of slicer must be at least 1 byte, not {average}: give the size of a slice")
    if variation >= average:
        raise bad_body(f"attribute size_variation of slicer must be less than average_size ({average}), not {variation}")


def _share(toxicity: float) -> float:
    if not 0 <= toxicity <= 1:
        raise bad_body(f"toxicity must be from 0 to 1, not {toxicity}: it is the share of connections that are affected")
    return toxicity
