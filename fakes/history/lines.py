"""An event as a JSON object, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakes.history.events import EVENTS, FIELDS, ActionRequired, Call, Event, Output

FORMAT_VERSION = 1


class HistoryError(ValueError):
    """A history file that cannot be read: what was seen, in which line, and what was expected."""


def to_json(made: Event) -> dict[str, Any]:
    """One event as a JSON object; fields that hold their default are left out, `kind` comes first after seq and t."""
    out: dict[str, Any] = {"seq": made.seq, "t": made.t, "kind": made.kind}
    for name, default in FIELDS[type(made)]:
        value = getattr(made, name)
        if value != default:
            out[name] = _plain(value)
    return out


def from_json(data: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote. Raises HistoryError for an unknown kind, or missing or unknown fields."""
    cls, fields = _parsed(data)
    try:
        return cls(**fields)
    except TypeError as error:
        raise HistoryError(f"event of kind {cls.kind!r}: {error}") from None


def parsed(data: Mapping[str, Any]) -> tuple[type[Event], dict[str, Any]]:
    """The class and the fields of an event that `to_json` wrote, without `seq` and `t`. Raises HistoryError."""
    cls, fields = _parsed(data)
    fields.pop("seq", None)
    fields.pop("t", None)
    return cls, fields


def _parsed(data: Mapping[str, Any]) -> tuple[type[Event], dict[str, Any]]:
    fields = dict(data)
    kind = fields.pop("kind", None)
    cls = EVENTS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise HistoryError(f"unknown kind of event {kind!r}; known: {', '.join(sorted(EVENTS))}")
    try:
        if cls is ActionRequired and "calls" in fields:
            fields["calls"] = tuple([Call(**c) for c in fields["calls"]])
        if "outputs" in fields:
            fields["outputs"] = tuple([Output(**o) for o in fields["outputs"]])
    except TypeError as error:
        raise HistoryError(f"event of kind {kind!r}: {error}") from None
    for name, value in fields.items():
        if value.__class__ is list:
            fields[name] = tuple([tuple(v) if v.__class__ is list else v for v in value])
    return cls, fields


def _plain(value: Any) -> Any:
    if isinstance(value, (Call, Output)):
        return {name: getattr(value, name) for name, _ in FIELDS[type(value)]}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
