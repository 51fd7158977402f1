"""Reading JSON bodies the way the admin API promises: unknown fields are ignored, null means "not given", types are strict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chaos.toxiproxy.errors import bad_body


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def decode(body: bytes) -> Any:
    """The JSON value in `body`. Raises ApiError 400 for anything that is not JSON, an empty body included."""
    if not body.strip():
        raise bad_body("EOF")
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_body(str(error)) from None


def fields(value: Any, what: str) -> Mapping[str, Any]:
    """`value` as an object; null is an object without fields. Raises ApiError 400 for another type."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_body(f"{what} must be an object, not {kind(value)}")
    return value


def text(given: Mapping[str, Any], name: str, default: str) -> str:
    """A string field. Raises ApiError 400 for another type."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise bad_body(f"{name} must be a string, not {kind(value)}")
    return value


def flag(given: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean field. Raises ApiError 400 for another type."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad_body(f"{name} must be true or false, not {kind(value)}")
    return value


def number(given: Mapping[str, Any], name: str, default: float) -> float:
    """A field that is a number. Raises ApiError 400 for another type."""
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_body(f"{name} must be a number, not {kind(value)}")
    return value


def kind(value: Any) -> str:
    """How JSON calls the type of `value`."""
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "null")
