"""One HTTP exchange without HTTP: what a skin hands to an endpoint, and what it gets back.

The wire's FastAPI skins and the simulation's transport both speak this, so the fakes behave alike in both worlds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from fakes.encoding import encode


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request. `headers` has lower-case names; `instance` is who sent it, known from the port it came in at."""

    method: str
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    instance: str | None = None


class Stream(Protocol):
    """A body that comes in pieces, to be iterated once. Raises Cut where the connection ends before the body does."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""
        ...

    def leave(self) -> None:
        """The client is gone: iterating ends soon."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `body` is already encoded. Where there is a `stream`, it comes in the body's place."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    media_type: str = "application/json"
    stream: Stream | None = None

    @classmethod
    def json(cls, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """An answer with a JSON body."""
        return cls(status, encode(data), headers or {})


class Cut(Exception):
    """Instead of an answer, the connection ends: raised by an endpoint, carried out by the skin."""


class BadBody(ValueError):
    """The body is not the JSON object that the operation takes."""


def json_object(body: bytes) -> dict[str, Any]:
    """The request's JSON object, {} for an empty body. Raises BadBody with what was seen and expected.

    Also refused is what could be read but not be written again, to an answer or to the history: NaN and numbers out of
    range, half surrogates, and nesting deeper than 64 levels.
    """
    if not body.strip():
        return {}
    try:
        text = body.decode()
        data = _decode(text)
    except (ValueError, RecursionError) as error:
        raise BadBody(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadBody(f"the body must be a JSON object, not {type(data).__name__}")
    if text.count("{") + text.count("[") > DEEPEST and _deeper_than(data, DEEPEST):
        raise BadBody(f"the body is nested deeper than {DEEPEST} levels")
    if "\\u" in text and _half_surrogate(data):
        raise BadBody("the body is not JSON: a half surrogate is no character")
    return data


DEEPEST = 64
"""How many levels of objects and arrays a body may have."""


def _half_surrogate(data: Any) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _deeper_than(data: Any, levels: int) -> bool:
    layer = [data]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(layer)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no number that can be kept")
    return number


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode


Handler = Callable[..., Awaitable[Reply]]


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a fake: `path` is a template such as /v1/threads/{thread_id}; `hot` marks the routes that carry load."""

    method: str
    path: str
    summary: str
    handler: Handler
    hot: bool = False


class Router:
    """Finds the operation of a request. Handlers are called with the request and the path's parameters by name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = tuple(operations)
        self._templates = _templates(tuple((operation.method, operation.path) for operation in self.operations))

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | int:
        """The operation and its path parameters; 404 where no path fits, 405 where only the method does not."""
        path = path.strip("/")
        status = 404
        for pattern, names, methods in self._templates.get(path.count("/"), ()):
            fits = pattern.fullmatch(path)
            if fits is not None:
                number = methods.get(method)
                if number is not None:
                    return self.operations[number], dict(zip(names, map(unquote, fits.groups()), strict=True))
                status = 405
        return status


_Template = tuple[re.Pattern[str], tuple[str, ...], dict[str, int]]
"""What a path has to look like, the names of its parameters, and the number of the operation for each method."""


@functools.cache
def _templates(routes: tuple[tuple[str, str], ...]) -> dict[int, list[_Template]]:
    """The templates by how many slashes they have. Compiled once: a simulation makes new endpoints with the same routes."""
    numbers: dict[str, dict[str, int]] = {}
    for number, (method, path) in enumerate(routes):
        numbers.setdefault(path.strip("/"), {})[method] = number
    by_slashes: dict[int, list[_Template]] = {}
    for path in sorted(numbers, key=lambda path: [s[:1] == "{" for s in path.split("/")]):  # a literal wins over a parameter
        segments = path.split("/")
        names = tuple(s[1:-1] for s in segments if s[:1] == "{")
        pattern = "/".join("([^/]*)" if s[:1] == "{" else re.escape(s) for s in segments)
        by_slashes.setdefault(path.count("/"), []).append((re.compile(pattern), names, numbers[path]))
    return by_slashes


class Endpoint(Protocol):
    """A fake as both worlds see it: its operations, and one way in."""

    @property
    def operations(self) -> Sequence[Operation]:
        """Every operation, for the skin and its OpenAPI document."""
        ...

    async def handle(self, request: Request) -> Reply:
        """Answer one request, errors included. Raises Cut where a fault ends the connection without an answer."""
        ...
