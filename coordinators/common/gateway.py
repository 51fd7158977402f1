"""The client of the tool gateway, and the tool results that it posts back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from urllib.parse import quote

from coordinators.common.http import Answer, Http, NoAnswer


class GatewaySilent(Exception):
    """The gateway did not say what was asked: no answer, or one that says nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One request for a tool, with everything that names the call."""

    tool: str
    arguments: dict[str, Any]
    thread_id: str
    run_id: str
    step_id: str
    tool_call_id: str
    idempotency_key: str | None = None
    fence: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a gateway offers to senders that must not send twice, in seconds; `time` is when it said so, by its own clock."""

    idempotency_key: bool = False
    key_ttl: float = 0.0
    lookup: bool = False
    fence: bool = False
    delivery_bound: float | None = None
    time: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ToolResult:
    """A result as the gateway posts it: `output` is text; an `error` that is not `definite` says nothing about the effect."""

    run_id: str
    tool_call_id: str
    thread_id: str | None
    step_id: str | None
    output: str
    failed: bool = False
    definite: bool = True


class Gateway:
    """The tool gateway under one base address; results of accepted requests are posted to `results_url`."""

    def __init__(self, http: Http, base_url: str, *, results_url: str, timeout: float) -> None:
        self._http = http
        self._base = base_url
        self._results_url = results_url
        self._timeout = timeout

    async def request(self, request: ToolRequest) -> Answer:
        """Ask for a tool once. Raises NotSent or NoAnswer."""
        body: dict[str, Any] = {
            "arguments": request.arguments,
            "thread_id": request.thread_id,
            "run_id": request.run_id,
            "step_id": request.step_id,
            "tool_call_id": request.tool_call_id,
            "callback_url": self._results_url,
        }
        if request.fence is not None:
            body["fence"] = request.fence
        headers = {"idempotency-key": request.idempotency_key} if request.idempotency_key else None
        return await self._http.request(
            "POST", f"{self._base}/tools/{quote(request.tool, safe='')}", timeout=self._timeout, data=body, headers=headers
        )

    async def capabilities(self) -> Capabilities:
        """What the gateway says that it offers; a gateway without /capabilities offers nothing. Raises GatewaySilent."""
        answer = await self._ask("GET", "/capabilities", missing_is_fine=True)
        data = answer.json()
        bound = data.get("delivery_bound")
        return Capabilities(
            idempotency_key=bool(data.get("idempotency_key")),
            key_ttl=float(data.get("key_ttl") or 0.0),
            lookup=bool(data.get("lookup")),
            fence=bool(data.get("fence")),
            delivery_bound=None if bound is None else float(bound),
            time=answer.date,
        )

    async def effect_of(self, tool_call_id: str) -> str | None:
        """The output of the effect that the gateway's ledger holds for this call, None without one. Raises GatewaySilent."""
        answer = await self._ask("GET", f"/effects?tool_call_id={quote(tool_call_id, safe='')}")
        effects = answer.json().get("effects")
        if not isinstance(effects, list):
            raise GatewaySilent("GET /effects answered without a list of effects")
        return as_text(effects[0].get("output")) if effects else None

    async def raise_fence(self, tool_call_id: str, fence: int) -> None:
        """From now on the gateway commits nothing for this call below `fence`. Raises GatewaySilent."""
        await self._ask("PUT", f"/fences/{quote(tool_call_id, safe='')}", {"fence": fence})

    async def _ask(self, method: str, path: str, body: Any = None, *, missing_is_fine: bool = False) -> Answer:
        try:
            answer = await self._http.request(method, self._base + path, timeout=self._timeout, data=body)
        except NoAnswer as error:
            raise GatewaySilent(str(error)) from None
        if not answer.ok and not (missing_is_fine and answer.status in (404, 405)):
            raise GatewaySilent(f"{answer.status}: {answer.message}")
        return answer


def as_text(output: Any) -> str:
    """An output as the text that submit_tool_outputs takes: text as it is, anything else as JSON."""
    return output if isinstance(output, str) else json.dumps(output, separators=(",", ":"))


def error_output(message: str) -> str:
    """The output that tells the model of a definite error."""
    return json.dumps({"error": message}, separators=(",", ":"))


def posted_result(data: dict[str, Any]) -> ToolResult | None:
    """The result in the body of POST /tool-results; None when it names no call of ours."""
    run_id, call_id = data.get("run_id"), data.get("tool_call_id")
    if not isinstance(run_id, str) or not isinstance(call_id, str):
        return None
    thread_id, step_id = (v if isinstance(v, str) else None for v in (data.get("thread_id"), data.get("step_id")))
    error = data.get("error")
    if error is None:
        return ToolResult(run_id, call_id, thread_id, step_id, as_text(data.get("output")))
    message = error.get("message") if isinstance(error, dict) else error
    return ToolResult(
        run_id, call_id, thread_id, step_id, error_output(as_text(message)), failed=True, definite=_definite(error)
    )


def _definite(error: Any) -> bool:
    """A posted error is the tool's last word, unless it says itself that the gateway is to blame."""
    if not isinstance(error, dict):
        return True
    status = error.get("status", error.get("http_status"))
    if isinstance(status, int):
        return is_definite(status)
    return error.get("type") != "server_error" and error.get("code") not in INDEFINITE


INDEFINITE = frozenset({"unavailable", "in_progress", "fenced", "internal", "internal_error", "server_error", "timeout"})


def is_definite(status: int) -> bool:
    """Whether an HTTP error says for good that there is and will be no effect."""
    return 400 <= status < 500 and status not in (408, 409, 425, 429)
