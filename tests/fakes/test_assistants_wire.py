"""The fake Assistants API on real sockets: the openai SDK against the skin, cut connections, and what the skin adds."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes import script
from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.faults import Fault
from fakes.history import Event, History, RunCreated, RunTold, SubmitAccepted, SubmitReceived, of_kind, read
from fakes.ids import Ids
from fakes.server import Server, bind, port_of
from fakes.skin import skin

TOKEN = "the-token-of-this-run"
TURN = script.default("turn_1", "C1", "U1")


async def generate(body: dict[str, Any]) -> dict[str, Any]:
    """A serving layer that asks for the default calls once, then closes."""
    if any(message.get("tool_calls") for message in body["messages"]):
        return {"choices": [{"message": {"content": TURN.final}, "finish_reason": "stop"}]}
    calls = [
        {
            "id": f"call_{body['seed']}_{position}",
            "type": "function",
            "function": {"name": call.tool, "arguments": json.dumps(TURN.arguments(0, position))},
        }
        for position, call in enumerate(TURN.steps[0])
    ]
    return {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}


class CutOnce:
    """A nemesis that cuts the first answer to an accepted submit."""

    def __init__(self) -> None:
        self.armed = False
        self.cut_stream: str | None = None
        self.runs = 1

    async def at(self, event: Event) -> Sequence[Fault]:
        """lose_submit_reply, once; or the stream of run number `runs` is cut, or ends with an error."""
        if self.armed and isinstance(event, SubmitAccepted):
            self.armed = False
            return (Fault("lose_submit_reply"),)
        self.runs -= isinstance(event, RunCreated)
        if self.cut_stream and self.runs < 1 and isinstance(event, RunTold) and event.status == "in_progress":
            how, self.cut_stream = self.cut_stream, None
            return (Fault("cut_stream", {"how": how}),)
        return ()


class Served:
    """The fake, served on a free port of the loopback interface."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.nemesis = CutOnce()
        core = Core(time.time, Ids(9))
        self.endpoint = AssistantsEndpoint(core, history, self.nemesis, generate, poll_after_ms=5)
        self._listening = bind()
        self.port = port_of(self._listening)
        app = skin(
            self.endpoint,
            title="Fake Assistants API",
            history=history,
            token=TOKEN,
            instance_of={self.port: "coordinator-1"}.get,
            reset=self.endpoint.reset,
        )
        self.server = Server(app, [self._listening])

    def client(self, retries: int = 0) -> openai.OpenAI:
        """The SDK, pointed at the fake."""
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="dummy", max_retries=retries, timeout=20)

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """One raw request on a connection of its own: the status and the body, status 0 when the connection just ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: fake\r\nConnection: close\r\n{headers}{length}\r\n".encode() + body)
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), rest


def serve(scene: Callable[[Served], Awaitable[None]], path: Path | None = None) -> History:
    """Run a scene against the served fake, then give everything back."""

    async def main() -> History:
        history = History(path=path)
        served = Served(history)
        await served.server.start()
        try:
            await scene(served)
        finally:
            await served.endpoint.aclose()
            await served.server.stop()
            history.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", served.port)) != 0
        return history

    return asyncio.run(main())


def turn(client: openai.OpenAI) -> str:
    """What a coordinator made of the SDK's polling helpers does: one turn, to the last word."""
    assistant = client.beta.assistants.create(model="gpt-4o", tools=list(script.TOOLS))  # type: ignore[arg-type]
    thread = client.beta.threads.create(messages=[{"role": "user", "content": TURN.message()}])
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    assert run.status == "requires_action"
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [call.function.name for call in calls] == [tool["function"]["name"] for tool in script.TOOLS]
    run = client.beta.threads.runs.submit_tool_outputs_and_poll(
        thread_id=thread.id, run_id=run.id, tool_outputs=[{"tool_call_id": call.id, "output": "done"} for call in calls]
    )
    assert run.status == "completed"
    last = client.beta.threads.messages.list(thread_id=thread.id, order="desc", limit=1).data[0].content[0]
    assert last.type == "text"
    return last.text.value


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sdk_polling_helpers_finish_a_turn(tmp_path: Path) -> None:
    """create_and_poll and submit_tool_outputs_and_poll reach the last word, fast because of openai-poll-after-ms."""

    async def scene(served: Served) -> None:
        with served.client() as client:
            assert await asyncio.to_thread(turn, client) == TURN.final

    history = serve(scene, tmp_path / "history.jsonl")
    told = list(of_kind(history.events, RunTold))
    assert {t.instance for t in told} == {"coordinator-1"}
    assert [t.via for t in told if t.via != "poll"] == ["create", "submit"]
    _, events, warning = read(tmp_path / "history.jsonl")
    assert (events, warning) == (history.events, None)


