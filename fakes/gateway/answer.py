"""The gateway's answers on HTTP."""

from __future__ import annotations

import dataclasses

from fakes.exchange import Reply
from fakes.gateway.call import ToolCall
from fakes.gateway.result import Failure, Result

_REPLAYED = {"idempotent-replayed": "true"}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One answer and what the history tells about it."""

    reply: Reply
    external_id: str | None = None
    failure: Failure | None = None
    replayed: bool = False


def answer_of(result: Result, *, replayed: bool = False) -> Answer:
    """The answer that carries a result: 200 for an effect, the error of a failure."""
    headers = _REPLAYED if replayed else {}
    if isinstance(result, Failure):
        return Answer(error_reply(result, headers), failure=result, replayed=replayed)
    data = {
        "tool_call_id": result.call.tool_call_id,
        "output": result.output,
        "external_id": result.external_id,
        "effect_id": result.effect_id,
    }
    return Answer(Reply.json(data, 200, headers), external_id=result.external_id, replayed=replayed)


def accepted(call: ToolCall, *, replayed: bool = False) -> Answer:
    """The 202 of asynchronous work."""
    headers = _REPLAYED if replayed else {}
    return Answer(Reply.json({"status": "accepted", "request_id": call.request_id}, 202, headers), replayed=replayed)


def error_reply(failure: Failure, headers: dict[str, str] | None = None) -> Reply:
    """An error in the shape that every fake of the house uses."""
    return Reply.json({"error": failure.body()}, failure.status, headers)
