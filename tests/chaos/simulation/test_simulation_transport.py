"""The in-memory transport: httpx, httpx2 and the openai SDK in a simulation, with the timeouts and failures of real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from chaos.simulation.loop import VirtualLoop
from chaos.simulation.network import Edge, Network, Trouble
from chaos.simulation.toxics import Toxic
from chaos.simulation.transport import MemoryTransport
from fakes.exchange import Cut, Reply, Request


class Pieces:
    """Ten pieces, `seconds` apart; the connection ends after the fifth where it is to be cut."""

    def __init__(self, seconds: float, cut: bool) -> None:
        self.seconds, self.cut, self.sent, self.left = seconds, cut, 0, False

    def leave(self) -> None:
        self.left = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(10):
            if self.left:
                return
            if self.cut and number == 5:
                raise Cut
            await asyncio.sleep(self.seconds)
            self.sent += 1
            yield b"%d " % number


class World:
    """One edge to an echo, and a client of either library."""

    def __init__(self, library: ModuleType, **options: Any) -> None:
        self.library = library
        self.loop = VirtualLoop()  # type: ignore[abstract]
        self.network = Network(self.loop, seed=1, latency=(0.001, 0.002), wall=lambda: 1_000_000_000.0)
        self.url = "http://" + self.network.open("assistants", "coordinator-1", self.echo)
        self.edge: Edge = self.network.edges[0]
        self.seen: list[Request] = []
        self.seconds = 0.0
        self.client = library.AsyncClient(transport=MemoryTransport(self.network, **options), timeout=0.5)

    async def echo(self, request: Request) -> Reply:
        self.seen.append(request)
        if request.path == "/cut":
            raise Cut
        if request.path == "/stream":
            self.pieces = Pieces(self.seconds, cut="cut" in request.query)
            return Reply(200, media_type="text/event-stream", stream=self.pieces)
        await asyncio.sleep(self.seconds)
        return Reply.json({"path": request.path, "query": dict(request.query)}, headers={"X-Fake": "yes"})

    def ask(self, method: str, path: str, **more: Any) -> Any:
        async def work() -> Any:
            return await self.client.request(method, self.url + path, **more)

        return self.loop.run(work())


@pytest.fixture(params=["httpx", "httpx2"])
def world(request: pytest.FixtureRequest) -> Callable[..., World]:
    """`world(...)`: one for each library."""
    library = {"httpx": httpx, "httpx2": httpx2}[request.param]
    return lambda **options: World(library, **options)


def test_a_request_arrives_as_it_was_sent(world: Callable[..., World]) -> None:
    """Method, path, query, headers and body; the sender is known by the address, whatever it claims."""
    w = world()
    answer = w.ask("POST", "/v1/threads?limit=3&after=a%20b", json={"a": 1}, headers={"X-Instance": "coordinator-9"})
    assert (answer.status_code, answer.json()) == (200, {"path": "/v1/threads", "query": {"limit": "3", "after": "a b"}})
    assert (answer.headers["x-fake"], answer.headers["content-type"]) == ("yes", "application/json")
    request = w.seen[0]
    assert (request.method, request.instance, json.loads(request.body)) == ("POST", "coordinator-1", {"a": 1})
    assert request.headers["content-type"] == "application/json"
    assert 0.002 <= w.loop.time() <= 0.004


def test_read_timeouts_are_those_of_virtual_time(world: Callable[..., World]) -> None:
    """The fake has the request, the client has nothing, after exactly so long."""
    w = world()
    w.seconds = 60
    with pytest.raises(w.library.ReadTimeout, match=r"no answer within 0\.5 s"):
        w.ask("GET", "/slow")
    assert (len(w.seen), w.loop.time()) == (1, 0.5)


def test_connect_timeouts(world: Callable[..., World]) -> None:
    """A connection that is not made in time: nothing was sent."""
    w = world()
    w.edge.troubles.append(Trouble("no_connect", 1, 60.0))
    with pytest.raises(w.library.ConnectTimeout):
        w.ask("GET", "/")
    assert w.seen == []
    assert w.ask("GET", "/").status_code == 200


def test_pool_timeouts(world: Callable[..., World]) -> None:
    """With one connection, the second request waits for its place, the third gives up."""
    w = world(max_connections=1)
    w.seconds = 0.4

    async def work() -> list[Any]:
        asked = (w.client.get(w.url, timeout=w.library.Timeout(2, pool=pool)) for pool in (1, 1, 0.5))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = w.loop.run(work())
    assert (first.status_code, second.status_code) == (200, 200)
    assert isinstance(third, w.library.PoolTimeout)
    assert w.ask("GET", "/").status_code == 200


def test_how_a_connection_fails(world: Callable[..., World]) -> None:
    """A cut, a reset, an edge that is down, and an address where nothing is, each as the library would say it."""
    w = world()
    with pytest.raises(w.library.RemoteProtocolError, match="without an answer"):
        w.ask("GET", "/cut")
    reset = Toxic.of("r", {"type": "reset_peer", "stream": "downstream", "toxicity": 1.0, "attributes": {}})
    w.edge.toxics.append(reset)
    with pytest.raises(w.library.ReadError, match="reset"):
        w.ask("GET", "/")
    w.edge.remove(reset)
    w.edge.take_down()
    with pytest.raises(w.library.ConnectError, match="assistants-coordinator-1 refuses connections"):
        w.ask("GET", "/")
    with pytest.raises(w.library.ConnectError, match=r"nothing listens at example.org:80 in this simulation; there are 127"):
        w.loop.run(w.client.get("http://example.org/"))


def test_a_request_whose_sender_gave_up_still_arrives(world: Callable[..., World]) -> None:
    """As on the wire: a client that goes away takes nothing back."""
    w = world()

    async def work() -> None:
        task = asyncio.ensure_future(w.client.post(w.url, content=b"x"))
        await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)

    w.loop.run(work())
    assert [r.body for r in w.seen] == [b"x"]


async def read(w: World, path: str, seen: list[bytes]) -> None:
    async with w.client.stream("GET", w.url + path) as answer:
        assert "content-length" not in answer.headers
        async for piece in answer.aiter_raw():
            seen.append(piece)


def test_a_streamed_body_arrives_in_pieces_and_in_order(world: Callable[..., World]) -> None:
    """Over an edge with jitter, too; a read timeout is that of one piece, not of the whole."""
    w = world()
    w.seconds = 0.1
    w.edge.toxics.append(Toxic.of("l", {
        "type": "latency", "stream": "downstream", "toxicity": 1.0, "attributes": {"latency": 200, "jitter": 190},
    }))  # fmt: skip
    seen: list[bytes] = []
    w.loop.run(read(w, "/stream", seen))
    assert b"".join(seen) == b"0 1 2 3 4 5 6 7 8 9 "
    assert len(seen) > 3
    assert w.loop.time() > 1


def test_how_a_stream_fails(world: Callable[..., World]) -> None:
    """Silence, a cut, and a reset in the middle: what has arrived is read first."""
    w = world()
    w.seconds = 0.6
    with pytest.raises(w.library.ReadTimeout, match=r"no data within 0\.5 s"):
        w.loop.run(read(w, "/stream", []))
    w.loop.run(asyncio.sleep(2))
    assert (w.pieces.left, w.pieces.sent) == (True, 1)

    w.seconds = 0.01
    seen: list[bytes] = []
    with pytest.raises(w.library.RemoteProtocolError, match="in the middle of its answer"):
        w.loop.run(read(w, "/stream?cut=", seen))
    assert b"".join(seen) == b"0 1 2 3 4 "

    w.seconds, seen = 0.1, []
    w.loop.call_later(0.35, w.edge.break_all)
    with pytest.raises(w.library.ReadError, match="reset"):
        w.loop.run(read(w, "/stream", seen))
    assert b"".join(seen) == b"0 1 2 "
    w.loop.run(asyncio.sleep(2))
    assert (w.pieces.left, w.pieces.sent) == (True, 4)


def test_a_stream_holds_its_connection_until_it_is_closed(world: Callable[..., World]) -> None:
    """With one connection, the next request waits for the end of the stream, or for its reader to go."""
    w = world(max_connections=1)
    w.seconds = 0.05

    async def work(leave: bool) -> float:
        async with w.client.stream("GET", w.url + "/stream") as answer:
            async for _ in answer.aiter_raw():
                if leave:
                    break
        await w.client.get(w.url, timeout=5)
        return w.loop.time()

    assert w.loop.run(work(leave=True)) < 0.2
    start = w.loop.time()
    assert w.loop.run(work(leave=False)) - start > 0.5


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
def test_the_openai_sdk_runs_in_a_simulation(run: Any, kinds: Any, rule: Any) -> None:
    """The asynchronous client over httpx2, polling helpers, retries and all; and the same without a transport of its own."""
    from openai import AsyncOpenAI

    def create_app(environ: Any, *, transport: Any = None) -> Any:
        return Sdk(environ, AsyncOpenAI(http_client=httpx2.AsyncClient(transport=transport), max_retries=2))

    def create_bare_app(environ: Any) -> Any:
        return Sdk(environ, AsyncOpenAI(timeout=2.0))

    class Sdk:
        def __init__(self, environ: Any, client: AsyncOpenAI) -> None:
            self.environ, self.client = environ, client
            self.http = httpx.AsyncClient()
            self.turns: dict[str, Any] = {}
            self.tasks: list[Any] = []

        async def start(self, turn: Any) -> None:
            if self.turns.setdefault(turn["turn_id"], new := {"status": "running"}) is new:
                self.tasks.append(asyncio.create_task(self.conduct(turn)))

        async def results(self, result: Any) -> None:
            """Its tools are synchronous."""

        async def status(self, turn_id: str) -> Any:
            return self.turns.get(turn_id)

        async def conduct(self, turn: Any) -> None:
            try:
                await self.follow(turn)
            except Exception as error:
                self.turns[turn["turn_id"]] = {"status": "failed", "detail": repr(error)}

        async def follow(self, turn: Any) -> None:
            threads = self.client.beta.threads
            thread = await threads.create()
            await threads.messages.create(thread.id, role="user", content=turn["message"])
            run = await threads.runs.create_and_poll(thread_id=thread.id, assistant_id=self.environ["ASSISTANT_ID"])
            while run.status == "requires_action":
                outputs = [await self.tool(call) for call in run.required_action.submit_tool_outputs.tool_calls]
                run = await threads.runs.submit_tool_outputs_and_poll(run_id=run.id, thread_id=thread.id, tool_outputs=outputs)
            self.turns[turn["turn_id"]] = {"status": "done" if run.status == "completed" else "failed"}

        async def tool(self, call: Any) -> Any:
            url = f"{self.environ['TOOL_GATEWAY_URL']}/tools/{call.function.name}"
            answer = await self.http.post(url, json={"arguments": json.loads(call.function.arguments)})
            return {"tool_call_id": call.id, "output": answer.json()["output"]}

    class Streaming(Sdk):
        async def follow(self, turn: Any) -> None:
            threads = self.client.beta.threads
            asked: Any = {"messages": [{"role": "user", "content": turn["message"]}]}
            stream: Any = self.client.beta.threads.create_and_run_stream(assistant_id=self.environ["ASSISTANT_ID"], thread=asked)
            while True:
                async with stream as told:
                    run = await told.get_final_run()
                if run.status != "requires_action":
                    break
                outputs = [await self.tool(call) for call in run.required_action.submit_tool_outputs.tool_calls]
                stream = threads.runs.submit_tool_outputs_stream(run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs)
            self.turns[turn["turn_id"]] = {"status": "done" if run.status == "completed" else "failed"}

    def create_streaming_app(environ: Any, *, transport: Any = None) -> Any:
        return Streaming(environ, AsyncOpenAI(http_client=httpx2.AsyncClient(transport=transport), max_retries=0))

    events = run(coordinator=create_streaming_app, instances=1)
    assert [(e.status, e.detail) for e in kinds(events, "turn_ended")] == [("done", None)]
    assert len(kinds(events, "effect_committed")) == 3
    assert [e.via for e in kinds(events, "run_told")] == ["stream"] * 7
    assert list(run(coordinator=create_streaming_app, instances=1)) == events
    cut = rule({"event": "run_told", "via": "stream", "status": "in_progress"}, {"fault": "cut_stream"})
    (ended,) = kinds(run(cut, coordinator=create_streaming_app, instances=1), "turn_ended")
    assert "in the middle of its answer" in ended.detail or "Connection error" in ended.detail
    killed = rule({"event": "run_told", "via": "stream", "status": "in_progress"}, {"fault": "kill"})
    events = run(killed, coordinator=create_streaming_app, instances=1, turn_budget=5.0)
    (gone,) = kinds(events, "instance_exited")
    first = kinds(events, "run_created")[0].run_id
    assert not [e for e in kinds(events, "run_told") if e.run_id == first and e.seq > gone.seq]

    plan = rule({"event": "submit_accepted", "per": "all"}, {"fault": "lose_submit_reply"})
    for factory in (create_app, create_bare_app):
        events = run(coordinator=factory, instances=1)
        assert [(e.status, e.detail) for e in kinds(events, "turn_ended")] == [("done", None)]
        assert len(kinds(events, "effect_committed")) == 3
        assert len(kinds(run(plan, coordinator=factory, instances=1, turn_budget=5.0), "submit_received")) >= 2  # the SDK's own retry
