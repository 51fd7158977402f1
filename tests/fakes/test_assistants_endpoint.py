"""The endpoint of the fake Assistants API on a calm day: operations, headers, refusals, and the events it records."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from fakes import script
from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.exchange import Reply, Request
from fakes.faults import NoFaults
from fakes.history import (
    ActionRequired,
    History,
    MessageAdded,
    Output,
    RunCreated,
    RunEnded,
    RunTold,
    SubmitAccepted,
    SubmitReceived,
    SubmitRefused,
    from_json,
    of_kind,
    to_json,
)
from fakes.ids import Ids, payload_hash

TURN = script.default("turn_1", "C8821", "U19384")


class Api:
    """An endpoint with a small serving layer: it asks for the script's calls, then says the script's final words."""

    def __init__(self, **settings: Any) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.now = 1_800_000_000.0
        self.core = Core(lambda: self.now, Ids(3))
        self.history = History()
        self.endpoint = AssistantsEndpoint(self.core, self.history, NoFaults(), self.generate, **settings)

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """The serving layer."""
        self.bodies.append(body)
        words = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
        found = script.find(words) or TURN
        done = sum(1 for m in body["messages"] if m.get("tool_calls"))
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        if done == len(found.steps):
            last = {"role": "assistant", "content": found.final}
            return {"choices": [{"message": last, "finish_reason": "stop"}], "usage": usage}
        calls = [
            {
                "id": f"call_{body['seed']}_{position}",
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(found.arguments(done, position))},
            }
            for position, call in enumerate(found.steps[done])
        ]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}

    async def send(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        """One request from coordinator-1; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await self.endpoint.handle(Request(method, "/v1" + path, query, body=data, instance="coordinator-1"))

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """One request that must be answered with 200."""
        reply = await self.send(method, path, body, **query)
        assert reply.status == 200, reply.body
        data: dict[str, Any] = json.loads(reply.body)
        return data

    async def start(self, message: str | None = None, **assistant: Any) -> str:
        """A run on a new thread; returns its path."""
        made = await self.call("POST", "/assistants", {"model": "gpt-4o", "tools": list(script.TOOLS), **assistant})
        words = TURN.message() if message is None else message
        thread = await self.call("POST", "/threads", {"messages": [{"role": "user", "content": words}]})
        run = await self.call("POST", f"/threads/{thread['id']}/runs", {"assistant_id": made["id"]})
        assert run["status"] == "queued"
        return f"/threads/{thread['id']}/runs/{run['id']}"

    async def until(self, path: str, status: str) -> dict[str, Any]:
        """Poll until the run shows this status."""
        for _ in range(200):
            run = await self.call("GET", path)
            if run["status"] == status:
                return run
            await asyncio.sleep(0.001)
        raise AssertionError(f"never {status}: {run}")

    async def answer(self, path: str, run: dict[str, Any]) -> Reply:
        """Submit an output for each call that the run shows."""
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": f"done {call['function']['name']}"} for call in calls]
        return await self.send("POST", path + "/submit_tool_outputs", {"tool_outputs": outputs})


def play(scene: Callable[[Api], Awaitable[None]], **settings: Any) -> Api:
    """Run a scene against a fresh endpoint, and close it."""

    async def main() -> Api:
        api = Api(**settings)
        await scene(api)
        await api.endpoint.aclose()
        return api

    return asyncio.run(main())


def test_there_are_23_operations() -> None:
    """The whole interface without streaming, each operation once, all under /v1."""

    async def scene(api: Api) -> None:
        listed = [(o.method, o.path) for o in api.endpoint.operations]
        assert len(listed) == len(set(listed)) == 23
        assert all(path.startswith("/v1/") for _, path in listed)
        assert {o.summary for o in api.endpoint.operations if o.hot} >= {"Retrieve run", "Create run", "Submit tool outputs"}

    play(scene)


