"""What the fake asks of the serving layer, in the words of OpenAI's chat completions, and how it reads the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fakes.assistants.objects import Thread
from fakes.assistants.runs import Run, ToolCall, Usage

Generate = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the body of POST /v1/chat/completions, returns the completion. Whatever it raises fails the run."""


class BadCompletion(ValueError):
    """The serving layer answered something that is no chat completion."""


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """One generation: the calls that it asks for, or its words. `cut_off` is finish_reason `length`."""

    calls: tuple[ToolCall, ...]
    text: str
    usage: Usage
    cut_off: bool = False


def request(thread: Thread, run: Run, seed: int) -> dict[str, Any]:
    """The body to send: the thread's messages, then for each answered step of this run its calls and their outputs.

    `seed` is fresh for each generation, so that the ids of its calls are fresh too.
    """
    messages: list[dict[str, Any]] = []
    if run.instructions:
        messages.append({"role": "system", "content": run.instructions})
    shown = [{"role": message.role, "content": message.text} for message in thread.messages.values()]
    last = (run.truncation_strategy or {}).get("last_messages")
    messages += shown[-last:] if last else shown
    for step in run.steps.values():
        if step.calls and step.status == "completed":
            calls = [call.json() for call in step.calls]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": c.id, "content": c.output} for c in step.calls]
    body: dict[str, Any] = {
        "model": run.model,
        "messages": messages,
        "seed": seed,
        "metadata": {"run_id": run.id, "thread_id": thread.id},
    }
    functions = [tool for tool in run.tools if tool["type"] == "function"]
    if functions:  # an empty array is refused by real servers
        body["tools"] = functions
        if run.tool_choice != "auto":
            body["tool_choice"] = run.tool_choice
    return body


def read(completion: Mapping[str, Any]) -> Completion:
    """The first choice of a chat completion. Raises BadCompletion with what was seen."""
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        calls = tuple(
            ToolCall(_text(call["id"]), _text(call["function"]["name"]), _text(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        )
        usage = completion.get("usage") or {}
        spent = Usage(int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
        text = message.get("content") or ""
        finish = choice.get("finish_reason")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadCompletion(f"the serving layer's answer is no chat completion ({error!r}): {str(completion)[:200]}") from None
    if len({call.id for call in calls}) < len(calls):
        raise BadCompletion(f"the serving layer used one id for two calls: {[call.id for call in calls]}")
    return Completion(calls, _text(text), spent, cut_off=finish == "length")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadCompletion(f"the serving layer's answer holds {value!r} where text is expected")
    return value
