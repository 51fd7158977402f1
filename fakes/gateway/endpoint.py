"""The fake tool gateway as an endpoint: its operations, its admin rights, and the way in."""

from __future__ import annotations

import asyncio
import difflib
import hmac
from collections.abc import Callable, Collection, Sequence

from fakes.exchange import BadBody, Cut, Operation, Reply, Request, Router, json_object
from fakes.faults import Nemesis
from fakes.gateway.answer import error_reply
from fakes.gateway.call import ToolCall
from fakes.gateway.core import GatewayCore
from fakes.gateway.delivery import Deliveries, Post
from fakes.gateway.intake import Intake
from fakes.gateway.metrics import MEDIA_TYPE, Meter
from fakes.gateway.result import Failure
from fakes.gateway.service import ToolService
from fakes.gateway.tasks import Tasks
from fakes.history import History, LookupAnswered

LATENCY = (0.002, 0.010)


class GatewayEndpoint:
    """The async layer over a gateway core.

    Args:
        post: posts one callback; `CallbackPoster` on the wire.
        log: takes the audit lines, one for each effect.
        admin_token: opens the whole ledger, sent as `Authorization: Bearer TOKEN`.
        clock: unix time in seconds, as the audit log shows it; the same clock as the core's.
        seed: of the tools' latencies.
        latency: shortest and longest time that a tool takes, in seconds.
        tools: the only tools there are, or None for every valid name.
    """

    def __init__(
        self,
        core: GatewayCore,
        history: History,
        nemesis: Nemesis,
        *,
        post: Post,
        log: Callable[[str], None],
        admin_token: str,
        clock: Callable[[], float],
        seed: int,
        latency: tuple[float, float] = LATENCY,
        tools: Collection[str] | None = None,
    ) -> None:
        self.core = core
        self._clock = clock
        self._history = history
        self._nemesis = nemesis
        self._admin = f"Bearer {admin_token}".encode()
        self._meter = Meter()
        self._meter.watch(core.ledger.effects)
        self._tasks = Tasks()
        self._closed = False
        self._conversations: dict[str, str | None] = {}
        self._intake = Intake(ids=core.ids, clock=clock, tools=tools)
        self._service = ToolService(
            core, history, nemesis,
            meter=self._meter, deliveries=Deliveries(history, nemesis, post), tasks=self._tasks,
            log=log, clock=clock, seed=seed, latency=latency,
        )
        self._router = Router(
            (
                Operation("POST", "/tools/{name}", "Call a tool", self._call_tool, hot=True),
                Operation("GET", "/effects", "Look up the effects of a call", self._effects),
                Operation("PUT", "/fences/{tool_call_id}", "Raise the fence of a call", self._raise_fence),
                Operation("GET", "/capabilities", "What this gateway offers", self._capabilities),
                Operation("GET", "/metrics", "Metrics in Prometheus' text format", self._metrics),
            )
        )

    @property
    def operations(self) -> Sequence[Operation]:
        """Every operation, for the skin and its OpenAPI document."""
        return self._router.operations

    async def handle(self, request: Request) -> Reply:
        """Answer one request, errors included. Raises Cut where a fault ends the connection without an answer."""
        found = self._router.find(request.method, request.path)
        if isinstance(found, int):
            return await self._lost(request, found)
        operation, params = found
        return await operation.handler(request, **params)

    def metrics(self, since_t: float | None = None, until_t: float | None = None) -> dict[str, float]:
        """tool_gw.http_5xx_rate (0 to 1), tool_gw.p95_latency_ms, requests and effects, over since_t <= clock < until_t."""
        return self._meter.figures(since_t, until_t)

    def reset(self) -> None:
        """Forget all state, and drop the work and the callbacks under way; the history stays."""
        self._tasks.cancel()
        self.core.reset()
        self._conversations.clear()
        self._meter.watch(self.core.ledger.effects)

    def age(self, seconds: float) -> None:
        """Let go of effects, keys and measurements that are older: for runs that are longer than memory."""
        before = self._clock() - seconds
        self.core.forget(before)
        self._meter.forget(before)
        known = {name for effect in self.core.ledger.effects for name in effect.call.names}
        self._conversations = {name: of for name, of in self._conversations.items() if name in known}

    async def aclose(self) -> None:
        """Drop the work and the callbacks under way; whoever comes later is cut off."""
        self._closed = True
        await self._tasks.aclose()

    # --- operations ---

    async def _call_tool(self, request: Request, name: str) -> Reply:
        if self._closed:
            raise Cut
        call, problem = self._intake.read(request, name)
        for named in call.names:
            self._conversations[named] = call.conversation
        answered: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._serve(call, problem, answered))
        reply = await answered
        if reply is None:
            raise Cut
        return reply

    async def _serve(self, call: ToolCall, problem: Failure | None, answered: asyncio.Future[Reply | None]) -> None:
        """Serve in a task of its own; nobody may wait for the answer any more when it is there."""
        reply = None
        try:
            reply = await self._service.serve(call, problem)
        except Exception as error:
            if answered.done():
                raise
            answered.set_exception(error)
        finally:
            if not answered.done():
                answered.set_result(reply)

    async def _effects(self, request: Request) -> Reply:
        tool_call_id = request.query.get("tool_call_id")
        if self._is_admin(request):
            chosen = self.core.ledger.effects if tool_call_id is None else self.core.lookup(tool_call_id)
            return Reply.json({"effects": [effect.summary() for effect in chosen]})
        if not self.core.profile.lookup:
            message = f"this gateway ({self.core.profile.name}) offers no look-up; the whole ledger takes the admin token"
            return error_reply(Failure(404, "no_lookup", message))
        if not tool_call_id:
            return error_reply(Failure(400, "invalid_request", "name the call: GET /effects?tool_call_id=call_..."))
        found = self.core.lookup(tool_call_id)
        reply = Reply.json({"effects": [effect.summary() for effect in found]})
        await self._nemesis.at(
            self._history.record(
                LookupAnswered,
                conversation=self._conversations.get(tool_call_id),
                tool_call_id=tool_call_id,
                found=tuple(effect.external_id for effect in found),
                instance=request.instance,
            )
        )
        return reply

    async def _raise_fence(self, request: Request, tool_call_id: str) -> Reply:
        if not self.core.profile.fence:
            return error_reply(Failure(404, "no_fence", f"this gateway ({self.core.profile.name}) offers no fences"))
        try:
            fence = json_object(request.body).get("fence")
        except BadBody as error:
            return error_reply(Failure(400, "invalid_request", str(error)))
        if not isinstance(fence, int) or isinstance(fence, bool):
            return error_reply(Failure(400, "invalid_request", 'fence must be a whole number: send {"fence": 2}'))
        raised = self.core.raise_fence(tool_call_id, fence)
        await self._nemesis.at(
            self._history.record(
                LookupAnswered,
                conversation=self._conversations.get(tool_call_id),
                tool_call_id=tool_call_id,
                fence=raised,
                instance=request.instance,
            )
        )
        return Reply.json({"tool_call_id": tool_call_id, "fence": raised})

    async def _capabilities(self, request: Request) -> Reply:
        return Reply.json(self.core.profile.capabilities())

    async def _metrics(self, request: Request) -> Reply:
        return Reply(200, self._meter.text(), media_type=MEDIA_TYPE)

    async def _lost(self, request: Request, status: int) -> Reply:
        """The answer where no operation fits; a request that was meant for a tool is served as one, and so recorded."""
        path = request.path
        if request.method == "POST" and status == 404 and (path == "/tools" or path.startswith("/tools/")):
            return await self._call_tool(request, path.removeprefix("/tools").strip("/"))
        paths = [operation.path for operation in self.operations]
        if status == 405:
            allowed = [o.method for o in self.operations if _fits(o.path, path)]
            message = f"{request.method} is not allowed at {path[:200]}; use {' or '.join(allowed)}"
            return error_reply(Failure(405, "method_not_allowed", message), {"allow": ", ".join(allowed)})
        near = difflib.get_close_matches(path[:200], paths, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return error_reply(Failure(404, "not_found", f"nothing is at {path[:200]!r}{hint}; there are {', '.join(paths)}"))

    def _is_admin(self, request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", "").encode(errors="replace"), self._admin)


def _fits(template: str, path: str) -> bool:
    return template.split("/")[1] == path.strip("/").split("/")[0]
