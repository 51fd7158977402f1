"""The fake model: what it answers is a function of the request alone, so that any replica can go on."""

from __future__ import annotations

import json
from typing import Any

from fakes.ids import derived
from fakes.llm.conversation import BadRequest, Conversation, read
from fakes.llm.sample import arguments as sample_arguments

CLOSING = "All done. Is there anything else that I can do for you?"
"""What the model says when no script words it."""


def complete(body: dict[str, Any], *, created: int) -> dict[str, Any]:
    """Answer a chat.completion request.

    The turn's script (fakes.script) says what to ask for, step by step; without one, each function tool of the request
    is called once, then the turn is closed. Tool call ids are derived from the seed (and the thread and turn), nonces
    are not: the same step generated again with another seed has new ids and the same nonces.

    Args:
        body: the request, as JSON.
        created: unix time in seconds for the answer's `created`; the only thing that is not in the request.

    Raises:
        BadRequest: for a body that no model could answer.
    """
    return answer(read(body), created=created)


def answer(conversation: Conversation, *, created: int) -> dict[str, Any]:
    """The chat.completion for a request that was read before. Raises BadRequest for arguments that are no JSON."""
    try:
        calls = [(tool, json.dumps(arguments, allow_nan=False)) for tool, arguments in _calls(conversation)]
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the arguments of a call cannot be written as JSON: {error}") from None
    scope = (conversation.seed, conversation.origin, conversation.run_id, conversation.ordinal)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if calls:
        message["tool_calls"] = [
            {"id": derived("call", *scope, position), "type": "function", "function": {"name": tool, "arguments": text}}
            for position, (tool, text) in enumerate(calls)
        ]
    else:
        message["content"] = conversation.script.final if conversation.script else CLOSING
    written = message["content"] or "".join(tool + text for tool, text in calls)
    tokens = max(1, len(written) // 4)
    return {
        "id": derived("chatcmpl", *scope),
        "object": "chat.completion",
        "created": created,
        "model": conversation.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if calls else "stop"}
        ],
        "usage": {
            "prompt_tokens": conversation.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": conversation.prompt_tokens + tokens,
        },
    }


def _calls(conversation: Conversation) -> list[tuple[str, dict[str, Any]]]:
    """The calls of the step that is due, [] when the turn is to be closed."""
    script, ordinal = conversation.script, conversation.ordinal
    if script is not None:
        due = script.steps[ordinal] if ordinal < len(script.steps) else ()
        return [(call.tool, script.arguments(ordinal, position)) for position, call in enumerate(due)]
    steps = [conversation.functions] if conversation.parallel else [(f,) for f in conversation.functions]
    functions = steps[ordinal] if ordinal < len(steps) else ()
    known = {
        "user_id": derived("U", conversation.conversation_id, length=8),
        "conversation_id": conversation.conversation_id,
    }
    return [
        (f["name"], {**sample_arguments(f.get("parameters"), known), "reference": _nonce(conversation, position)})
        for position, f in enumerate(functions)
    ]


def _nonce(conversation: Conversation, position: int) -> str:
    return derived(conversation.conversation_id, conversation.origin, conversation.ordinal, position, length=12)
