"""Sample arguments for a function tool, made from its JSON schema.

Covers what tool schemas use: types, enum, const, default, required, nested objects and arrays, anyOf/oneOf/allOf, local
$ref, lower bounds. A value is plausible, not clever: `pattern`, `not` and conditional schemas are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 12
"""Levels of a value; below there is None, so that a schema that refers to itself ends."""

MOST = 1000
"""Values in all; the rest is None, so that a schema that refers to itself twice ends soon."""

LONGEST = 256
"""Characters of a text, whatever minLength asks for."""

_FORMATS = {
    "date-time": "2026-03-12T10:11:42Z",
    "date": "2026-03-12",
    "time": "10:11:42Z",
    "email": "customer@example.com",
    "uuid": "7d9f6f0e-3c55-4b0e-9a53-55102a7c4f11",
    "uri": "https://example.com/",
}


def arguments(schema: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with every required property of `schema`; a property named in `known` has its value from there."""
    root = schema if isinstance(schema, dict) else {}
    made = _Sampler(root).object(root, 0)
    properties = root.get("properties")
    names = properties if isinstance(properties, dict) else {}
    return {**made, **{name: value for name, value in known.items() if name in names or name in made}}


def value(schema: Any, name: str) -> Any:
    """One sample value; a text without a format is made of the property's `name`."""
    return _Sampler(schema if isinstance(schema, dict) else {}).value(schema, name, 0)


class _Sampler:
    """Samples of one schema, whose references start at its `root`."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = MOST

    def value(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if depth > DEEPEST or self._left < 0:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        if "default" in schema:
            return schema["default"]
        for word in ("anyOf", "oneOf", "allOf"):
            options = schema.get(word)
            if isinstance(options, list) and options:
                return self.value(_first_not_null(options), name, depth + 1)
        match _kind(schema):
            case "object":
                return self.object(schema, depth)
            case "array":
                count = min(int(_number(schema, "minItems", 1)), 8)
                return [self.value(schema.get("items"), name, depth + 1) for _ in range(count)]
            case "integer":
                return math.ceil(_lowest(schema))
            case "number":
                return float(_lowest(schema))
            case "boolean":
                return True
            case "null":
                return None
            case _:
                text = _FORMATS.get(str(schema.get("format")), name.replace("_", " ") or "text")
                return text.ljust(min(int(_number(schema, "minLength", 0)), LONGEST), ".")

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        return {n: self.value(known.get(n), n, depth + 1) for n in names if isinstance(n, str)}

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """The schema that a chain of local references (#/$defs/Name) ends at; {} (anything) where it leads nowhere."""
        for _ in range(DEEPEST):
            if not isinstance(schema, dict):
                return {}
            path = schema.get("$ref")
            if not isinstance(path, str):
                return schema
            schema = self._root
            for key in filter(None, path.removeprefix("#").split("/")):
                schema = schema.get(key) if isinstance(schema, dict) else None
        return {}


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _first_not_null(options: list[Any]) -> Any:
    return next((o for o in options if not (isinstance(o, dict) and o.get("type") == "null")), options[0])


def _lowest(schema: dict[str, Any]) -> float:
    """The smallest allowed number from 1 up."""
    above = _number(schema, "exclusiveMinimum", -math.inf)
    return max(1, _number(schema, "minimum", 1), above + 1)


def _number(schema: dict[str, Any], word: str, otherwise: float) -> float:
    given = schema.get(word)
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < 1e15:
        return otherwise
    return given