class Handler(openai.AssistantEventHandler):
    """What a user of the SDK's streaming helpers writes: the words, the calls and the last state of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.done: list[str] = []
        self.arguments: list[Any] = []
        self.ended = 0

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        """A piece of the answer."""
        self.words.append(delta.value)

    def on_tool_call_done(self, tool_call: Any) -> None:
        """A call with all its arguments, put together by the SDK."""
        if tool_call.id not in self.done:
            self.done.append(tool_call.id)
            self.arguments.append(json.loads(tool_call.function.arguments))

    def on_end(self) -> None:
        """The stream was read to its end."""
        self.ended += 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sdk_streaming_helpers_finish_a_turn() -> None:
    """runs.stream and submit_tool_outputs_stream with an event handler: two streams, every call and every word."""

    def work(client: openai.OpenAI) -> None:
        assistant = client.beta.assistants.create(model="gpt-4o", tools=list(script.TOOLS))  # type: ignore[arg-type]
        thread = client.beta.threads.create(messages=[{"role": "user", "content": TURN.message()}])
        first = Handler()
        with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=first) as stream:
            run = stream.get_final_run()
        assert run.status == "requires_action"
        assert run.required_action is not None
        calls = run.required_action.submit_tool_outputs.tool_calls
        assert first.done == [call.id for call in calls]
        assert first.arguments == [TURN.arguments(0, position) for position in range(3)]
        second = Handler()
        outputs: Any = [{"tool_call_id": call.id, "output": "done"} for call in calls]
        with client.beta.threads.runs.submit_tool_outputs_stream(
            thread_id=thread.id, run_id=run.id, tool_outputs=outputs, event_handler=second
        ) as stream:
            assert stream.get_final_run().status == "completed"
            (message,) = stream.get_final_messages()
        assert "".join(second.words) == TURN.final == message.content[0].text.value  # type: ignore[union-attr]
        assert len(second.words) > 1
        assert first.ended == second.ended == 1

    async def scene(served: Served) -> None:
        with served.client() as client:
            await asyncio.to_thread(work, client)

    told = list(of_kind(serve(scene).events, RunTold))
    assert {t.via for t in told} == {"stream"}
    assert {t.instance for t in told} == {"coordinator-1"}
    assert [t.status for t in told if t.waiting_for] == ["requires_action"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sdk_raw_streams() -> None:
    """create_and_run with stream=True, and submits with stream=True, event by event; every object is one that the SDK knows."""

    def work(client: openai.OpenAI) -> None:
        assistant = client.beta.assistants.create(model="gpt-4o", tools=list(script.TOOLS))  # type: ignore[arg-type]
        asked: Any = {"messages": [{"role": "user", "content": TURN.message()}]}
        events: list[Any] = list(client.beta.threads.create_and_run(assistant_id=assistant.id, thread=asked, stream=True))
        assert [e.event for e in events[:2]] == ["thread.created", "thread.run.created"]
        run = events[-1].data
        assert (events[-1].event, run.status) == ("thread.run.requires_action", "requires_action")
        outputs: Any = [{"tool_call_id": c.id, "output": "done"} for c in run.required_action.submit_tool_outputs.tool_calls]
        more: list[Any] = list(
            client.beta.threads.runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs, stream=True)
        )
        assert (more[0].event, more[-1].event) == ("thread.run.step.completed", "thread.run.completed")
        for event in events + more:
            assert not event.data.model_extra, event

    async def scene(served: Served) -> None:
        with served.client() as client:
            await asyncio.to_thread(work, client)

    serve(scene)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("how", "error", "said"), [
    ("cut", openai.APIConnectionError, "onnection"), ("error", openai.APIError, "The server had an error"),
])  # fmt: skip
def test_a_stream_that_ends_before_its_time_reaches_the_sdk(how: str, error: type[Exception], said: str) -> None:
    """What was told before arrives; then the SDK raises. It does not ask again, although it may retry requests."""

    def work(served: Served) -> list[str]:
        served.nemesis.cut_stream = how
        seen: list[str] = []
        with served.client(retries=2) as client:
            assistant = client.beta.assistants.create(model="gpt-4o")
            stream = client.beta.threads.create_and_run(assistant_id=assistant.id, stream=True)
            with pytest.raises(error, match=said):
                seen.extend(event.event for event in stream)
        return seen

    async def scene(served: Served) -> None:
        seen = await asyncio.to_thread(work, served)
        assert seen == ["thread.created", "thread.run.created", "thread.run.queued", "thread.run.in_progress"]
        assert (await served.ask("GET", "/health"))[0] == 200

    history = serve(scene)
    assert len(list(of_kind(history.events, RunCreated))) == 1


@pytest.mark.parametrize("streamed", [False, True], ids=["create_and_process", "stream"])
def test_azure_ai_agents_finish_a_turn(streamed: bool) -> None:
    """The other SDK: its paths, its api-version, its functions called by itself, polling and over its own reader of streams."""
    from azure.ai.agents import AgentsClient
    from azure.ai.agents.models import AgentEventHandler, FunctionTool
    from azure.core.credentials import AzureKeyCredential
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    called: list[str] = []

    def create_ticket(user_id: str, conversation_id: str, subject: str, reference: str) -> str:
        called.append(reference)
        return "done"

    def send_email(user_id: str, conversation_id: str, template: str, reference: str) -> str:
        called.append(reference)
        return "done"

    def refund_payment(user_id: str, conversation_id: str, amount_cents: int, reference: str) -> str:
        called.append(reference)
        return "done"

    def work(url: str) -> str:
        anyone: Any = AzureKeyCredential("dummy")
        policy: Any = SansIOHTTPPolicy()
        with AgentsClient(url, anyone, authentication_policy=policy) as client:
            tool = FunctionTool({create_ticket, send_email, refund_payment})
            client.enable_auto_function_calls({create_ticket, send_email, refund_payment})
            agent = client.create_agent(model="gpt-4o", tools=tool.definitions)
            thread = client.threads.create()
            client.messages.create(thread.id, role="user", content=TURN.message())
            if streamed:
                handler: Any = AgentEventHandler()
                with client.runs.stream(thread.id, agent_id=agent.id, event_handler=handler) as stream:
                    stream.until_done()
            else:
                client.runs.create_and_process(thread.id, agent_id=agent.id, polling_interval=0)
            (run,) = client.runs.list(thread.id)
            assert run.status == "completed"
            return str(client.messages.get_last_message_text_by_role(thread.id, "assistant").text.value)  # type: ignore[union-attr]

    async def scene(served: Served) -> None:
        assert await asyncio.to_thread(work, f"http://127.0.0.1:{served.port}/v1") == TURN.final
        assert called == [TURN.arguments(0, position)["reference"] for position in range(3)]

    told = list(of_kind(serve(scene).events, RunTold))
    assert ("stream" in {t.via for t in told}) == streamed


NODE_SDK = Path(__file__).parents[2] / "coordinators" / "examples" / "openai_node" / "node_modules" / "openai" / "index.mjs"
NODE_TURN = """
const { default: OpenAI } = await import(process.argv[1]);
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "dummy", maxRetries: 0 });
const { threads } = client.beta;
const assistant = await client.beta.assistants.create({ model: "gpt-4o", tools: JSON.parse(process.argv[3]) });
const thread = { messages: [{ role: "user", content: process.argv[4] }] };
const first = threads.createAndRunStream({ assistant_id: assistant.id, thread });
const calls = [];
first.on("toolCallDone", (call) => calls.push(call.function.name));
let run = await first.finalRun();
const tool_outputs = run.required_action.submit_tool_outputs.tool_calls.map((call) => ({ tool_call_id: call.id, output: "done" }));
const events = [];
let words = "";
const body = { thread_id: run.thread_id, tool_outputs, stream: true };
for await (const event of await threads.runs.submitToolOutputs(run.id, body)) {
  events.push(event.event);
  if (event.event === "thread.message.delta") words += event.data.delta.content[0].text.value;
}
console.log(JSON.stringify({ calls, words, last: events.at(-1) }));
try {
  for await (const event of await threads.createAndRun({ assistant_id: assistant.id, thread, stream: true })) events.push(event.event);
} catch (error) {
  console.log(JSON.stringify({ error: error.constructor.name, message: error.message, last: events.at(-1) }));
}
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not NODE_SDK.exists(),
    reason="!! Node or node_modules is missing: npm ci --prefix coordinators/examples/openai_node",
)
@pytest.mark.parametrize(("how", "said"), [("cut", "terminated"), ("error", "The server had an error")])
def test_the_node_sdk_reads_streams(how: str, said: str) -> None:
    """Its helper and its raw stream finish a turn; a stream that ends before its time is an error there, too."""

    async def scene(served: Served) -> None:
        served.nemesis.cut_stream, served.nemesis.runs = how, 2
        words = [str(NODE_SDK), f"http://127.0.0.1:{served.port}/v1", json.dumps(list(script.TOOLS)), TURN.message()]
        node = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", NODE_TURN, "--", *words, stdout=asyncio.subprocess.PIPE
        )
        assert node.stdout is not None
        first, second = [json.loads(await asyncio.wait_for(node.stdout.readline(), 60)) for _ in range(2)]
        calls = [tool["function"]["name"] for tool in script.TOOLS]
        assert first == {"calls": calls, "words": TURN.final, "last": "thread.run.completed"}
        assert second["last"] == "thread.run.in_progress"
        assert said in second["message"]
        await node.wait()

    serve(scene)


