"""The gateway behind its skin, on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from fakes.faults import Fault
from fakes.gateway.callbacks import CallbackPoster
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.gateway.profile import PROFILES
from fakes.history import CallbackPosted, Event, History, ToolRequested, of_kind
from fakes.ids import Ids
from fakes.server import Server, bind, port_of
from fakes.skin import skin


class Receiver:
    """A submission handler, as small as it can be: keeps what is posted, answers what it is told to."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(json.loads(raw))
        status = self.statuses.pop(0) if self.statuses else 204
        headers = [(b"location", b"/elsewhere")] if status == 302 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class Wire:
    """A served gateway, a receiver of results, and a client."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.receiver = Receiver()
        self.post = CallbackPoster(timeout=5.0)

    async def at(self, event: Event) -> Sequence[Fault]:
        return [self.faults.pop(0)] if event.kind == "tool_requested" and self.faults else ()

    async def __aenter__(self) -> Wire:
        clock = asyncio.get_running_loop().time
        self.history = History(clock=clock)
        self.endpoint = GatewayEndpoint(
            GatewayCore(PROFILES["lookup"], clock=clock, ids=Ids(1, "gateway")), self.history, self,
            post=self.post, log=lambda line: None, admin_token="secret", clock=clock, seed=1,
        )
        sockets = [bind(), bind()]
        ports = {port_of(s): f"coordinator-{n}" for n, s in enumerate(sockets, 1)}
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        app = skin(self.endpoint, title="tool gateway", history=self.history, token="secret", instance_of=ports.get,
                   reset=self.endpoint.reset)
        listening = bind()
        self.callback_url = f"http://127.0.0.1:{port_of(listening)}/tool-results"
        self.servers = [Server(app, sockets), Server(self.receiver, [listening])]
        for server in self.servers:
            await server.start()
        self.client = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.close()
        await self.endpoint.aclose()
        await self.post.aclose()
        for server in self.servers:
            await server.stop()

    async def call(self, instance: int = 1, timeout: float = 10, **fields: Any) -> tuple[int, Any]:
        body = {"arguments": {"user_id": "U1"}, "tool_call_id": "call_1", **fields}
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self.client.post(f"{self.urls[instance - 1]}/tools/create_ticket", json=body, timeout=limit) as answer:
            return answer.status, await answer.json()

    async def effects(self) -> list[dict[str, Any]]:
        async with self.client.get(f"{self.urls[0]}/effects?tool_call_id=call_1") as answer:
            return list((await answer.json())["effects"])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


def run(scenario: Callable[[Wire], Awaitable[None]]) -> None:
    """Play a scenario on the wire."""

    async def play() -> None:
        async with Wire() as wire:
            await scenario(wire)

    asyncio.run(play())


def test_a_call_and_its_sender() -> None:
    """The instance is known from the port; the ledger shows the effect."""

    async def scenario(wire: Wire) -> None:
        status, body = await wire.call(instance=2)
        assert (status, body["external_id"]) == (200, "INC-55102")
        (requested,) = of_kind(wire.history.events, ToolRequested)
        assert requested.instance == "coordinator-2"
        assert [effect["external_id"] for effect in await wire.effects()] == ["INC-55102"]

    run(scenario)


@pytest.mark.parametrize(("fault", "effects"), [("lose_request", 0), ("commit_then_lose_reply", 1)])
def test_a_cut_ends_the_connection_without_an_answer(fault: str, effects: int) -> None:
    """To the sender both look the same; the ledger knows the difference."""

    async def scenario(wire: Wire) -> None:
        wire.faults = [Fault(fault)]
        with pytest.raises(aiohttp.ClientConnectionError):
            await wire.call()
        assert len(await wire.effects()) == effects

    run(scenario)


def test_a_503_and_a_500_after_the_commit() -> None:
    """Errors arrive as HTTP errors with their code."""

    async def scenario(wire: Wire) -> None:
        wire.faults = [Fault("unavailable"), Fault("commit_then_500")]
        for code, status, effects in (("unavailable", 503, 0), ("internal_error", 500, 1)):
            answer = await wire.call()
            assert (answer[0], answer[1]["error"]["code"]) == (status, code)
            assert len(await wire.effects()) == effects

    run(scenario)


def test_a_timed_out_request_still_commits() -> None:
    """The client goes away while the tool is slow; the effect comes all the same."""

    async def scenario(wire: Wire) -> None:
        wire.faults = [Fault("slow", {"seconds": 0.8, "where": "before"})]
        with pytest.raises(TimeoutError):
            await wire.call(timeout=0.1)
        assert await wire.effects() == []
        await wire.until(lambda: len(wire.endpoint.core.ledger.effects) == 1)

    run(scenario)


def test_results_are_posted_until_accepted() -> None:
    """Neither a 503 nor a redirect is an acceptance."""

    async def scenario(wire: Wire) -> None:
        wire.receiver.statuses = [503, 302, 200]
        status, body = await wire.call(run_id="run_1", callback_url=wire.callback_url)
        assert (status, body["status"]) == (202, "accepted")
        await wire.until(lambda: len(list(of_kind(wire.history.events, CallbackPosted))) == 3)
        assert [e.http_status for e in of_kind(wire.history.events, CallbackPosted)] == [503, 302, 200]
        assert "INC-55102" in wire.receiver.bodies[-1]["output"]

    run(scenario)


def test_nobody_at_the_callback_address() -> None:
    """A refused connection is an attempt without an answer, and is tried again."""

    async def scenario(wire: Wire) -> None:
        with_nobody = bind()
        port = port_of(with_nobody)
        with_nobody.close()
        await wire.call(callback_url=f"http://127.0.0.1:{port}/tool-results")
        await wire.until(lambda: len(list(of_kind(wire.history.events, CallbackPosted))) == 2)
        assert {e.http_status for e in of_kind(wire.history.events, CallbackPosted)} == {None}

    run(scenario)


def test_the_poster_tells_a_timeout_and_reopens_after_closing() -> None:
    """TimeoutError for a receiver that never answers; closing twice is safe."""

    async def scenario() -> None:
        never_accepts = bind()  # the kernel completes the connection, nobody reads from it
        post = CallbackPoster(timeout=0.1)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await post(f"http://127.0.0.1:{port_of(never_accepts)}/", {})
            await post.aclose()
        await post.aclose()
        never_accepts.close()

    asyncio.run(scenario())


def test_the_skin_serves_metrics_docs_and_reset() -> None:
    """Prometheus text, an OpenAPI document with every operation, and reset behind the token."""

    async def scenario(wire: Wire) -> None:
        await wire.call()
        url = wire.urls[0]
        async with wire.client.get(f"{url}/metrics") as answer:
            assert 'tool_gw_requests_total{http_status="200"} 1.0' in await answer.text()
        async with wire.client.get(f"{url}/openapi.json") as answer:
            paths = (await answer.json())["paths"]
            assert {"/tools/{name}", "/effects", "/fences/{tool_call_id}", "/capabilities"} <= set(paths)
        async with wire.client.post(f"{url}/admin/reset", headers={"authorization": "Bearer secret"}) as answer:
            assert answer.status == 200
        assert await wire.effects() == []

    run(scenario)
