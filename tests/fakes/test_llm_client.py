"""The client of the LLM serving: retries, errors, and the whole way through skin, router and replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from fakes.exchange import Cut, Operation, Reply, Request
from fakes.faults import NoFaults
from fakes.history import History
from fakes.llm.client import GenerateError, HttpGenerate
from fakes.llm.router import LlmRouter
from fakes.llm.serving import Serving
from fakes.script import default
from fakes.server import Server, bind, port_of
from fakes.skin import skin

GOOD = Reply.json({"choices": [{"message": {"content": "Hello"}}]})


class Rehearsed:
    """An endpoint that gives prepared answers in order; None cuts the connection."""

    def __init__(self, *answers: Reply | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    @property
    def operations(self) -> Sequence[Operation]:
        """None are documented."""
        return ()

    async def handle(self, request: Request) -> Reply:
        """The next answer."""
        self.asked += 1
        answer = self.answers.pop(0)
        if answer is None:
            raise Cut
        return answer


@asynccontextmanager
async def served(endpoint: Rehearsed | LlmRouter) -> AsyncIterator[HttpGenerate]:
    """A client of an endpoint that is served over HTTP."""
    listening = bind()
    server = Server(skin(endpoint, title="test", history=History(), token="t"), [listening])
    await server.start()
    generate = HttpGenerate(f"http://127.0.0.1:{port_of(listening)}/", attempts=3, backoff=0.001)
    try:
        yield generate
    finally:
        await generate.aclose()
        await server.stop()


def test_the_whole_way() -> None:
    """A request goes through client, skin, router and a replica's process, and back."""

    async def main() -> None:
        history, nemesis = History(), NoFaults()
        serving = Serving(history, nemesis, replicas=1, seed=1, log=lambda line: None)
        router = LlmRouter(history, nemesis, serving, seed=1, log=lambda line: None)
        await serving.start()
        try:
            async with served(router) as generate:
                body = {"messages": [{"role": "user", "content": default("turn_1", "C1", "U1").message()}], "seed": 1}
                assert len((await generate(body))["choices"][0]["message"]["tool_calls"]) == 3
                with pytest.raises(GenerateError, match=r"HTTP 400.*messages must be a list") as refused:
                    await generate({})
                assert refused.value.status == 400
        finally:
            await router.aclose()
            await serving.stop()

    asyncio.run(main())


def test_failures_on_the_way_are_tried_again() -> None:
    """A cut connection and a 503 are retried, as often as allowed."""

    async def main() -> None:
        endpoint = Rehearsed(None, Reply.json({}, 503), GOOD)
        async with served(endpoint) as generate:
            assert (await generate({}))["choices"]
        assert endpoint.asked == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answers", "asked", "words"),
    [
        ([Reply.json({"error": "no"}, 400)], 1, "HTTP 400"),
        ([Reply.json({}, 500)] * 3, 3, "HTTP 500"),
        ([None] * 3, 3, "Disconnected"),
        ([Reply(200, b"<html>")] * 3, 3, "no chat.completion"),
    ],
)
def test_what_cannot_be_had_is_an_error(answers: list[Reply | None], asked: int, words: str) -> None:
    """A refusal ends at once, other failures after the last attempt; the error says what came."""

    async def main() -> None:
        endpoint = Rehearsed(*answers)
        async with served(endpoint) as generate:
            with pytest.raises(GenerateError, match=words):
                await generate({})
        assert endpoint.asked == asked

    asyncio.run(main())


def test_nobody_there_is_an_error() -> None:
    """A refused connection is retried, then told with the address."""

    async def main() -> None:
        listening = bind()
        url = f"http://127.0.0.1:{port_of(listening)}"
        listening.close()
        generate = HttpGenerate(url, attempts=2, backoff=0.001)
        with pytest.raises(GenerateError, match=f"POST {url}/v1/chat/completions: ClientConnectorError") as error:
            await generate({})
        assert error.value.status is None
        await generate.aclose()

    asyncio.run(main())
    with pytest.raises(ValueError, match="attempts=0 must be at least 1"):
        HttpGenerate("http://127.0.0.1:1", attempts=0)