def test_whole_turn_and_its_events() -> None:
    """A turn from the first message to the last word, with exactly the events that the history promises."""

    async def scene(api: Api) -> None:
        path = await api.start()
        run = await api.until(path, "requires_action")
        assert (await api.answer(path, run)).status == 200
        await api.until(path, "completed")
        messages = await api.call("GET", path.rsplit("/", 2)[0] + "/messages")
        assert messages["data"][0]["content"][0]["text"]["value"] == TURN.final
        steps = (await api.call("GET", path + "/steps", order="asc"))["data"]
        assert [s["type"] for s in steps] == ["tool_calls", "message_creation"]
        step = await api.call("GET", f"{path}/steps/{steps[0]['id']}")
        assert step["step_details"]["tool_calls"][0]["function"]["output"] == "done create_ticket"

    api = play(scene)
    events = api.history.events
    assert {e.conversation for e in events} == {"C8821"}
    assert [from_json(to_json(e)) for e in events] == events
    user, assistant = of_kind(events, MessageAdded)
    assert (user.role, user.turn_id, user.instance) == ("user", "turn_1", "coordinator-1")
    assert (assistant.role, assistant.turn_id, assistant.instance) == ("assistant", None, None)
    (created,) = of_kind(events, RunCreated)
    assert (created.turn_id, created.instance) == ("turn_1", "coordinator-1")
    (asked,) = of_kind(events, ActionRequired)
    assert (asked.ordinal, asked.generation, asked.turn_id) == (0, 1, "turn_1")
    assert [(c.tool, c.position, c.nonce) for c in asked.calls] == [
        (call.tool, position, TURN.nonce(0, position)) for position, call in enumerate(TURN.steps[0])
    ]
    assert asked.calls[0].payload_hash == payload_hash(TURN.arguments(0, 0))
    told = list(of_kind(events, RunTold))
    assert [t.nth for t in told] == list(range(1, len(told) + 1))
    assert (told[0].via, told[0].status, told[0].waiting_for) == ("create", "queued", ())
    waiting = [t for t in told if t.status == "requires_action"]
    assert {t.waiting_for for t in waiting} == {tuple(c.tool_call_id for c in asked.calls)}
    assert [t.status for t in told if t.via == "submit"] == ["queued"]
    assert not any(t.stale for t in told)
    (received,) = of_kind(events, SubmitReceived)
    (accepted,) = of_kind(events, SubmitAccepted)
    assert received.submit_id == accepted.submit_id
    assert received.outputs == accepted.outputs
    assert accepted.outputs[1] == Output(tool_call_id=asked.calls[1].tool_call_id, output="done send_email")
    assert (accepted.step_id, accepted.ordinal, accepted.repeat) == (asked.step_id, 0, False)
    (ended,) = of_kind(events, RunEnded)
    assert (ended.status, ended.reason) == ("completed", None)
    order = [type(e).__name__ for e in events if not isinstance(e, RunTold)]
    assert order == [
        *("MessageAdded", "RunCreated", "ActionRequired", "SubmitReceived", "SubmitAccepted", "MessageAdded", "RunEnded")
    ]


def test_what_the_serving_layer_is_asked() -> None:
    """Instructions, the thread's messages, each answered step; tools, run and thread; a fresh seed each time."""

    async def scene(api: Api) -> None:
        path = await api.start(instructions="Be kind.")
        await api.answer(path, await api.until(path, "requires_action"))
        await api.until(path, "completed")
        first, second = api.bodies
        assert [m["role"] for m in first["messages"]] == ["system", "user"]
        assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "tool", "tool", "tool"]
        calls = second["messages"][2]["tool_calls"]
        assert [m["tool_call_id"] for m in second["messages"][3:]] == [c["id"] for c in calls]
        assert second["messages"][3]["content"] == "done create_ticket"
        assert first["tools"] == list(script.TOOLS)
        assert first["seed"] != second["seed"]
        assert path == f"/threads/{first['metadata']['thread_id']}/runs/{first['metadata']['run_id']}"

    play(scene)


