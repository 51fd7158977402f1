"""The fake model as a function of the request."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.llm.brain import CLOSING, complete
from fakes.llm.conversation import BadRequest, read
from fakes.script import TOOLS, Script, ScriptedCall, conversation_of, default

TWO_STEPS = Script(
    "turn_1",
    "C8821",
    "U19384",
    ((ScriptedCall("look_up", {"order": 7}), ScriptedCall("look_up", {"order": 8})), (ScriptedCall("refund", {"cents": 5}),)),
    final="Refunded.",
)


def request(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A request body with these messages."""
    return {"messages": list(messages), "seed": 1, "metadata": {"thread_id": "thread_7", "run_id": "run_1"}, **fields}


def user(text: Any) -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": text}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """The message that the model answers with."""
    message: dict[str, Any] = complete(body, created=1)["choices"][0]["message"]
    return message


def arguments(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each call of a message."""
    return [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]]


def play(body: dict[str, Any], most: int = 6) -> list[dict[str, Any]]:
    """Go on until the model closes the turn; every message that it said."""
    body = copy.deepcopy(body)
    said: list[dict[str, Any]] = []
    while len(said) < most:
        message = answer(body)
        said.append(message)
        if not message.get("tool_calls"):
            break
        body["messages"].append(message)
        body["messages"] += [{"role": "tool", "tool_call_id": c["id"], "content": "{}"} for c in message["tool_calls"]]
    return said


def test_a_script_is_played_step_by_step() -> None:
    """Each request brings the next step of the script, then the script's final words."""
    first, second, last = play(request({"role": "system", "content": "Be kind."}, user(TWO_STEPS.message())))
    assert [c["function"]["name"] for c in first["tool_calls"]] == ["look_up", "look_up"]
    assert arguments(first) == [TWO_STEPS.arguments(0, 0), TWO_STEPS.arguments(0, 1)]
    assert arguments(second) == [TWO_STEPS.arguments(1, 0)]
    assert last["content"] == "Refunded."
    assert "tool_calls" not in last


def test_the_same_request_has_the_same_answer() -> None:
    """Any replica can go on: nothing but the request decides."""
    body = request(user(TWO_STEPS.message()))
    assert complete(body, created=1) == complete(copy.deepcopy(body), created=1)


def test_another_seed_renews_ids_and_keeps_nonces() -> None:
    """A step that is generated again with another seed has new ids, and the intents stay the same."""
    once, again = (answer(request(user(TWO_STEPS.message()), seed=seed)) for seed in (1, 2))
    assert {c["id"] for c in once["tool_calls"]}.isdisjoint(c["id"] for c in again["tool_calls"])
    assert arguments(once) == arguments(again)


def test_ids_differ_between_calls_steps_threads_and_runs() -> None:
    """No two calls share an id, even under one seed."""
    ids: list[str] = []
    for metadata in ({"thread_id": "t1", "run_id": "r1"}, {"thread_id": "t2", "run_id": "r2"}, {}):
        for message in play(request(user(TWO_STEPS.message(str(metadata))), metadata=metadata)):
            ids += [c["id"] for c in message.get("tool_calls", ())]
    assert len(ids) == 9
    assert len(set(ids)) == 9
    assert all(i.startswith("call_") for i in ids)


def test_a_script_survives_words_and_messages_around_it() -> None:
    """A coordinator may wrap the message, send it as parts, and add user messages of its own."""
    wrapped = f"Customer says: <<{TWO_STEPS.message()}>> Answer politely."
    for content in (wrapped, [{"type": "text", "text": wrapped}], [{"type": "text", "text": {"value": wrapped}}]):
        assert arguments(answer(request(user(content), user("The time is 10:11."))))[0]["order"] == 7


def test_the_latest_script_counts() -> None:
    """A second scripted message on the thread begins its own turn at its first step."""
    body = request(user(TWO_STEPS.message()))
    closing = {"role": "assistant", "content": "Refunded."}
    other = Script("turn_2", "C8821", "U19384", ((ScriptedCall("ping"),),))
    messages = [*body["messages"], *play(body)[:-1], closing, user(other.message())]
    assert answer(request(*messages))["tool_calls"][0]["function"]["name"] == "ping"


def test_a_plain_message_after_a_finished_turn_gets_the_default_script() -> None:
    """What the customer says after the closing message is a new turn."""
    messages = [user(TWO_STEPS.message()), {"role": "assistant", "content": "Refunded."}, user("And my other order?")]
    assert [c["function"]["name"] for c in answer(request(*messages, tools=list(TOOLS)))["tool_calls"]] == [
        "create_ticket", "send_email", "refund_payment",
    ]


def test_identical_calls_keep_the_reference_of_the_script() -> None:
    """A case about identical calls names `reference` itself, and both calls carry it."""
    same = ScriptedCall("refund", {"reference": "C1_same"})
    body = request(user(Script("turn_1", "C1", "U1", ((same, same),)).message()))
    assert arguments(answer(body)) == [{"reference": "C1_same"}] * 2


def test_without_a_script_each_tool_is_called_once() -> None:
    """The default: one step with one call for each function tool, then a closing message."""
    step, last = play(request(user("I want a refund."), tools=list(TOOLS)))
    assert [c["function"]["name"] for c in step["tool_calls"]] == ["create_ticket", "send_email", "refund_payment"]
    made = arguments(step)
    assert len({a["reference"] for a in made}) == 3
    assert len({a["conversation_id"] for a in made}) == 1
    assert all(conversation_of(a["reference"]) == a["conversation_id"] for a in made)
    assert isinstance(made[2]["amount_cents"], int)
    assert last["content"] == CLOSING