def test_a_client_that_leaves_in_the_middle_of_a_stream(caplog: pytest.LogCaptureFixture) -> None:
    """It is told nothing any more, the run goes on, and nothing follows it."""

    async def scene(served: Served) -> None:
        going_on = asyncio.Event()

        async def slow(body: dict[str, Any]) -> dict[str, Any]:
            await going_on.wait()
            return await generate(body)

        served.endpoint._driver._generate = slow
        assistant = json.loads((await served.ask("POST", "/v1/assistants", b'{"model": "gpt-4o"}'))[1])["id"]
        body = json.dumps({"assistant_id": assistant, "stream": True}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /v1/threads/runs HTTP/1.1\r\nHost: fake\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await reader.readuntil(b"event: thread.run.in_progress")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while served.endpoint._streams.opened:
                await asyncio.sleep(0.001)
            going_on.set()
            (run,) = (run for thread in served.endpoint._core.threads.values() for run in thread.runs.values())
            while run.status != "requires_action":
                await asyncio.sleep(0.001)
        assert run.followers == []

    told = [t.status for t in of_kind(serve(scene).events, RunTold)]
    assert told == ["queued", "queued", "in_progress"]
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sdk_pages_and_errors() -> None:
    """The SDK walks through pages by itself and raises its own typed errors."""

    def work(client: openai.OpenAI) -> None:
        thread = client.beta.threads.create()
        made = [client.beta.threads.messages.create(thread.id, role="user", content=str(n)).id for n in range(5)]
        listed = client.beta.threads.messages.list(thread.id, limit=2, order="asc")
        assert [message.id for message in listed] == made
        client.beta.threads.messages.delete(made[0], thread_id=thread.id)
        with pytest.raises(openai.NotFoundError, match="No message found with id"):
            client.beta.threads.messages.retrieve(made[0], thread_id=thread.id)
        with pytest.raises(openai.BadRequestError) as caught:
            client.beta.threads.messages.list(thread.id, limit=500)
        assert caught.value.param == "limit"
        assert caught.value.request_id is not None

    async def scene(served: Served) -> None:
        with served.client() as client:
            await asyncio.to_thread(work, client)

    serve(scene)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cut_reaches_the_sdk_as_a_lost_connection() -> None:
    """An answer that is cut off ends the connection; the SDK retries the submit, and the repeat is refused."""

    def work(served: Served, retries: int, error: type[Exception]) -> None:
        served.nemesis.armed = True
        with served.client(retries) as client, pytest.raises(error):
            turn(client)

    async def scene(served: Served) -> None:
        await asyncio.to_thread(work, served, 0, openai.APIConnectionError)
        await asyncio.to_thread(work, served, 1, openai.BadRequestError)

    history = serve(scene)
    assert len(list(of_kind(history.events, SubmitReceived))) == 3
    assert len(list(of_kind(history.events, SubmitAccepted))) == 2


def test_cut_is_a_closed_connection_without_a_byte() -> None:
    """On the socket nothing is read before the end, and the server goes on serving others."""

    async def scene(served: Served) -> None:
        async def post(path: str, body: Any) -> dict[str, Any]:
            status, answer = await served.ask("POST", path, json.dumps(body).encode())
            assert status == 200
            data: dict[str, Any] = json.loads(answer)
            return data

        assistant = await post("/v1/assistants", {"model": "gpt-4o"})
        run = await post("/v1/threads/runs", {"assistant_id": assistant["id"]})
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
        while run["status"] != "requires_action":
            run = json.loads((await served.ask("GET", path))[1])
        served.nemesis.armed = True
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "x"} for call in calls]}
        assert await served.ask("POST", path + "/submit_tool_outputs", json.dumps(outputs).encode()) == (0, b"")
        assert (await served.ask("GET", path))[0] == 200

    serve(scene)