def test_run_settings_reach_the_serving_layer() -> None:
    """Without function tools none are sent; tool_choice and the last messages are respected."""

    async def scene(api: Api) -> None:
        made = await api.call("POST", "/assistants", {"model": "gpt-4o"})
        messages = [{"role": "user", "content": word} for word in ("one", "two", "three")]
        body = {
            "assistant_id": made["id"],
            "thread": {"messages": messages},
            "truncation_strategy": {"type": "last_messages", "last_messages": 2},
        }
        await api.call("POST", "/threads/runs", body)
        await api.call("POST", "/threads/runs", {**body, "tools": list(script.TOOLS), "tool_choice": "none"})
        await asyncio.sleep(0)
        assert "tools" not in api.bodies[0]
        assert [m["content"] for m in api.bodies[0]["messages"]] == ["two", "three"]
        assert api.bodies[1]["tool_choice"] == "none"

    play(scene)


def test_two_steps_in_order() -> None:
    """Each step of a script is a step of the run, and ordinals count them."""
    call = script.ScriptedCall("send_email", {"template": "t"})
    turn = script.Script("turn_2", "C1", "U1", ((call,), (call, call)))

    async def scene(api: Api) -> None:
        path = await api.start(turn.message())
        for _ in turn.steps:
            await api.answer(path, await api.until(path, "requires_action"))
        await api.until(path, "completed")

    api = play(scene)
    asked = list(of_kind(api.history.events, ActionRequired))
    assert [(a.ordinal, a.generation, len(a.calls)) for a in asked] == [(0, 1, 1), (1, 1, 2)]
    assert [a.ordinal for a in of_kind(api.history.events, SubmitAccepted)] == [0, 1]


def test_every_answer_that_shows_a_run_is_told() -> None:
    """create, poll, list, modify and cancel are told with their operation; thread and message answers are not."""

    async def scene(api: Api) -> None:
        path = await api.start()
        await api.until(path, "requires_action")
        await api.call("GET", path.rsplit("/", 1)[0])
        await api.call("POST", path, {"metadata": {"a": "b"}})
        assert (await api.call("POST", path + "/cancel"))["status"] == "cancelling"
        await api.until(path, "cancelled")

    api = play(scene)
    told = list(of_kind(api.history.events, RunTold))
    assert [t.via for t in told if t.via != "poll"] == ["create", "list", "modify", "cancel"]
    assert [t.status for t in told if t.via != "poll"] == ["queued", "requires_action", "requires_action", "cancelling"]
    (ended,) = of_kind(api.history.events, RunEnded)
    assert (ended.status, ended.reason) == ("cancelled", "cancelled by coordinator-1")


def test_refused_submits_are_recorded() -> None:
    """Wrong calls, a repeat, unreadable bodies and unknown runs are received, refused, and never accepted."""

    async def scene(api: Api) -> None:
        path = await api.start()
        run = await api.until(path, "requires_action")
        assert (await api.send("POST", path + "/submit_tool_outputs", {"tool_outputs": []})).status == 400
        assert (await api.send("POST", path + "/submit_tool_outputs", b"{")).status == 400
        assert (await api.send("POST", path + "/submit_tool_outputs", {"tool_outputs": [{"output": "x"}]})).status == 400
        streamed = await api.send("POST", path + "/submit_tool_outputs", {"tool_outputs": [], "stream": "yes"})
        assert b"'stream'" in streamed.body
        assert (await api.send("POST", path + "x/submit_tool_outputs", {"tool_outputs": []})).status == 404
        assert (await api.answer(path, run)).status == 200
        assert (await api.answer(path, run)).status == 400

    api = play(scene)
    refused = list(of_kind(api.history.events, SubmitRefused))
    assert [r.http_status for r in refused] == [400, 400, 400, 400, 404, 400]
    assert refused[0].message.startswith("Expected tool outputs for call_ids [")
    assert refused[-1].message == 'Runs in status "queued" do not accept tool outputs.'
    received = [r.submit_id for r in of_kind(api.history.events, SubmitReceived)]
    assert len(set(received)) == 7
    assert [r.submit_id for r in refused] == received[:5] + received[6:]