def test_default_nonces_follow_the_turn() -> None:
    """A second run of the same turn keeps the nonces, the next turn of the thread has others."""
    body = request(user("Refund me."), tools=list(TOOLS))
    again = {**body, "seed": 2, "metadata": {"thread_id": "thread_7", "run_id": "run_2"}}
    later = request(user("Refund me."), {"role": "assistant", "content": CLOSING}, user("Refund me."), tools=list(TOOLS))
    first, second, third = ([a["reference"] for a in arguments(answer(b))] for b in (body, again, later))
    assert first == second
    assert set(first).isdisjoint(third)


def test_tool_choice_and_parallel_tool_calls_are_heeded() -> None:
    """`none` closes the turn, a named function is the only one called, and without parallel calls steps have one each."""
    asked = {"tools": list(TOOLS)}
    assert answer(request(user("Hi"), tool_choice="none", **asked))["content"] == CLOSING
    named = {"type": "function", "function": {"name": "send_email"}}
    only = answer(request(user("Hi"), tool_choice=named, **asked))["tool_calls"]
    assert [c["function"]["name"] for c in only] == ["send_email"]
    said = play(request(user("Hi"), parallel_tool_calls=False, **asked))
    assert [len(m.get("tool_calls", ())) for m in said] == [1, 1, 1, 0]


def test_no_tools_no_calls() -> None:
    """Without function tools the turn is closed at once."""
    body = request(user("Hello"), tools=[{"type": "code_interpreter"}])
    completion = complete(body, created=7)
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["choices"][0]["message"]["content"] == CLOSING
    assert completion["created"] == 7
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "messages must be a list"),
        ({"messages": []}, "messages must be a list"),
        ({"messages": "hello"}, "not 'hello'"),
        ({"messages": [7]}, r"messages\[0\] must be an object with a role, not 7"),
        ({"messages": [{"role": "user", "content": 7}]}, r"messages\[0\].content"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, r"messages\[0\].tool_calls"),
        ({"messages": [user("a")], "tools": {}}, "tools must be of type list"),
        ({"messages": [user("a")], "tools": [{"type": "function"}]}, r"tools\[0\].function"),
        ({"messages": [user("a")], "seed": True}, "seed must be of type int"),
        ({"messages": [user("a")], "metadata": []}, "metadata must be of type dict"),
        ({"messages": [user("a")], "metadata": {"run_id": "\ud800"}}, "metadata.run_id"),
        ({"messages": [user("a")], "stream": "yes"}, "stream must be of type bool"),
    ],
)
def test_a_body_that_no_model_could_answer(body: dict[str, Any], words: str) -> None:
    """Each wrong type is a BadRequest that says what was seen."""
    with pytest.raises(BadRequest, match=words) as refused:
        complete(body, created=1)
    assert refused.value.body()["error"]["type"] == "invalid_request_error"


def test_deep_nesting_and_numbers_that_json_lacks_are_refused() -> None:
    """Neither the recursion limit nor NaN gets past as anything but a BadRequest."""
    deep: Any = "x"
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(BadRequest, match="nested too deeply"):
        complete(request(user([deep])), created=1)
    schema = {"required": ["x"], "properties": {"x": {"const": float("nan")}}}
    nan = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with pytest.raises(BadRequest, match="cannot be written as JSON"):
        complete(request(user("Hi"), tools=[nan]), created=1)


def test_a_damaged_script_is_no_script() -> None:
    """A script whose fields lost their types is passed over, as one whose text was damaged is."""
    odd = Script("turn_1", "C1", "U1", ((ScriptedCall("ping", ["no", "object"]),),))  # type: ignore[arg-type]
    assert answer(request(user(odd.message())))["content"] == CLOSING
    assert answer(request(user(TWO_STEPS.message()[:-9] + "]]")))["content"] == CLOSING


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SCHEMA_WORDS = st.sampled_from(
    ["type", "properties", "required", "items", "enum", "anyOf", "$ref", "minimum", "exclusiveMinimum", "minItems", "minLength"]
)
SCHEMA = st.recursive(
    JSON | st.sampled_from(["object", "array", "integer", "number", "string", "#", "#/properties/a"]),
    lambda inner: st.dictionaries(SCHEMA_WORDS | st.just("a"), inner, max_size=4) | st.lists(inner | st.just("a"), max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.data())
def test_whatever_comes_is_answered_or_refused(data: st.DataObject) -> None:
    """No JSON body at all raises anything but BadRequest, and every answer is JSON."""
    good = request(user(default("t", "C", "U").message()), tools=list(TOOLS), stream_options={}, tool_choice="auto")
    body = {**good, **data.draw(st.dictionaries(st.sampled_from([*good, "model", "stream"]), JSON, max_size=3))}
    if data.draw(st.booleans()):
        function = {"name": "f", "parameters": data.draw(SCHEMA)}
        body |= {"messages": [user("plain")], "tools": [{"type": "function", "function": function}]}
    try:
        completion = complete(body, created=1)
    except BadRequest:
        return
    json.dumps(completion, allow_nan=False).encode()
    read(body).conversation_id.encode()
