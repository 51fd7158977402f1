"""Reading request bodies: every parameter is checked, so that hostile input gets a 400 and never breaks an answer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from fakes.assistants.errors import missing, wrong_type, wrong_value

LONG_TEXT = 256_000
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOOL_TYPES = ("code_interpreter", "file_search", "function")


class Fields:
    """One JSON object of a request, read field by field. `path` is what error messages put before a field's name.

    A field that is absent or null reads as None. Every reader raises ApiError (400), which names the field.
    """

    __slots__ = ("_data", "_path")

    def __init__(self, data: Mapping[str, Any], path: str = "") -> None:
        self._data = data
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def text(self, name: str, limit: int = LONG_TEXT) -> str | None:
        """A string of at most `limit` characters."""
        value: str | None = self._of_type(name, str, "a string")
        if value is not None and len(value) > limit:
            raise wrong_value(self._path + name, f"a string of at most {limit} characters", f"one of {len(value)}")
        return value

    def required_text(self, name: str, limit: int = LONG_TEXT) -> str:
        """A string that must be there and must not be empty."""
        value = self.text(name, limit)
        if value is None:
            raise missing(self._path + name)
        if not value:
            raise wrong_value(self._path + name, "a string that is not empty", value)
        return value

    def word(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`; it must be there."""
        value = self.required_text(name)
        if value not in allowed:
            raise wrong_value(self._path + name, "one of " + ", ".join(allowed), value)
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean."""
        value: bool | None = self._of_type(name, bool, "a boolean")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number between `low` and `high`, both included."""
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(self._path + name, "a number", value)
        if not low <= value <= high:
            raise wrong_value(self._path + name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def count(self, name: str) -> int | None:
        """A whole number of at least 1."""
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(self._path + name, "an integer", value)
        if not 1 <= value <= 2**53:
            raise wrong_value(self._path + name, "an integer of at least 1", value)
        return value

    def object(self, name: str) -> Fields | None:
        """A nested object."""
        value: dict[str, Any] | None = self._of_type(name, dict, "an object")
        return None if value is None else Fields(value, f"{self._path}{name}.")

    def objects(self, name: str, limit: int) -> list[Fields] | None:
        """An array of at most `limit` objects."""
        items = self._array(name, limit)
        if items is None:
            return None
        for position, item in enumerate(items):
            if not isinstance(item, dict):
                raise wrong_type(f"{self._path}{name}[{position}]", "an object", item)
        return [Fields(item, f"{self._path}{name}[{position}].") for position, item in enumerate(items)]

    def texts(self, name: str, limit: int) -> list[str] | None:
        """An array of at most `limit` strings."""
        items = self._array(name, limit)
        for position, item in enumerate(items or ()):
            if not isinstance(item, str):
                raise wrong_type(f"{self._path}{name}[{position}]", "a string", item)
        return items

    def metadata(self, name: str = "metadata") -> dict[str, str]:
        """Up to 16 pairs of strings: keys of 64 characters, values of 512. Null reads as none."""
        pairs: dict[str, Any] = self._of_type(name, dict, "an object") or {}
        if len(pairs) > 16:
            raise wrong_value(self._path + name, "an object with at most 16 pairs", f"one with {len(pairs)}")
        for key, value in pairs.items():
            if not isinstance(value, str):
                raise wrong_type(f"{self._path}{name}.{key[:64]}", "a string", value)
            if len(key) > 64 or len(value) > 512:
                raise wrong_value(f"{self._path}{name}.{key[:64]}", "a key of 64 and a value of 512 characters at most", value)
        return pairs

    def tools(self, name: str = "tools") -> list[dict[str, Any]] | None:
        """Up to 128 tools. Options of the hosted tools, which this fake does not run, are left out."""
        items = self.objects(name, 128)
        return None if items is None else [item._tool() for item in items]

    def response_format(self, name: str = "response_format") -> Any:
        """`auto`, or an object of type text, json_object or json_schema."""
        if isinstance(self._data.get(name), str):
            return self.word(name, ("auto",))
        shape = self.object(name)
        if shape is None:
            return None
        kind = shape.word("type", ("text", "json_object", "json_schema"))
        if kind != "json_schema":
            return {"type": kind}
        schema = shape.object("json_schema")
        if schema is None:
            raise missing(shape._path + "json_schema")
        named = {"name": schema.required_text("name", 64), **schema._optional(description=str, schema=dict, strict=bool)}
        return {"type": kind, "json_schema": named}

    def tool_choice(self, name: str = "tool_choice") -> Any:
        """`none`, `auto`, `required`, or one tool by type (and name, for a function)."""
        if isinstance(self._data.get(name), str):
            return self.word(name, ("none", "auto", "required"))
        choice = self.object(name)
        if choice is None:
            return None
        kind = choice.word("type", _TOOL_TYPES)
        if kind != "function":
            return {"type": kind}
        function = choice.object("function")
        if function is None:
            raise missing(choice._path + "function")
        return {"type": kind, "function": {"name": function.required_text("name", 64)}}

    def truncation(self, name: str = "truncation_strategy") -> dict[str, Any] | None:
        """How much of the thread the model is shown."""
        strategy = self.object(name)
        if strategy is None:
            return None
        kind = strategy.word("type", ("auto", "last_messages"))
        return {"type": kind, "last_messages": strategy.count("last_messages")}

    def tool_resources(self, name: str = "tool_resources") -> dict[str, Any] | None:
        """Files and vector stores by id; the fake knows none of them, and only echoes them."""
        resources = self.object(name)
        if resources is None:
            return None
        read: dict[str, Any] = {}
        for tool, listed in (("code_interpreter", "file_ids"), ("file_search", "vector_store_ids")):
            part = resources.object(tool)
            if part is not None:
                read[tool] = {listed: part.texts(listed, 10_000) or []}
        return read

    def _tool(self) -> dict[str, Any]:
        kind = self.word("type", _TOOL_TYPES)
        if kind != "function":
            return {"type": kind}
        function = self.object("function")
        if function is None:
            raise missing(self._path + "function")
        name = function.required_text("name", 64)
        if not _TOOL_NAME.fullmatch(name):
            raise wrong_value(function._path + "name", "letters, digits, _ and - only", name)
        return {"type": kind, "function": {"name": name, **function._optional(description=str, parameters=dict, strict=bool)}}

    def _optional(self, **kinds: type) -> dict[str, Any]:
        words = {str: "a string", dict: "an object", bool: "a boolean"}
        read = {name: self._of_type(name, kind, words[kind]) for name, kind in kinds.items()}
        return {name: value for name, value in read.items() if value is not None}

    def _array(self, name: str, limit: int) -> list[Any] | None:
        items: list[Any] | None = self._of_type(name, list, "an array")
        if items is not None and len(items) > limit:
            raise wrong_value(self._path + name, f"an array of at most {limit} items", f"one of {len(items)}")
        return items

    def _of_type(self, name: str, kind: type, word: str) -> Any:
        value = self._data.get(name)
        if value is not None and not isinstance(value, kind):
            raise wrong_type(self._path + name, word, value)
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A message as a request brings it, checked, before it has an id."""

    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    metadata: dict[str, str]


def draft(fields: Fields) -> Draft:
    """The message that a body describes."""
    return Draft(fields.word("role", ("user", "assistant")), _content(fields), _attachments(fields), fields.metadata())


def drafts(fields: Fields, name: str) -> list[Draft]:
    """The messages in the array `name`, none when it is absent."""
    return [draft(item) for item in fields.objects(name, 100) or ()]


def tool_outputs(fields: Fields) -> list[tuple[str, str]]:
    """The pairs (tool_call_id, output) of a submit, in the order sent. An output that is absent or null reads as empty."""
    items = fields.objects("tool_outputs", 1024)
    if items is None:
        raise missing("tool_outputs")
    return [(item.required_text("tool_call_id"), item.text("output", 2**20) or "") for item in items]


def _content(fields: Fields) -> list[dict[str, Any]]:
    whole = fields._data.get("content")
    if isinstance(whole, str):
        return [_text_part(fields.required_text("content"))]
    parts = fields.objects("content", 100)
    if not parts:
        raise missing(fields._path + "content")
    return [_part(part) for part in parts]


def _part(part: Fields) -> dict[str, Any]:
    kind = part.word("type", ("text", "image_url", "image_file"))
    if kind == "text":
        return _text_part(part.required_text("text"))
    image = part.object(kind)
    if image is None:
        raise missing(part._path + kind)
    source = "url" if kind == "image_url" else "file_id"
    shown = {source: image.required_text(source)}
    if "detail" in image:
        shown["detail"] = image.word("detail", ("auto", "low", "high"))
    return {"type": kind, kind: shown}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _attachments(fields: Fields) -> list[dict[str, Any]]:
    read = []
    for item in fields.objects("attachments", 100) or ():
        tools = [{"type": tool.word("type", _TOOL_TYPES[:2])} for tool in item.objects("tools", 16) or ()]
        read.append({"file_id": item.text("file_id"), "tools": tools})
    return read


Reader = Callable[[Fields, str], Any]

ASSISTANT_SETTINGS: Mapping[str, Reader] = {
    "model": Fields.required_text,
    "name": lambda fields, name: fields.text(name, 256),
    "description": lambda fields, name: fields.text(name, 512),
    "instructions": Fields.text,
    "tools": Fields.tools,
    "tool_resources": Fields.tool_resources,
    "metadata": Fields.metadata,
    "temperature": lambda fields, name: fields.number(name, 0, 2),
    "top_p": lambda fields, name: fields.number(name, 0, 1),
    "response_format": Fields.response_format,
}
"""How each setting of an assistant is read."""

RUN_SETTINGS: Mapping[str, Reader] = {
    **{name: ASSISTANT_SETTINGS[name] for name in ("instructions", "tools", "metadata", "temperature", "top_p")},
    "response_format": Fields.response_format,
    "model": Fields.text,
    "tool_choice": Fields.tool_choice,
    "truncation_strategy": Fields.truncation,
    "max_prompt_tokens": Fields.count,
    "max_completion_tokens": Fields.count,
    "parallel_tool_calls": Fields.flag,
}
"""How each setting of a run is read; those that are absent come from its assistant."""


def settings(fields: Fields, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The settings that a body names, read and checked."""
    return {name: read(fields, name) for name, read in readers.items() if name in fields}