def test_idempotent_repeat_is_marked() -> None:
    """With repeat_submit=200 the repeat is accepted, marked, and told."""

    async def scene(api: Api) -> None:
        path = await api.start()
        run = await api.until(path, "requires_action")
        await api.answer(path, run)
        assert (await api.answer(path, run)).status == 200
        await api.until(path, "completed")
        assert (await api.answer(path, run)).status == 200

    api = play(scene, repeat_submit="200")
    assert [a.repeat for a in of_kind(api.history.events, SubmitAccepted)] == [False, True, True]
    assert len(api.bodies) == 2


def test_repeat_submit_is_checked() -> None:
    """A setting that does not exist is refused with what there is."""
    with pytest.raises(ValueError, match="repeat_submit='500' must be one of 400, 200, 409"):
        Api(repeat_submit="500")


def test_expiry_is_recorded_before_it_is_told() -> None:
    """The first look after the 600 seconds records the end, then tells it."""

    async def scene(api: Api) -> None:
        path = await api.start()
        await api.until(path, "requires_action")
        api.now += 600
        assert (await api.call("GET", path))["status"] == "expired"

    events = play(scene).history.events
    assert isinstance(events[-2], RunEnded)
    assert isinstance(events[-1], RunTold)
    assert (events[-2].status, events[-1].status) == ("expired", "expired")


@pytest.mark.parametrize(
    "broken",
    [
        RuntimeError("no replica is up"),
        {"choices": []},
        {"choices": [{"message": {"tool_calls": [{"id": 5, "function": {"name": "f", "arguments": "{}"}}]}}]},
        {"choices": [{"message": {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}] * 2}}]},
        {"choices": [{"message": {"content": ["no", "text"]}}]},
    ],
)
def test_broken_serving_layer_fails_the_run(broken: Any) -> None:
    """Whatever the serving layer raises or answers, the run fails with server_error and says why."""

    async def scene(api: Api) -> None:
        async def generate(body: dict[str, Any]) -> dict[str, Any]:
            if isinstance(broken, Exception):
                raise broken
            answer: dict[str, Any] = broken
            return answer

        api.endpoint = AssistantsEndpoint(api.core, api.history, NoFaults(), generate)
        run = await api.until(await api.start(), "failed")
        assert run["last_error"]["code"] == "server_error"
        assert run["last_error"]["message"]

    (ended,) = of_kind(play(scene).history.events, RunEnded)
    assert (ended.status, bool(ended.reason)) == ("failed", True)


def test_calls_without_readable_arguments_are_recorded_too() -> None:
    """Arguments that are no JSON object have no nonce, and the call is asked for all the same."""

    async def scene(api: Api) -> None:
        async def generate(body: dict[str, Any]) -> dict[str, Any]:
            calls = [{"id": f"c{n}", "function": {"name": "f", "arguments": text}} for n, text in enumerate(("{", "[1]"))]
            return {"choices": [{"message": {"tool_calls": calls}}]}

        api.endpoint = AssistantsEndpoint(api.core, api.history, NoFaults(), generate)
        await api.until(await api.start(), "requires_action")
        await api.endpoint.aclose()

    (asked,) = of_kind(play(scene).history.events, ActionRequired)
    assert [c.nonce for c in asked.calls] == [None, None]
    assert asked.calls[0].payload_hash != asked.calls[1].payload_hash


def test_conversation_comes_from_metadata_where_there_is_no_script() -> None:
    """Without a script the thread's metadata names the conversation, else there is none."""

    async def scene(api: Api) -> None:
        for metadata in ({"conversation_id": "C5"}, {}):
            thread = await api.call("POST", "/threads", {"metadata": metadata})
            await api.call("POST", f"/threads/{thread['id']}/messages", {"role": "user", "content": "hi"})

    assert [e.conversation for e in play(scene).history.events] == ["C5", None]


