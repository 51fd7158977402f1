"""Sample arguments from a tool's JSON schema."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.llm.sample import arguments, value


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "order note"),
        ({"type": "string", "format": "email"}, "customer@example.com"),
        ({"type": "string", "minLength": 12}, "order note.."),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 99.5}, 100),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number"}, 1.0),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"enum": ["damaged", "lost"]}, "damaged"),
        ({"const": 7}, 7),
        ({"type": "integer", "default": 5}, 5),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 1}),
        ({"properties": {}}, {}),
        ({"items": {}}, ["order note"]),
        (True, "order note"),
    ],
)
def test_each_type_has_its_sample(schema: Any, expected: Any) -> None:
    """Every type, and the words that bound it, give a value that the schema allows."""
    assert value(schema, "order_note") == expected


def test_required_properties_and_known_values() -> None:
    """All required properties are there; a known value wins, and an optional property that is known comes along."""
    schema = {
        "type": "object",
        "properties": {"user_id": {"type": "string"}, "order": {"$ref": "#/$defs/Order"}, "note": {"type": "string"}},
        "required": ["order"],
        "$defs": {"Order": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
    }
    assert arguments(schema, {"user_id": "U1", "conversation_id": "C1"}) == {"order": {"id": 1}, "user_id": "U1"}


def test_a_schema_that_refers_to_itself_ends() -> None:
    """A recursive schema stops below the deepest level instead of never."""
    schema = {"properties": {"child": {"$ref": "#"}}, "required": ["child"]}
    made: Any = arguments(schema, {})
    depth = 0
    while made is not None:
        made, depth = made["child"], depth + 1
    assert depth < 20


def test_a_schema_that_branches_for_ever_ends_soon() -> None:
    """Twenty properties that each refer to the whole would be 20^12 values; they are cut off at a thousand."""
    names = [f"p{n}" for n in range(20)]
    schema = {"properties": {n: {"$ref": "#"} for n in names}, "required": names}
    assert set(arguments(schema, {})) == set(names)


@pytest.mark.parametrize("schema", [None, 7, [], {"properties": 7, "required": 8}, {"required": [{}]}])
def test_no_schema_is_no_arguments(schema: Any) -> None:
    """A tool without a usable schema is called without arguments."""
    assert arguments(schema, {"user_id": "U1"}) == {}
