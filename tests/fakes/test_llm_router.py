"""The router: kills in flight, retries on another replica, and what it records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.exchange import Cut, Reply, Request
from fakes.faults import Fault
from fakes.history import Event, GenerationEnded, GenerationStarted, History, of_kind
from fakes.llm.brain import complete
from fakes.llm.router import LlmRouter
from fakes.llm.serving import Serving
from fakes.script import default

BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": default("turn_1", "C8821", "U19384").message()}],
    "seed": 1,
    "metadata": {"thread_id": "thread_7QpK", "run_id": "run_Ba91"},
}

Rule = Callable[["World", Event], Awaitable[Sequence[Fault]]]


class World:
    """A fleet, its router, their log, and one rule that is asked at each generation."""

    def __init__(self, rule: Rule | None, **settings: Any) -> None:
        self.history = History()
        self.log: list[str] = []
        self._rule = rule
        self.serving = Serving(self.history, self, seed=1, log=self.log.append, **settings)
        self.router = LlmRouter(self.history, self, self.serving, seed=1, log=self.log.append, patience=0.3)

    async def at(self, event: Event) -> Sequence[Fault]:
        """Ask the rule."""
        if self._rule is None or not isinstance(event, GenerationStarted | GenerationEnded):
            return ()
        return await self._rule(self, event)

    async def ask(self, body: dict[str, Any] = BODY) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one chat.completion request."""
        reply = await self.post(json.dumps(body).encode())
        return reply.status, json.loads(reply.body)

    async def post(self, body: bytes) -> Reply:
        """The reply to a request with that body."""
        return await self.router.handle(Request("POST", "/v1/chat/completions", body=body))

    def generations(self) -> list[tuple[str, int, str]]:
        """(replica, attempt, outcome) of each generation that ended."""
        return [(e.replica, e.attempt, e.outcome) for e in of_kind(self.history.events, GenerationEnded)]


@asynccontextmanager
async def world(rule: Rule | None = None, **settings: Any) -> AsyncIterator[World]:
    """A started world, cleaned up whatever happens."""
    made = World(rule, **{"restart_after": 0.0, "replicas": 2, **settings})
    await made.serving.start()
    try:
        yield made
    finally:
        await made.router.aclose()
        await made.serving.stop()


def first_attempt(event: Event) -> bool:
    """Whether the event is the start of a first attempt."""
    return isinstance(event, GenerationStarted) and event.attempt == 1


def test_a_generation_goes_through() -> None:
    """The answer is the model's, the events tie it to run and conversation, the log line is Artifact 3's."""

    async def main() -> None:
        async with world() as w:
            status, data = await w.ask()
            assert status == 200
            assert data["choices"] == complete(BODY, created=0)["choices"]
            [started] = of_kind(w.history.events, GenerationStarted)
            [ended] = of_kind(w.history.events, GenerationEnded)
            assert (started.run_id, started.conversation, started.attempt) == ("run_Ba91", "C8821", 1)
            assert (ended.request_id, ended.replica, ended.outcome) == (started.request_id, started.replica, "ok")
            tokens = data["usage"]["prompt_tokens"]
            assert w.log[-1].endswith(
                f" llm-serve INFO request path=/v1/threads/thread_7QpK/runs/run_Ba91 input_tokens={tokens}"
            )

    asyncio.run(main())


def test_a_kill_in_flight_doubles_the_generation() -> None:
    """The replica that serves is killed while it does; another one generates the same again."""

    async def kill_it(w: World, event: Event) -> Sequence[Fault]:
        if first_attempt(event):
            assert isinstance(event, GenerationStarted)
            assert await w.serving.kill(event.replica)
        return ()

    async def main() -> None:
        async with world(kill_it) as w:
            for _ in range(5):
                assert await w.serving.wait_healthy()
                w.history.events.clear()
                status, data = await w.ask()
                assert (status, data["choices"]) == (200, complete(BODY, created=0)["choices"])
                (one, first, lost), (other, second, ok) = w.generations()
                assert (first, lost, second, ok) == (1, "lost", 2, "ok")
                assert one != other
            assert sum("request path=" in line for line in w.log) == 10

    asyncio.run(main())