def test_headers_of_every_answer() -> None:
    """Answers and refusals carry a fresh request id, the version, timing and rate limits; some only when set."""

    async def scene(api: Api) -> None:
        good = await api.send("GET", "/assistants")
        bad = await api.send("GET", "/assistants", limit="0")
        lost = await api.send("GET", "/nowhere")
        assert [r.status for r in (good, bad, lost)] == [200, 400, 404]
        for reply in (good, bad, lost):
            assert reply.headers["openai-version"] == "2020-10-01"
            assert reply.headers["openai-processing-ms"].isdigit()
            assert reply.headers["x-ratelimit-remaining-requests"] == "9999"
            assert reply.headers["openai-poll-after-ms"] == "25"
            assert "x-should-retry" not in reply.headers
        assert len({r.headers["x-request-id"] for r in (good, bad, lost)}) == 3

    play(scene, poll_after_ms=25, retry_headers={"x-should-retry": "false"})


def test_retry_headers_come_with_what_clients_retry() -> None:
    """409 and 5xx carry the headers that tell a client whether and when to come again."""

    async def scene(api: Api) -> None:
        path = await api.start()
        run = await api.until(path, "requires_action")
        await api.answer(path, run)
        reply = await api.answer(path, run)
        assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
        assert "openai-poll-after-ms" not in reply.headers

    play(scene, repeat_submit="409", retry_headers={"x-should-retry": "false"})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"role": "user", "content": "\\ud800"}',
        b'{"role": "user", "content": "\xed\xa0\x80"}',
        b'{"role": "user", "content": "hi", "metadata": NaN}',
        b'{"role": "user", "content": 1e999}',
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"[" * 100_000,
        b'{"role": {}, "content": "hi"}',
        b"",
    ],
)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    """Whatever is sent, the answer is a 400 in OpenAI's shape, for each operation that reads a body."""

    async def scene(api: Api) -> None:
        path = await api.start()
        thread = path.rsplit("/", 2)[0]
        (message,) = (await api.call("GET", thread + "/messages"))["data"]
        await api.until(path, "requires_action")
        reply = await api.send("POST", thread + "/messages", body)
        assert reply.status == 400
        error = json.loads(reply.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        for other in ("/assistants", "/threads/runs", thread + "/runs", path + "/submit_tool_outputs"):
            assert (await api.send("POST", other, body)).status == 400
        for other in ("/threads", thread, f"{thread}/messages/{message['id']}", path):
            assert (await api.send("POST", other, body)).status in (200, 400)

    play(scene)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/assistants/asst_no"),
        ("POST", "/assistants/asst_no"),
        ("DELETE", "/assistants/asst_no"),
        ("GET", "/threads/thread_no"),
        ("POST", "/threads/thread_no"),
        ("DELETE", "/threads/thread_no"),
        ("GET", "/threads/thread_no/messages"),
        ("POST", "/threads/thread_no/messages"),
        ("GET", "/threads/thread_no/messages/msg_no"),
        ("DELETE", "/threads/thread_no/messages/msg_no"),
        ("GET", "/threads/thread_no/runs"),
        ("POST", "/threads/thread_no/runs"),
        ("GET", "/threads/thread_no/runs/run_no"),
        ("POST", "/threads/thread_no/runs/run_no"),
        ("POST", "/threads/thread_no/runs/run_no/cancel"),
        ("GET", "/threads/thread_no/runs/run_no/steps"),
        ("GET", "/threads/thread_no/runs/run_no/steps/step_no"),
        ("GET", "/threads/%00%ff/runs/run_no"),
        ("GET", "/models"),
    ],
)
def test_unknown_ids_and_paths_are_404(method: str, path: str) -> None:
    """What does not exist is a 404 in OpenAI's shape."""

    async def scene(api: Api) -> None:
        reply = await api.send(method, path)
        assert reply.status == 404
        assert json.loads(reply.body)["error"]["type"] == "invalid_request_error"

    play(scene)


def test_wrong_method_is_405() -> None:
    """A path that exists with another method says so."""

    async def scene(api: Api) -> None:
        assert (await api.send("PUT", "/assistants")).status == 405

    play(scene)


def test_unknown_query_parameters_are_accepted() -> None:
    """azure-ai-agents sends api-version with everything."""

    async def scene(api: Api) -> None:
        reply = await api.endpoint.handle(Request("GET", "/v1/assistants", {"api-version": "2025-05-01"}))
        assert reply.status == 200

    play(scene)