def test_a_client_that_leaves_in_the_middle_of_its_request_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and then silence: no event, no error in the log."""

    async def scene(served: Served) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /v1/threads HTTP/1.1\r\nHost: fake\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()
        assert (await served.ask("GET", "/health"))[0] == 200

    assert serve(scene).events == []
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_what_the_skin_adds() -> None:
    """/health, /docs, an OpenAPI document with the 23 operations, and the admin interface behind its token."""

    async def scene(served: Served) -> None:
        assert await served.ask("GET", "/health") == (200, b'{"status":"ok"}')
        assert (await served.ask("GET", "/docs"))[0] == 200
        status, document = await served.ask("GET", "/openapi.json")
        assert status == 200
        paths = json.loads(document)["paths"]
        listed = {(m.upper(), p) for p, methods in paths.items() for m in methods if p.startswith("/v1/")}
        assert listed == {(o.method, o.path) for o in served.endpoint.operations}
        run = paths["/v1/threads/{thread_id}/runs/{run_id}"]["get"]
        assert run["summary"] == "Retrieve run"
        assert [p["name"] for p in run["parameters"]] == ["thread_id", "run_id"]

        assert (await served.ask("GET", "/nowhere"))[0] == 404
        assert (await served.ask("PUT", "/v1/assistants"))[0] == 405
        assert (await served.ask("POST", "/v1/threads", b"{"))[0] == 400

        assert (await served.ask("GET", "/admin/events"))[0] == 401
        assert (await served.ask("GET", "/admin/events", headers="Authorization: Bearer wrong\r\n"))[0] == 401
        admin = f"Authorization: Bearer {TOKEN}\r\n"
        message = {"messages": [{"role": "user", "content": "hi"}]}
        for _ in range(3):
            await served.ask("POST", "/v1/threads", json.dumps(message).encode())
        status, lines = await served.ask("GET", "/admin/events?after=1", headers=admin)
        assert status == 200
        assert [json.loads(line)["seq"] for line in lines.splitlines()] == [2, 3]
        assert (await served.ask("GET", "/admin/events?after=x", headers=admin))[0] == 400
        assert (await served.ask("POST", "/admin/faults", b"{}", headers=admin))[0] == 404
        assert (await served.ask("POST", "/admin/reset"))[0] == 401
        assert await served.ask("POST", "/admin/reset", headers=admin) == (200, b'{"reset":true}')

    serve(scene)
