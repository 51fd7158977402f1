"""Hostile and rich request bodies: a wrong value is refused by name, a right one comes back as the SDK knows it."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.beta import threads

from fakes.assistants.core import Core
from fakes.assistants.errors import ApiError
from fakes.ids import Ids


@pytest.fixture
def core() -> Core:
    """An empty core."""
    return Core(lambda: 1_800_000_000, Ids(7))


def refusal(call: Any, *args: Any) -> ApiError:
    """The refusal that a call of the core ends with."""
    with pytest.raises(ApiError) as caught:
        call(*args)
    return caught.value


BAD_ASSISTANTS: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": 3}, "model"),
    ({"model": ""}, "model"),
    ({"model": "m", "name": "n" * 257}, "name"),
    ({"model": "m", "temperature": 3}, "temperature"),
    ({"model": "m", "temperature": True}, "temperature"),
    ({"model": "m", "top_p": "1"}, "top_p"),
    ({"model": "m", "metadata": []}, "metadata"),
    ({"model": "m", "metadata": {"a": 1}}, "metadata.a"),
    ({"model": "m", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ({"model": "m", "metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"model": "m", "tools": {}}, "tools"),
    ({"model": "m", "tools": ["function"]}, "tools[0]"),
    ({"model": "m", "tools": [{"type": "magic"}]}, "tools[0].type"),
    ({"model": "m", "tools": [{"type": "function"}]}, "tools[0].function"),
    ({"model": "m", "tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
    ({"model": "m", "tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}, "tools[0].function.strict"),
    ({"model": "m", "tools": [{"type": "file_search"}] * 129}, "tools"),
    ({"model": "m", "response_format": "json"}, "response_format"),
    ({"model": "m", "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"model": "m", "tool_resources": {"file_search": []}}, "tool_resources.file_search"),
    ({"model": "m", "tool_resources": {"code_interpreter": {"file_ids": [1]}}}, "tool_resources.code_interpreter.file_ids[0]"),
]


@pytest.mark.parametrize(("body", "param"), BAD_ASSISTANTS)
def test_wrong_assistants_are_refused(core: Core, body: dict[str, Any], param: str) -> None:
    """Every wrong value is a 400 that names the parameter."""
    error = refusal(core.create_assistant, body)
    assert (error.status, error.param) == (400, param)
    assert error.json()["error"]["type"] == "invalid_request_error"


BAD_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"truncation_strategy": {"type": "last_messages", "last_messages": 0}}, "truncation_strategy.last_messages"),
    ({"max_prompt_tokens": 1.5}, "max_prompt_tokens"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"additional_messages": [{"role": "robot", "content": "x"}]}, "additional_messages[0].role"),
    ({"assistant_id": None}, "assistant_id"),
]


@pytest.mark.parametrize(("body", "param"), BAD_RUNS)
def test_wrong_runs_are_refused(core: Core, body: dict[str, Any], param: str) -> None:
    """Every wrong value is a 400 that names the parameter, and no run is left behind."""
    assistant = core.create_assistant({"model": "gpt-4o"})
    thread = core.create_thread({})
    error = refusal(core.create_run, thread.id, {"assistant_id": assistant.id, **body})
    assert (error.status, error.param) == (400, param)
    assert not thread.runs


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"content": "x"}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": ""}, "content"),
        ({"role": "user", "content": []}, "content"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [{"type": "video"}]}, "content[0].type"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "content[0].image_url.url"),
        ({"role": "user", "content": "x", "attachments": [{"tools": [{"type": "function"}]}]}, "attachments[0].tools[0].type"),
    ],
)
def test_wrong_messages_are_refused(core: Core, body: dict[str, Any], param: str) -> None:
    """Every wrong value is a 400 that names the parameter."""
    error = refusal(core.create_message, core.create_thread({}).id, body)
    assert (error.status, error.param) == (400, param)


def test_rich_bodies_are_echoed_in_the_sdk_shapes(core: Core) -> None:
    """Images, attachments, schemas and tool choices come back as the SDK's models know them."""
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_file", "image_file": {"file_id": "file_1"}},
    ]
    attachments = [{"file_id": "file_2", "tools": [{"type": "code_interpreter"}]}]
    message = core.create_message(core.create_thread({}).id, {"role": "user", "content": content, "attachments": attachments})
    parsed = threads.Message.model_validate(message.json())
    assert [part.type for part in parsed.content] == ["text", "image_url", "image_file"]
    assert message.text == "look"
    settings = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}},
        "tool_choice": {"type": "function", "function": {"name": "send_email"}},
        "truncation_strategy": {"type": "last_messages", "last_messages": 3},
    }
    assistant = core.create_assistant({"model": "gpt-4o"})
    run, _ = core.create_run(core.create_thread({}).id, {"assistant_id": assistant.id, **settings})
    threads.Run.model_validate(run.json())
    assert {name: run.json()[name] for name in settings} == settings