def test_a_hostile_script_is_no_script() -> None:
    """A mark in a message that holds something else than a script changes nothing."""
    async def scene(api: Api) -> None:
        thread = await api.call("POST", "/threads", {})
        for data in (b"[" * 50_000, b'{"turn_id": 1}', b"5", b'{"turn_id": "\\ud800"}'):
            words = f"[[anechoic:1:{base64.urlsafe_b64encode(data).decode()}]]"
            await api.call("POST", f"/threads/{thread['id']}/messages", {"role": "user", "content": words})

    assert {e.turn_id for e in of_kind(play(scene).history.events, MessageAdded)} == {None}


def test_reset_and_close_stop_the_background() -> None:
    """After a reset nothing is known any more, and a generation that hangs does not hold up the end."""

    async def scene(api: Api) -> None:
        async def generate(body: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(60)
            raise AssertionError("never reached")

        api.endpoint = AssistantsEndpoint(api.core, api.history, NoFaults(), generate)
        path = await api.start()
        await api.until(path, "in_progress")
        api.endpoint.reset()
        assert (await api.send("GET", path)).status == 404
        await api.until(await api.start(), "in_progress")
        await api.endpoint.aclose()
        assert len(asyncio.all_tasks()) == 1

    play(scene)


def test_same_seed_gives_the_same_history() -> None:
    """Everything but the time of day is a function of the seed."""

    async def scene(api: Api) -> None:
        path = await api.start()
        await api.until(path, "requires_action")

    def shape(api: Api) -> list[dict[str, Any]]:
        return [{**to_json(e), "t": 0} for e in api.history.events]

    assert shape(play(scene)) == shape(play(scene))


@pytest.mark.parametrize("query", ["?api-version=v1", "?api-version=2025-05-01&include[]=x&foo="])
def test_query_parameters_that_nobody_knows(query: str) -> None:
    """azure-ai-agents sends api-version with every request; what is not known is passed over, on each of the 23 operations."""
    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}

    async def main() -> None:
        endpoint = AssistantsEndpoint(Core(lambda: 1e9, Ids(1)), History(), NoFaults(), generate)
        ids: dict[str, str] = {}
        bodies: dict[str, Any] = {
            "Create assistant": {"model": "m"}, "Create message": {"role": "user", "content": "x"},
            "Submit tool outputs": {"tool_outputs": [{"tool_call_id": "call_1", "output": "x"}]},
        }

        async def ask(operation: Any) -> None:
            body = bodies.get(operation.summary, {"assistant_id": ids["assistant_id"]} if "run" in operation.summary else {})
            request = Request(
                operation.method, operation.path.format(**ids), query=dict(parse_qsl(query[1:], keep_blank_values=True)),
                body=json.dumps(body).encode() if operation.method == "POST" else b"",
            )
            reply = await endpoint.handle(request)
            assert reply.status == 200, (operation.summary, reply.body)
            data = json.loads(reply.body)
            if operation.summary.startswith("Create") and operation.summary != "Create thread and run":
                ids[operation.summary.split()[1] + "_id"] = data["id"]
            if operation.summary == "List run steps" and data["data"]:
                ids["step_id"] = data["data"][0]["id"]

        order = [
            "Create assistant", "Create thread", "Create message", "Create run", "Retrieve run", "List runs", "Modify run",
            "List run steps", "Retrieve run step", "Submit tool outputs", "Cancel run", "Create thread and run",
        ]  # fmt: skip
        by_name = {operation.summary: operation for operation in endpoint.operations}
        deletes = sorted((name for name in by_name if name.startswith("Delete")), key=lambda name: "message" not in name)
        rest = [name for name in by_name if name not in order and name not in deletes]
        for name in [*order, *rest, *deletes]:
            await ask(by_name[name])
            await asyncio.sleep(0.001)  # the run is generated
        assert len([*order, *rest, *deletes]) == 23
        await endpoint.aclose()

    asyncio.run(main())
