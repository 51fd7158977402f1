"""What a stream tells piece by piece: the words of a message, and the calls of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

PIECE = 32
"""Characters in one delta, about eight tokens."""


def words(message_id: str, text: str) -> Iterator[dict[str, Any]]:
    """The deltas of a message; one at least, though there be no words, since SDKs look for the content that they open."""
    for piece in _pieces(text) or [""]:
        content = [{"index": 0, "type": "text", "text": {"value": piece, "annotations": []}}]
        yield {"id": message_id, "object": "thread.message.delta", "delta": {"content": content}}


def calls(step_id: str, asked: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The deltas of a step: each call is opened by its id and its name, then its arguments follow."""
    for index, call in enumerate(asked):
        function = call["function"]
        opening = {"name": function["name"], "arguments": "", "output": None}
        yield _call(step_id, {"index": index, "id": call["id"], "type": "function", "function": opening})
        for piece in _pieces(function["arguments"]):
            yield _call(step_id, {"index": index, "type": "function", "function": {"arguments": piece}})


def _call(step_id: str, call: dict[str, Any]) -> dict[str, Any]:
    details = {"type": "tool_calls", "tool_calls": [call]}
    return {"id": step_id, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
