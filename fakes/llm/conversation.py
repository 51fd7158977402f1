"""What a chat.completion request says, read once and checked: the only place where a hostile body is met."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from fakes.encoding import encode
from fakes.ids import derived
from fakes.script import Script, find


class BadRequest(ValueError):
    """A request that no model could answer; answered as HTTP 400 in OpenAI's error shape."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def body(self) -> dict[str, Any]:
        """The JSON body of the 400."""
        return error_body(str(self), "invalid_request_error", self.param)


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's API words it."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """One request, understood.

    `ordinal` counts the steps that this turn has behind it: assistant messages with tool calls after the user message
    that began it. `origin` is what ids and nonces are derived from: the thread and the turn, so that a step that is
    generated again, or a turn that runs again, finds the same one.
    """

    model: str
    script: Script | None
    ordinal: int
    functions: tuple[dict[str, Any], ...]
    parallel: bool
    seed: int | None
    thread_id: str | None
    run_id: str | None
    conversation_id: str
    origin: str
    prompt_tokens: int
    stream: bool
    include_usage: bool


def read(body: dict[str, Any]) -> Conversation:
    """Understand one request body. Raises BadRequest, which says what was seen and what was expected."""
    try:
        return _read(body)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def _read(body: dict[str, Any]) -> Conversation:
    messages = _messages(body)
    metadata = _optional(body, "metadata", dict) or {}
    thread_id, run_id = _identifier(metadata, "thread_id"), _identifier(metadata, "run_id")
    start, script = _turn(messages)
    turn = _digest([sum(m["role"] == "user" for m in messages[: start + 1]), messages[start : start + 1]])
    origin = f"{thread_id}/{turn}" if thread_id is not None else _digest(messages[: start + 1] or messages)
    options = _optional(body, "stream_options", dict) or {}
    return Conversation(
        model=_optional(body, "model", str) or "anechoic-support",
        script=script,
        ordinal=sum(_calls_tools(m) for m in messages[start + 1 :]),
        functions=_functions(body),
        parallel=_optional(body, "parallel_tool_calls", bool) is not False,
        seed=_optional(body, "seed", int),
        thread_id=thread_id,
        run_id=run_id,
        conversation_id=script.conversation_id if script else derived("C", thread_id or origin, length=8),
        origin=origin,
        prompt_tokens=max(1, _size([messages, body.get("tools")]) // 4),
        stream=_optional(body, "stream", bool) is True,
        include_usage=options.get("include_usage") is True,
    )


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest(f"messages must be a list with at least one message, not {_shown(messages)}", "messages")
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"{where} must be an object with a role, not {_shown(message)}", where)
        if not isinstance(message.get("content"), str | list | None):
            raise BadRequest(f"{where}.content must be text or a list of parts, not {_shown(message['content'])}", where)
        if not isinstance(message.get("tool_calls"), list | None):
            raise BadRequest(f"{where}.tool_calls must be a list, not {_shown(message['tool_calls'])}", where)
    return messages


def _turn(messages: list[dict[str, Any]]) -> tuple[int, Script | None]:
    """The user message that began the turn (-1: none) and its script.

    A script goes on to hold when the coordinator adds user messages of its own, until a closing message of the
    assistant ended the turn: what the customer says after that begins a new one.
    """
    users = [n for n, m in enumerate(messages) if m["role"] == "user"]
    for n in reversed(users):
        script = find(_text(messages[n].get("content")))
        if script is not None and _sound(script):
            over = any(m["role"] == "assistant" and not _calls_tools(m) for m in messages[n + 1 : users[-1]])
            return (users[-1], None) if over else (n, script)
    return (users[-1] if users else -1), None


def _calls_tools(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and bool(message.get("tool_calls"))


def _text(content: Any) -> str:
    """The words of a message: a string, or parts as chat completions ({text}) or threads ({text: {value}}) have them."""
    if not isinstance(content, list):
        return content or ""
    words: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        text = text.get("value") if isinstance(text, dict) else text
        if isinstance(text, str):
            words.append(text)
    return "\n".join(words)


def _sound(script: Script) -> bool:
    """Whether the fields of a script that travelled through foreign hands still have their types."""
    words = (script.turn_id, script.conversation_id, script.user_id, script.final)
    calls = [call for step in script.steps for call in step]
    return (
        all(isinstance(w, str) and _encodable(w) for w in words)
        and all(isinstance(c.tool, str) and isinstance(c.arguments, dict) for c in calls)
    )


def _functions(body: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The function tools that may be called, after tool_choice."""
    functions: list[dict[str, Any]] = []
    for number, tool in enumerate(_optional(body, "tools", list) or []):
        where = f"tools[{number}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise BadRequest(f"{where} must be an object with a type, not {_shown(tool)}", where)
        if tool["type"] != "function":
            continue
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest(f"{where}.function must be an object with a name, not {_shown(function)}", where)
        functions.append(function)
    choice = body.get("tool_choice")
    if choice == "none":
        return ()
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return tuple(f for f in functions if f["name"] == choice["function"].get("name"))
    return tuple(functions)


def _optional(body: dict[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise BadRequest(f"{name} must be of type {kind.__name__}, not {_shown(value)}", name)


def _identifier(metadata: dict[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    if value is None or (isinstance(value, str) and len(value) <= 512 and _encodable(value)):
        return value
    raise BadRequest(f"metadata.{name} must be text of at most 512 characters, not {_shown(value)}", "metadata")


def _encodable(text: str) -> bool:
    """Whether the text can be written as UTF-8: JSON escapes allow lone surrogates, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(value: Any) -> int:
    """About how many characters of JSON it takes."""
    try:
        return len(encode(value))
    except ValueError:  # half a surrogate, which has no bytes
        return len(json.dumps(value))


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _shown(value: Any) -> str:
    return ascii(value)[:80]
