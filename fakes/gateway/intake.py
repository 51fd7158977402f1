"""Reading a request for a tool: what was sent, and what is wrong with it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from fakes.exchange import BadBody, Request, json_object
from fakes.gateway.call import ToolCall
from fakes.gateway.result import Failure
from fakes.ids import Ids, payload_hash
from fakes.script import TOOLS, conversation_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TEXTS = ("tool_call_id", "run_id", "thread_id", "step_id", "callback_url")
_DEFAULT_TOOLS = tuple(tool["function"]["name"] for tool in TOOLS)
_WORDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


class Intake:
    """Turns requests into calls.

    Args:
        tools: the only names that are known, or None to take every name of 1 to 64 letters, digits, _ and -.
    """

    def __init__(self, *, ids: Ids, clock: Callable[[], float], tools: Collection[str] | None = None) -> None:
        self._ids = ids
        self._clock = clock
        self._tools = None if tools is None else frozenset(tools)

    def read(self, request: Request, tool: str) -> tuple[ToolCall, Failure | None]:
        """The call, and the first thing that is wrong with the request, if any; then the call holds what could be read."""
        problem = None if self._known(tool) else self._unknown(tool)
        body: dict[str, Any] = {}
        try:
            body = json_object(request.body)
        except BadBody as error:
            problem = problem or _bad(str(error))
        texts: dict[str, Any] = {name: body.get(name) for name in _TEXTS}
        for name, value in texts.items():
            if value is not None:
                texts[name] = text = _text(value)
                if text is None and value != "":
                    problem = problem or _bad(f"{name} must be a string, not {_shown(value)}")
        fence = body.get("fence")
        if fence is not None and (not isinstance(fence, int) or isinstance(fence, bool)):
            problem, fence = problem or _bad(f"fence must be a whole number, not {_shown(fence)}"), None
        if texts["callback_url"] is not None and not _is_http_url(texts["callback_url"]):
            problem = problem or _bad(f"callback_url must be an http(s) URL, not {_shown(texts['callback_url'])}")
            texts["callback_url"] = None
        arguments = body.get("arguments")
        if not isinstance(arguments, dict):
            problem, arguments = problem or _bad(_why_no_arguments(body)), {}
        return self._call(request, tool, arguments, fence, texts), problem

    def _call(
        self, request: Request, tool: str, arguments: Mapping[str, Any], fence: int | None, texts: Mapping[str, str | None]
    ) -> ToolCall:
        nonce = _text(arguments.get("reference"))
        conversation = _text(arguments.get("conversation_id"))
        if conversation is None and nonce is not None:
            conversation = conversation_of(nonce)
        return ToolCall(
            request_id=self._ids.new("req", 16),
            tool=tool[:64],
            arguments=arguments,
            payload_hash=payload_hash(arguments),
            arrived=self._clock(),
            nonce=nonce,
            conversation=conversation,
            tool_call_id=texts["tool_call_id"] or _text(request.headers.get("x-tool-call-id")),
            run_id=texts["run_id"],
            thread_id=texts["thread_id"],
            step_id=texts["step_id"],
            key=_text(request.headers.get("idempotency-key")),
            fence=fence,
            callback_url=texts["callback_url"],
            instance=request.instance,
        )

    def _known(self, tool: str) -> bool:
        return _NAME.fullmatch(tool) is not None if self._tools is None else tool in self._tools

    def _unknown(self, tool: str) -> Failure:
        known = _DEFAULT_TOOLS if self._tools is None else sorted(self._tools)
        near = difflib.get_close_matches(tool, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        rule = "a name is 1 to 64 letters, digits, _ or -, for example" if self._tools is None else "known:"
        return Failure(404, "unknown_tool", f"there is no tool {tool[:80]!r}; {hint}{rule} {', '.join(known)}")


def _bad(message: str) -> Failure:
    return Failure(400, "invalid_request", message)


def _why_no_arguments(body: Mapping[str, Any]) -> str:
    if "arguments" not in body:
        return 'arguments is missing; send {"arguments": {...}, "tool_call_id": "call_..."}'
    hint = "; parse function.arguments before sending it" if isinstance(body["arguments"], str) else ""
    return f"arguments must be a JSON object, not {_shown(body['arguments'])}{hint}"


def _shown(value: Any) -> str:
    kind = _WORDS.get(type(value), "a number")
    if isinstance(value, (dict, list)) or value is None:
        return kind
    text = json.dumps(value)
    return f"{kind}: {text if len(text) <= 60 else text[:57] + '...'}"


def _text(value: Any) -> str | None:
    """A string that says something, else None."""
    return value if isinstance(value, str) and value else None


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
