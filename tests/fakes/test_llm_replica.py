"""One replica's app, served inside the test's own loop."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.llm.profiles import Profile, named
from fakes.llm.replica import Batch, QueueFull, app
from fakes.script import default
from fakes.server import Server, bind, port_of

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": default("turn_1", "C1", "U1").message()}], "seed": 1}


@asynccontextmanager
async def replica(profile: Profile) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client and the address of a replica."""
    listening = bind()
    server = Server(app(profile, random.Random(1)), [listening])
    await server.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield client, f"http://127.0.0.1:{port_of(listening)}"
    finally:
        await server.stop()


def run(check: Callable[[aiohttp.ClientSession, str], Awaitable[None]], profile: Profile | None = None) -> None:
    """Run a check against a replica."""

    async def main() -> None:
        async with replica(profile or named("ci")) as (client, url):
            await check(client, url)

    asyncio.run(main())


def test_it_answers_like_a_model_server() -> None:
    """Completions, the list of models and health answer; the model's name is echoed."""

    async def check(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/chat/completions", json={**BODY, "model": "gpt-x"}) as answer:
            data = await answer.json()
        assert (answer.status, data["object"], data["model"]) == (200, "chat.completion", "gpt-x")
        assert len(data["choices"][0]["message"]["tool_calls"]) == 3
        async with client.get(url + "/v1/models") as answer:
            assert (await answer.json())["data"][0]["object"] == "model"
        async with client.get(url + "/health") as answer:
            assert answer.status == 200

    run(check)


def test_a_stream_carries_the_same_answer() -> None:
    """The chunks of a stream, put together, are the answer without streaming."""

    async def check(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/chat/completions", json=BODY) as answer:
            whole = (await answer.json())["choices"][0]["message"]["tool_calls"]
        streamed = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
        async with client.post(url + "/v1/chat/completions", json=streamed) as answer:
            assert answer.content_type == "text/event-stream"
            lines = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        events = [json.loads(line) for line in lines]
        assert events.pop()["usage"]["total_tokens"] > 0
        calls: dict[int, dict[str, str]] = {}
        for event in events:
            for part in event["choices"][0]["delta"].get("tool_calls", ()):
                call = calls.setdefault(part["index"], {"id": part.get("id"), "arguments": ""})
                call["arguments"] += part["function"]["arguments"]
        assert [(c["id"], c["arguments"]) for c in calls.values()] == [(c["id"], c["function"]["arguments"]) for c in whole]
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"

    run(check)


@pytest.mark.parametrize("garbage", [b"{", b"[]", b"\xff\xfe", b'{"messages": 7}', b"[" * 100_000])
def test_garbage_is_a_400(garbage: bytes) -> None:
    """What is no request is refused in OpenAI's error shape, never with a 500."""

    async def check(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/chat/completions", data=garbage) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["type"] == "invalid_request_error"

    run(check)


def test_metrics_have_the_names_of_vllm() -> None:
    """Dashboards made for vLLM find their names, and a finished generation is counted under its reason."""

    async def check(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/chat/completions", json=BODY) as answer:
            await answer.read()
        async with client.get(url + "/metrics") as answer:
            text = await answer.text()
        samples = {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}
        for name in ("num_requests_running", "num_requests_waiting", "request_success_total"):
            assert f"vllm:{name}" in samples
        for name in ("time_to_first_token", "inter_token_latency", "e2e_request_latency"):
            assert samples[f"vllm:{name}_seconds_count"].value == 1
        assert samples["vllm:request_success_total"].labels["finished_reason"] == "tool_calls"

    run(check)


def test_headers_come_before_the_answer_is_generated() -> None:
    """A router that has the headers knows that the generation is under way, and not finished."""

    async def check(client: aiohttp.ClientSession, url: str) -> None:
        async with client.post(url + "/v1/chat/completions", json=BODY) as answer:
            assert answer.status == 200
            assert not answer.content.at_eof()

    run(check, Profile("slow", (30, 30), (1, 1)))


def test_a_full_queue_refuses() -> None:
    """One runs, one waits, the third is refused; when the first ends, the next is in."""

    async def main() -> None:
        batch = Batch(size=1, queue=1)
        async with batch:
            batch.admit()
            waiting = asyncio.create_task(batch.__aenter__())
            await asyncio.sleep(0)
            assert (batch.running, batch.waiting) == (1, 1)
            with pytest.raises(QueueFull):
                batch.admit()
        await waiting
        assert (batch.running, batch.waiting) == (1, 0)
        await batch.__aexit__()
        assert batch.running == 0

    asyncio.run(main())