def test_a_single_replica_is_waited_for() -> None:
    """With nobody else there, the retry waits until the killed replica is back."""

    async def kill_it(w: World, event: Event) -> Sequence[Fault]:
        if first_attempt(event):
            await w.serving.kill(1)
        return ()

    async def main() -> None:
        async with world(kill_it, replicas=1) as w:
            w.router._patience = 10
            assert (await w.ask())[0] == 200
            assert w.generations() == [("serve-llm-1", 1, "lost"), ("serve-llm-1", 2, "ok")]

    asyncio.run(main())


def test_a_lost_generation_is_thrown_away() -> None:
    """lose_generation: the answer was there, is dropped, and another replica is asked; the fault says that it took effect."""
    told: list[str | None] = []

    async def lose(w: World, event: Event) -> Sequence[Fault]:
        return [Fault("lose_generation", on_injected=told.append)] if first_attempt(event) else []

    async def main() -> None:
        async with world(lose) as w:
            assert (await w.ask())[0] == 200
            assert [(attempt, outcome) for _, attempt, outcome in w.generations()] == [(1, "lost"), (2, "ok")]
            assert len({name for name, _, _ in w.generations()}) == 2
            assert w.serving.restarts == 0

    asyncio.run(main())
    assert len(told) == 1
    assert "thrown away" in str(told[0])


def test_a_generation_that_is_always_lost_ends() -> None:
    """After five attempts the client gets a 503, not an endless wait."""

    async def lose(w: World, event: Event) -> Sequence[Fault]:
        return [Fault("lose_generation")] if isinstance(event, GenerationStarted) else []

    async def main() -> None:
        async with world(lose) as w:
            status, data = await w.ask()
            assert (status, data["error"]["code"]) == (503, "unavailable")
            assert "5 times" in data["error"]["message"]
            assert len(w.generations()) == 5

    asyncio.run(main())


def test_without_any_replica_the_client_is_told() -> None:
    """When no replica comes back within the router's patience, the answer is a 503."""

    async def main() -> None:
        async with world(replicas=1, restart_after=600) as w:
            await w.serving.kill(1)
            status, data = await w.ask()
            assert (status, data["error"]["code"]) == (503, "unavailable")
            assert w.generations() == []

    asyncio.run(main())


def test_replicas_take_turns() -> None:
    """Requests go round robin over the healthy replicas."""

    async def main() -> None:
        async with world() as w:
            for _ in range(4):
                await w.ask()
            names = [name for name, _, _ in w.generations()]
            assert names[:2] == names[2:]
            assert len(set(names)) == 2

    asyncio.run(main())


def test_many_at_once_while_replicas_die() -> None:
    """Sixty concurrent requests through three kills: each one is answered, and a repeat of it is the same."""

    async def main() -> None:
        async with world(replicas=3) as w:
            w.router._patience = 10
            asking = [asyncio.create_task(w.ask({**BODY, "seed": seed})) for seed in range(60)]
            for which in (1, 2, 3):
                await w.serving.kill(which)
                await asyncio.sleep(0.02)
            for seed, (status, data) in enumerate(await asyncio.gather(*asking)):
                assert status == 200
                assert data["choices"] == complete({**BODY, "seed": seed}, created=0)["choices"]

    asyncio.run(main())


