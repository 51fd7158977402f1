"""A finished chat.completion cut into the chunks of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

PIECE = 16
"""Characters in one chunk, about four tokens."""


def chunks(completion: dict[str, Any], *, include_usage: bool) -> Iterator[bytes]:
    """The server-sent events of `completion`, the closing [DONE] included."""
    choice = completion["choices"][0]
    message = choice["message"]
    head = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    yield event({"role": "assistant", "content": "" if message["content"] is not None else None})
    for piece in _pieces(message["content"] or ""):
        yield event({"content": piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        opening = {"name": function["name"], "arguments": ""}
        yield event({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": opening}]})
        for piece in _pieces(function["arguments"]):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield event({}, choice["finish_reason"])
    if include_usage:
        yield _event({**head, "choices": [], "usage": completion["usage"]})
    yield b"data: [DONE]\n\n"


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
