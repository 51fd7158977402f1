"""The router before the replicas: it retries a request that was in flight on another one, as real gateways do.

That is what doubles a generation: the replica that died may have generated the step already, and nobody knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from fakes.exchange import BadBody, Operation, Reply, Request, Router, json_object
from fakes.faults import Fault, Nemesis
from fakes.history import GenerationEnded, GenerationStarted, History
from fakes.ids import Ids
from fakes.llm.conversation import BadRequest, Conversation, error_body, read
from fakes.llm.fleet import Replica, Replicas
from fakes.llm.log import ServingLog
from fakes.llm.relay import Relay
from fakes.llm.replica import MODELS

ATTEMPTS = 5
"""How often one request is generated at most, before the client gets a 503."""

HANDOVERS = 20
"""How often the router tries to hand one request to a replica at most, those counted that turn out to be gone."""


class LlmRouter:
    """The endpoint of the LLM serving: one address, whatever happens to the replicas behind it.

    Args:
        serving: the replicas; started and stopped by whoever made them.
        patience: seconds to wait for any healthy replica before the client gets a 503.
        silence: seconds without a byte from a replica after which the request counts as lost.
        log: takes one line for each generation (`request path=... input_tokens=...`), as the replicas' own log would.
        wall: unix time in seconds, for the log.
    """

    def __init__(
        self,
        history: History,
        nemesis: Nemesis,
        serving: Replicas,
        *,
        seed: int,
        log: Callable[[str], None],
        patience: float = 10.0,
        silence: float = 60.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._nemesis = nemesis
        self._serving = serving
        self._ids = Ids(seed, "llm-router")
        self._log = ServingLog(log, wall)
        self._patience = patience
        self._silence = silence
        self._turn = 0
        self._session: aiohttp.ClientSession | None = None
        self._router = Router(
            (
                Operation("POST", "/v1/chat/completions", "Create chat completion", self._complete, hot=True),
                Operation("GET", "/v1/models", "List models", self._models),
                Operation("GET", "/metrics", "Metrics", self._metrics),
            )
        )

    @property
    def operations(self) -> Sequence[Operation]:
        """Every operation, for the skin."""
        return self._router.operations

    async def handle(self, request: Request) -> Reply:
        """Answer one request; every error has OpenAI's shape."""
        found = self._router.find(request.method, request.path)
        if isinstance(found, int):
            return _error(found, f"no such operation: {request.method} {request.path}", "invalid_request_error")
        operation, params = found
        try:
            return await operation.handler(request, **params)
        except BadRequest as error:
            return Reply.json(error.body(), 400)
        except BadBody as error:
            return _error(400, str(error), "invalid_request_error")

    async def aclose(self) -> None:
        """Close the connections to the replicas; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _complete(self, request: Request) -> Reply:
        conversation = read(json_object(request.body))
        request_id = self._ids.new("req")
        attempt, tried = 1, set[str]()
        for _ in range(HANDOVERS):
            replica = await self._pick(tried)
            if replica is None:
                return _error(503, f"no replica was healthy for {self._patience} s", "server_error", "unavailable")
            tried.add(replica.name)
            generation = _Generation(request_id, replica, attempt, conversation)
            reply = await self._try(generation, request.body)
            if reply is not None:
                return reply
            attempt += generation.started
            if attempt > ATTEMPTS:
                break
        return _error(503, f"the generation was lost or refused {attempt - 1} times", "server_error", "unavailable")

    async def _pick(self, tried: set[str]) -> Replica | None:
        """The next healthy replica in turn, one that was not tried for this request where there is one."""
        if not self._serving.healthy and not await self._serving.wait_healthy(1, self._patience):
            return None
        healthy = self._serving.healthy
        fresh = [r for r in healthy if r.name not in tried] or list(healthy)
        self._turn += 1
        return fresh[self._turn % len(fresh)]

    async def _try(self, generation: _Generation, body: bytes) -> Reply | None:
        """Generate once; None when the answer was lost or refused and another replica is to be tried.

        A streamed answer can be tried again until its first piece is here.
        """
        url = generation.replica.url + "/v1/chat/completions"
        held = AsyncExitStack()
        try:
            async with AsyncExitStack() as stack:
                asking = self._client().post(url, data=body, headers={"content-type": "application/json"})
                answer = await stack.enter_async_context(asking)
                generation.started = True  # the headers are here: it is under way on that replica
                faults = await self._start(generation)
                streamed = answer.status == 200 and generation.conversation.stream
                text = await (answer.content.readany() if streamed else answer.read())
                # killed while the request was in flight: lost, even if its last words got out
                lost = generation.replica not in self._serving.healthy
                held = stack.pop_all()
        except (aiohttp.ClientError, TimeoutError, OSError):
            if generation.started:
                await self._end(generation, "lost")
            else:
                await asyncio.sleep(0.01)  # gone before it took the request; its exit will be known in a moment
            return None
        for fault in faults:
            if fault.name == "lose_generation":
                fault.injected(f"the answer of {generation.replica.name} to {generation.request_id} was thrown away")
                lost = True
        if streamed and not lost:

            async def end(whole: bool) -> bool:
                whole = whole and generation.replica in self._serving.healthy
                await self._end(generation, "ok" if whole else "lost")
                return whole

            return Reply(200, media_type=answer.content_type, stream=Relay(text, answer, held, end))
        await held.aclose()
        if lost:
            await self._end(generation, "lost")
            return None
        if answer.status >= 500:
            await self._end(generation, "error")
            return None
        await self._end(generation, "ok" if answer.status == 200 else "error")
        return Reply(answer.status, text, media_type=answer.content_type)

    async def _start(self, generation: _Generation) -> Sequence[Fault]:
        """Record that the generation is under way, and ask the nemesis."""
        conversation = generation.conversation
        path = "/v1/chat/completions"
        if conversation.thread_id is not None and conversation.run_id is not None:
            path = f"/v1/threads/{conversation.thread_id}/runs/{conversation.run_id}"
        self._log.info(f"request path={path} input_tokens={conversation.prompt_tokens}")
        return await self._nemesis.at(self._history.record(GenerationStarted, **generation.fields()))

    async def _end(self, generation: _Generation, outcome: str) -> None:
        await self._nemesis.at(self._history.record(GenerationEnded, outcome=outcome, **generation.fields()))

    async def _models(self, request: Request) -> Reply:
        return Reply.json(MODELS)

    async def _metrics(self, request: Request) -> Reply:
        """The metrics of every healthy replica, each sample labelled with its name, and those of the fleet."""
        replicas = self._serving.healthy
        texts = await asyncio.gather(*(self._exposition(replica) for replica in replicas))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Fleet({r.name: t for r, t in zip(replicas, texts, strict=True)}, self._serving.restarts))
        return Reply(200, generate_latest(registry), media_type="text/plain; version=0.0.4")

    async def _exposition(self, replica: Replica) -> str:
        try:
            async with self._client().get(replica.url + "/metrics", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return ""

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._silence),
            )
        return self._session


class _Generation:
    """One attempt at one request on one replica."""

    def __init__(self, request_id: str, replica: Replica, attempt: int, conversation: Conversation) -> None:
        self.request_id = request_id
        self.replica = replica
        self.attempt = attempt
        self.conversation = conversation
        self.started = False

    def fields(self) -> dict[str, object]:
        """What both of its events say."""
        return {
            "request_id": self.request_id,
            "replica": self.replica.name,
            "attempt": self.attempt,
            "run_id": self.conversation.run_id,
            "conversation": self.conversation.conversation_id,
        }


class _Fleet(Collector):
    """Several expositions as one: the label `replica` tells the samples apart."""

    def __init__(self, expositions: dict[str, str], restarts: int) -> None:
        self._expositions = expositions
        self._restarts = restarts

    def collect(self) -> Iterable[Metric]:
        """The families of all replicas, merged by name, then the fleet's own."""
        families: dict[str, Metric] = {}
        for name, text in self._expositions.items():
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "replica": name}))
        yield from families.values()
        yield CounterMetricFamily("llm_serve_replica_restarts", "Replicas that were started again.", self._restarts)


def _error(status: int, message: str, type: str, code: str | None = None) -> Reply:
    return Reply.json(error_body(message, type, code=code), status)


if __name__ == "__main__":
    import sys

    from fakes.llm.command import router

    sys.exit(router())