def test_metrics_are_those_of_all_replicas() -> None:
    """The exposition has each replica's samples under its name, and the restarts of the fleet."""

    async def main() -> None:
        async with world() as w:
            for _ in range(2):
                await w.ask()
            await w.serving.kill(1)
            await w.serving.wait_healthy()
            reply = await w.router.handle(Request("GET", "/metrics"))
            families = {f.name: f for f in text_string_to_metric_families(reply.body.decode())}
            assert [s.value for s in families["llm_serve_replica_restarts"].samples] == [1]
            running = families["vllm:num_requests_running"].samples
            assert {s.labels["replica"] for s in running} == {"serve-llm-1", "serve-llm-2"}
            [done] = families["vllm:request_success"].samples
            assert (done.name, done.labels["replica"], done.value) == ("vllm:request_success_total", "serve-llm-2", 1)

    asyncio.run(main())


STREAMED = json.dumps({**BODY, "stream": True}).encode()


async def pieces(reply: Reply) -> list[bytes]:
    """What a streamed reply brings, `b"cut"` last where it was cut."""
    assert reply.stream is not None
    seen: list[bytes] = []
    try:
        async for piece in reply.stream:
            seen.append(piece)
    except Cut:
        seen.append(b"cut")
    return seen


def test_a_stream_passes_the_router() -> None:
    """A streamed answer arrives as server-sent events, piece by piece, and counts as generated at its end."""

    async def main() -> None:
        async with world(replicas=1, profile="8b-h100") as w:
            reply = await w.post(STREAMED)
            assert (reply.media_type, w.generations()) == ("text/event-stream", [])
            seen = await pieces(reply)
            assert len(seen) > 3
            assert b"".join(seen).endswith(b"data: [DONE]\n\n")
            assert w.generations() == [("serve-llm-1", 1, "ok")]

    asyncio.run(main())


def test_a_stream_is_tried_again_until_its_first_piece() -> None:
    """Lost before anything has left, it comes from another replica."""

    async def lose(w: World, event: Event) -> Sequence[Fault]:
        return (Fault("lose_generation"),) if isinstance(event, GenerationStarted) and event.attempt == 1 else ()

    async def main() -> None:
        async with world(lose) as w:
            seen = await pieces(await w.post(STREAMED))
            assert b"".join(seen).endswith(b"data: [DONE]\n\n")
            assert [(attempt, outcome) for _, attempt, outcome in w.generations()] == [(1, "lost"), (2, "ok")]

    asyncio.run(main())


def test_a_replica_that_dies_in_the_middle_of_a_stream_cuts_it() -> None:
    """What has left cannot be taken back: no other replica is asked."""

    async def main() -> None:
        async with world(profile="8b-h100") as w:
            reply = await w.post(STREAMED)
            (started,) = of_kind(w.history.events, GenerationStarted)
            await w.serving.kill(int(started.replica[-1]))
            seen = await pieces(reply)
            assert seen[0].startswith(b"data: ")
            assert seen[-1] == b"cut"
            assert w.generations() == [(started.replica, 1, "lost")]

    asyncio.run(main())


def test_a_reader_that_leaves_gets_nothing_more() -> None:
    """The generation comes to its end on the replica, and counts."""

    async def main() -> None:
        async with world(replicas=1, profile="8b-h100") as w:
            reply = await w.post(STREAMED)
            assert reply.stream is not None
            reply.stream.leave()
            assert len(await pieces(reply)) == 1
            assert w.generations() == [("serve-llm-1", 1, "ok")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("POST", "/v1/chat/completions", body=b"{"), 400),
        (Request("POST", "/v1/chat/completions", body=b'{"messages": 7}'), 400),
        (Request("POST", "/v1/completions"), 404),
        (Request("DELETE", "/v1/models"), 405),
        (Request("GET", "/v1/models"), 200),
    ],
)
def test_what_needs_no_replica_is_answered_without(request_: Request, status: int) -> None:
    """Hostile bodies, unknown paths and methods are refused, and models are listed, though no replica runs."""

    async def main() -> None:
        w = World(None)
        reply = await w.router.handle(request_)
        assert reply.status == status
        assert ("error" in json.loads(reply.body)) == (status != 200)
        assert w.history.events == []
        await w.router.aclose()

    asyncio.run(main())
