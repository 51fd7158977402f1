"""What pydantic finds wrong, said in one sentence: where, what was seen, what is expected, and the nearest key."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from anechoic.config.source import ConfigError
from chaos.words import unknown

_EXPECTED = {
    "int_type": "must be a whole number", "float_type": "must be a number", "bool_type": "must be true or false",
    "string_type": "must be text, in quotes", "list_type": "must be a list", "dict_type": "must be a table",
    "model_type": "must be a table", "path_type": "must be a path, in quotes", "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge}", "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number", "string_too_short": "is empty",
    "too_short": "is empty; leave the key out instead",
}


def refuse(error: ValidationError, source: str, model: type[BaseModel]) -> ConfigError:
    """All mistakes of a source, a line each."""
    lines = [_sentence(details, source, model) for details in error.errors(include_url=False)]
    return ConfigError("\n  ".join(lines if len(lines) == 1 else [f"{source}: {len(lines)} mistakes", *lines]))


def _sentence(details: ErrorDetails, source: str, model: type[BaseModel]) -> str:
    path, kind, seen = details["loc"], details["type"], details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{_place(source, path[:-1])}: {unknown('key', path[-1], _keys(model, path[:-1]))}"
    place = _place(source, path)
    if kind == "value_error":
        return f"{place}: {context['error']}"
    if kind == "literal_error":
        return f"{place}: {unknown('value', seen, map(str, _words(model, path)))}"
    said = _EXPECTED.get(kind)
    return f"{place}: {seen!r} {said.format(**context)}" if said else f"{place}: {seen!r}: {details['msg']}"


def _key(path: Sequence[int | str]) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        found = model.model_fields[str(part)].annotation
        assert isinstance(found, type)
        model = found
    return list(model.model_fields)


def _words(model: type[BaseModel], path: Sequence[int | str]) -> list[Any]:
    """The words of a Literal, which may be optional."""
    *tables, last = path
    for part in tables:
        found = model.model_fields[str(part)].annotation
        assert isinstance(found, type)
        model = found
    annotation = model.model_fields[str(last)].annotation
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    options = typing.get_args(annotation) if union else (annotation,)
    return [word for option in options if option is not types.NoneType for word in typing.get_args(option)]


def _place(source: str, path: Sequence[int | str]) -> str:
    return f"{source}, {_key(path)}" if path else source
