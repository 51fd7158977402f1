"""One serving replica: an OpenAI-compatible model server that holds no state, and dies without a loss but its requests."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fakes.exchange import BadBody, json_object
from fakes.llm.brain import answer
from fakes.llm.conversation import BadRequest, Conversation, error_body, read
from fakes.llm.profiles import MAX_NUM_SEQS, MAX_WAITING, Profile, named
from fakes.llm.stream import chunks
from fakes.server import Server, bind, port_of

MODEL = "anechoic-support"
"""The name under which the model is served. Any other name is answered too, and echoed."""

MODELS: dict[str, Any] = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "created": 1773309600, "owned_by": "anechoic"}],
}
"""The answer to GET /v1/models."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """vLLM's metrics in a registry of their own. Inter-token latency is observed once per generation: its mean."""

    def __init__(self, batch: Batch) -> None:
        self.registry = CollectorRegistry()
        running = Gauge("vllm:num_requests_running", "Generations in the batch.", ["model_name"], registry=self.registry)
        waiting = Gauge("vllm:num_requests_waiting", "Requests that wait for a place.", ["model_name"], registry=self.registry)
        running.labels(MODEL).set_function(lambda: batch.running)
        waiting.labels(MODEL).set_function(lambda: batch.waiting)
        self.ttft = self._histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.")
        self.itl = self._histogram("vllm:inter_token_latency_seconds", "Between two tokens.")
        self.e2e = self._histogram("vllm:e2e_request_latency_seconds", "From arrival to the last token.")
        self.success = Counter(
            "vllm:request_success", "Finished generations.", ["model_name", "finished_reason"], registry=self.registry
        )

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["model_name"], registry=self.registry, buckets=_SECONDS).labels(MODEL)


class QueueFull(Exception):
    """`MAX_WAITING` requests wait already."""


class Batch:
    """The places of the running batch, first come first served; admission is decided on arrival."""

    def __init__(self, size: int = MAX_NUM_SEQS, queue: int = MAX_WAITING) -> None:
        self.running = 0
        self.waiting = 0
        self._queue = queue
        self._places = asyncio.Semaphore(size)

    def admit(self) -> None:
        """Raises QueueFull when nobody else may wait; otherwise the caller goes on to `async with` the batch."""
        if self._places.locked() and self.waiting >= self._queue:
            raise QueueFull

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1

    async def __aexit__(self, *_: object) -> None:
        self.running -= 1
        self._places.release()


class Generation(Response):
    """The answer to one request. Its headers leave at once, its body when it is "generated".

    So a router that has the headers knows that the generation is under way on this replica, and can say exactly which
    requests were in flight when the replica died.
    """

    def __init__(self, conversation: Conversation, batch: Batch, metrics: Metrics, ttft: float, itl: float) -> None:
        self._arrived = time.monotonic()
        self._completion = answer(conversation, created=int(time.time()))
        self._usage = conversation.include_usage
        self._stream = conversation.stream
        self._batch = batch
        self._metrics = metrics
        self._ttft = ttft
        self._itl = itl
        super().__init__(b"", media_type="text/event-stream" if conversation.stream else "application/json")
        if not conversation.stream:
            self.body = JSONResponse(self._completion).body
            self.headers["content-length"] = str(len(self.body))
        else:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, take a place in the batch, take one's time, send the body."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tokens = self._completion["usage"]["completion_tokens"]
        decoding = self._itl * (tokens - 1)
        async with self._batch:
            await asyncio.sleep(self._ttft)
            self._metrics.ttft.observe(time.monotonic() - self._arrived)
            if self._stream:
                await self._send_chunks(send, decoding)
            else:
                await asyncio.sleep(decoding)
                await send({"type": "http.response.body", "body": self.body})
        self._metrics.itl.observe(self._itl)
        self._metrics.e2e.observe(time.monotonic() - self._arrived)
        self._metrics.success.labels(MODEL, self._completion["choices"][0]["finish_reason"]).inc()

    async def _send_chunks(self, send: Send, decoding: float) -> None:
        pieces = list(chunks(self._completion, include_usage=self._usage))
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(decoding / len(pieces))
        await send({"type": "http.response.body", "body": b""})


def app(profile: Profile, dice: random.Random) -> Starlette:
    """The ASGI app of one replica. To be made inside a running loop."""
    batch = Batch()
    metrics = Metrics(batch)

    async def complete(http: Request) -> Response:
        try:
            conversation = read(json_object(await http.body()))
            batch.admit()
            return Generation(conversation, batch, metrics, *profile.draw(dice))
        except BadRequest as error:
            return JSONResponse(error.body(), 400)
        except BadBody as error:
            return JSONResponse(error_body(str(error), "invalid_request_error"), 400)
        except QueueFull:
            text = f"{MAX_WAITING} requests wait already"
            return JSONResponse(error_body(text, "server_error", code="queue_full"), 503)

    async def models(http: Request) -> Response:
        return JSONResponse(MODELS)

    async def health(http: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def exposition(http: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/metrics", exposition),
        ]
    )


async def serve(
    profile: str, seed: str, ready: Callable[[int], None], lifeline: int | None = None, host: str = "127.0.0.1", port: int = 0
) -> None:
    """Serve until SIGTERM, or until the pipe `lifeline` ends, which means that the parent died.

    Args:
        seed: of the latencies.
        ready: called once with the port when the replica answers.
        port: 0 takes a free one. Raises OSError when it is taken.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    if lifeline is not None:
        loop.add_reader(lifeline, done.set)
    listening = bind(host, port)
    server = Server(app(named(profile), random.Random(seed)), [listening])
    await server.start()
    ready(port_of(listening))
    await done.wait()
    if lifeline is not None:
        loop.remove_reader(lifeline)
    await server.stop()


if __name__ == "__main__":
    import sys

    from fakes.llm.command import replica

    sys.exit(replica())
