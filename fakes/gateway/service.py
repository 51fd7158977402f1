"""Serving requests for tools: the protocol points, the faults made there, and the way from a request to its answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from fakes.exchange import Reply
from fakes.faults import Fault, Nemesis
from fakes.gateway.answer import Answer, accepted, answer_of
from fakes.gateway.asked import Asked, parameter
from fakes.gateway.audit import audit_line
from fakes.gateway.call import ToolCall
from fakes.gateway.core import Decision, GatewayCore, Kind
from fakes.gateway.delivery import Deliveries
from fakes.gateway.metrics import Meter
from fakes.gateway.result import Effect, Failure, Result
from fakes.gateway.tasks import Tasks
from fakes.history import EffectCommitted, History, ToolReplied, ToolRequested

LOSE, ERROR = "commit_then_lose_reply", "commit_then_500"


class ToolService:
    """Takes a request from its arrival to its answer.

    `serve` is to run in a task of its own: a client that goes away, or an answer that is cut, never undoes or prevents
    the work. Args are those of the endpoint.
    """

    def __init__(
        self,
        core: GatewayCore,
        history: History,
        nemesis: Nemesis,
        *,
        meter: Meter,
        deliveries: Deliveries,
        tasks: Tasks,
        log: Callable[[str], None],
        clock: Callable[[], float],
        seed: int,
        latency: tuple[float, float],
    ) -> None:
        self._core = core
        self._history = history
        self._nemesis = nemesis
        self._meter = meter
        self._deliveries = deliveries
        self._tasks = tasks
        self._log = log
        self._clock = clock
        self._latency = latency
        self._random = random.Random(f"{seed}/gateway-latency")
        self._first_done: dict[tuple[str, str | None], asyncio.Event] = {}

    async def serve(self, call: ToolCall, problem: Failure | None) -> Reply | None:
        """Answer one request; None means that the connection is to be cut. `problem` is what made it unreadable."""
        asked = Asked(await self._requested(call))
        if asked.has("lose_request"):
            asked.injected("lose_request", f"{call.request_id} never arrived")
            return None
        if asked.has("prune_keys"):
            asked.injected("prune_keys", f"{self._core.prune_keys()} keys forgotten")
        if asked.has("unavailable"):
            status = asked.first("unavailable", "status")
            answer = answer_of(Failure(status, "unavailable", "the tool gateway is overloaded; nothing was done"))
            reply = await self._leave(call, answer)
            asked.injected("unavailable", f"answered {status}")
            return reply
        if problem is not None:
            return await self._leave(call, answer_of(problem))
        if asked.has("permanent_failure"):
            failure = self._core.fail(call, asked.first("permanent_failure", "status"))
            if failure is not None:
                asked.injected("permanent_failure", failure.message)
        decision = self._core.begin(call)
        if call.callback_url is not None and decision.kind not in (Kind.MISMATCH, Kind.FENCED):
            return await self._accept(call, decision, asked)
        result = await self._work(call, decision, asked)
        return await self._leave(call, answer_of(result, replayed=decision.kind is Kind.REPLAY), asked, result)

    async def _accept(self, call: ToolCall, decision: Decision, asked: Asked) -> Reply | None:
        """Asynchronous: 202 at once, the work and its result in the background.

        With a fault that wants the effect committed before the answer is lost, the work comes first. The result is
        posted all the same: it is only the answer that went wrong, the tool did its work.
        """
        answer = accepted(call, replayed=decision.kind in (Kind.REPLAY, Kind.IN_PROGRESS))
        if not asked.has(LOSE, ERROR):
            # The new task cannot start before _leave has recorded the answer: nothing yields until then.
            self._tasks.spawn(self._work_and_post(call, decision, asked))
            return await self._leave(call, answer, timed=False)
        result = await self._work(call, decision, asked)
        if isinstance(result, Failure) and result.dropped:
            return await self._leave(call, answer_of(result))
        self._tasks.spawn(self._post(call, result))
        return await self._leave(call, answer, asked, result, timed=False)

    async def _work_and_post(self, call: ToolCall, decision: Decision, asked: Asked) -> None:
        result = await self._work(call, decision, asked)
        if not (isinstance(result, Failure) and result.dropped):
            await self._post(call, result)

    async def _post(self, call: ToolCall, result: Result) -> None:
        self._took(call)
        await self._deliveries.deliver(call, result)

    async def _work(self, call: ToolCall, decision: Decision, asked: Asked) -> Result:
        """The result of a request: that of an earlier one, a refusal, or new work."""
        await self._slow(asked, "before")
        if decision.kind is Kind.IN_PROGRESS and call.callback_url is not None:
            decision = await self._after_the_first(call)
        if decision.result is not None:
            await self._slow(asked, "after")
            return decision.result
        low, high = self._latency
        if high > 0:
            await asyncio.sleep(self._random.uniform(low, high))
        result = self._core.commit(call, poison=asked.has("poison_result"))
        if isinstance(result, Effect):
            await self._committed(call, result, asked)
        await self._slow(asked, "after")
        self._core.finish(call, result)
        done = self._first_done.pop((call.tool, call.key), None) if call.key is not None else None
        if done is not None:
            done.set()
        return result

    async def _after_the_first(self, call: ToolCall) -> Decision:
        """Wait until the first request with this key came to its end, and decide again."""
        while (decision := self._core.begin(call)).kind is Kind.IN_PROGRESS:
            await self._first_done.setdefault((call.tool, call.key), asyncio.Event()).wait()
        return decision

    async def _slow(self, asked: Asked, where: str) -> None:
        for fault in asked.all("slow"):
            if parameter(fault, "where") == where:
                seconds = parameter(fault, "seconds")
                await asyncio.sleep(seconds)
                fault.injected(f"{seconds:g} s {where} commit")

    # --- protocol points ---

    async def _requested(self, call: ToolCall) -> Sequence[Fault]:
        return await self._nemesis.at(
            self._history.record(
                ToolRequested,
                conversation=call.conversation,
                request_id=call.request_id,
                tool=call.tool,
                payload_hash=call.payload_hash,
                nonce=call.nonce,
                tool_call_id=call.tool_call_id,
                run_id=call.run_id,
                thread_id=call.thread_id,
                step_id=call.step_id,
                key=call.key,
                fence=call.fence,
                asynchronous=call.callback_url is not None,
                instance=call.instance,
            )
        )

    async def _committed(self, call: ToolCall, effect: Effect, asked: Asked) -> None:
        event = self._history.record(
            EffectCommitted,
            conversation=call.conversation,
            request_id=call.request_id,
            effect_id=effect.effect_id,
            external_id=effect.external_id,
            tool=call.tool,
            payload_hash=call.payload_hash,
            nonce=call.nonce,
            tool_call_id=call.tool_call_id,
            run_id=call.run_id,
            key=call.key,
        )
        self._log(audit_line(effect))
        asked.injected("poison_result", f"the result of {effect.external_id} is no JSON")
        asked.add(await self._nemesis.at(event))

    async def _leave(
        self, call: ToolCall, answer: Answer, asked: Asked | None = None, result: Result | None = None, *, timed: bool = True
    ) -> Reply | None:
        """Record the answer, ask the nemesis, and let it go; where `result` is an effect, the answer may be lost or broken.

        `timed` is False for a 202: then the latency that counts is that of the result.
        """
        lost = broken = False
        if asked is not None and isinstance(result, Effect):
            lost, broken = asked.has(LOSE), asked.has(ERROR)
            if broken:
                status = asked.first(ERROR, "status")
                answer = answer_of(Failure(status, "internal_error", "the tool gateway failed after it called the tool"))
        now = self._clock()
        self._meter.answered(now, answer.reply.status)
        if timed:
            self._took(call)
        event = self._history.record(
            ToolReplied,
            conversation=call.conversation,
            request_id=call.request_id,
            tool=call.tool,
            http_status=answer.reply.status,
            delivered=not lost,
            latency_ms=round((now - call.arrived) * 1000, 3),
            tool_call_id=call.tool_call_id,
            nonce=call.nonce,
            external_id=answer.external_id,
            error=answer.failure.message if answer.failure is not None else None,
            definite=answer.failure is not None and answer.failure.definite,
            replayed=answer.replayed,
            instance=call.instance,
        )
        await self._nemesis.at(event)
        if asked is not None and isinstance(result, Effect):
            if lost:
                asked.injected(LOSE, f"{result.external_id} is committed, the answer was cut")
            if broken:
                asked.injected(ERROR, f"{result.external_id} is committed, answered {answer.reply.status}")
        return None if lost else answer.reply

    def _took(self, call: ToolCall) -> None:
        now = self._clock()
        self._meter.took(now, (now - call.arrived) * 1000)
