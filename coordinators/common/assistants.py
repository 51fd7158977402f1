"""The client of the Assistants API: the few operations that a coordinator needs, and their failures as two exceptions."""

from __future__ import annotations

import dataclasses
from typing import Any

from coordinators.common.http import Answer, Http, NoAnswer

ENDED = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
RETRIED = frozenset({408, 409, 429})
METADATA_LIMIT = 512
"""The longest value that the API keeps in an object's metadata."""


class Refused(Exception):
    """The API said no (4xx): repeating the same request changes nothing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Unreachable(Exception):
    """No answer, or one that says nothing (408, 409, 429, 5xx): whether the request had its effect is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCall:
    """One entry of required_action; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """The state of a run, as one answer told it."""

    id: str
    thread_id: str
    status: str
    calls: tuple[ToolCall, ...] = ()
    turn_id: str | None = None
    detail: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has reached a status that it will not leave."""
        return self.status in ENDED

    @property
    def waits(self) -> bool:
        """Whether the run waits for tool outputs."""
        return self.status == "requires_action"

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The ids of the calls that the run waits for, in order."""
        return tuple(call.id for call in self.calls)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One run step of type tool_calls."""

    id: str
    status: str
    call_ids: tuple[str, ...]

    @property
    def open(self) -> bool:
        """Whether the step still takes outputs."""
        return self.status == "in_progress"


class Assistants:
    """The Assistants API under one base address (which ends in /v1)."""

    def __init__(self, http: Http, base_url: str, *, assistant_id: str, api_key: str, timeout: float) -> None:
        self._http = http
        self._base = base_url
        self._assistant_id = assistant_id
        self._timeout = timeout
        self._headers = {"authorization": f"Bearer {api_key}", "openai-beta": "assistants=v2"}

    async def create_thread(self) -> str:
        """A new thread's id."""
        return str((await self._data("POST", "/threads", {}))["id"])

    async def add_message(self, thread_id: str, content: str, turn_id: str) -> None:
        """Add the user's message; the turn's id travels in its metadata."""
        body = {"role": "user", "content": content, "metadata": {"turn_id": turn_id[:METADATA_LIMIT]}}
        await self._data("POST", f"/threads/{thread_id}/messages", body)

    async def has_message(self, thread_id: str, turn_id: str) -> bool:
        """Whether the turn's message is among the latest 100 of the thread."""
        data = await self._data("GET", f"/threads/{thread_id}/messages?limit=100")
        return any(_turn_of(m) == turn_id[:METADATA_LIMIT] for m in data.get("data", ()))

    async def create_run(self, thread_id: str, turn_id: str) -> Run:
        """Start a run; the turn's id travels in its metadata."""
        body = {"assistant_id": self._assistant_id, "metadata": {"turn_id": turn_id[:METADATA_LIMIT]}}
        return _run(await self._data("POST", f"/threads/{thread_id}/runs", body))

    async def runs(self, thread_id: str) -> list[Run]:
        """The latest 100 runs of the thread, newest first."""
        data = await self._data("GET", f"/threads/{thread_id}/runs?limit=100")
        return [_run(r) for r in data.get("data", ())]

    async def run(self, thread_id: str, run_id: str) -> Run:
        """Poll one run."""
        return _run(await self._data("GET", f"/threads/{thread_id}/runs/{run_id}"))

    async def steps(self, thread_id: str, run_id: str) -> list[Step]:
        """All tool_calls steps of the run, oldest first."""
        found: list[Step] = []
        after = ""
        while True:
            page = await self._data("GET", f"/threads/{thread_id}/runs/{run_id}/steps?order=asc&limit=100{after}")
            found += [_step(s) for s in page.get("data", ()) if s.get("type") == "tool_calls"]
            if not page.get("has_more") or not page.get("last_id"):
                return found
            after = f"&after={page['last_id']}"

    async def submit(self, thread_id: str, run_id: str, outputs: list[tuple[str, str]]) -> Answer:
        """Submit (tool_call_id, output) pairs; the answer is returned whatever its status. Raises NoAnswer."""
        body = {"tool_outputs": [{"tool_call_id": call, "output": output} for call, output in outputs]}
        return await self._http.request(
            "POST", f"{self._base}/threads/{thread_id}/runs/{run_id}/submit_tool_outputs",
            timeout=self._timeout, data=body, headers=self._headers,
        )

    async def _data(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = await self._http.request(
                method, self._base + path, timeout=self._timeout, data=body, headers=self._headers
            )
        except NoAnswer as error:
            raise Unreachable(str(error)) from None
        data = answer.json()
        if answer.ok and data:
            return data
        if 400 <= answer.status < 500 and answer.status not in RETRIED:
            raise Refused(answer.status, answer.message)
        raise Unreachable(f"{answer.status}: {answer.message}")


def _turn_of(data: dict[str, Any]) -> str | None:
    turn = (data.get("metadata") or {}).get("turn_id")
    return turn if isinstance(turn, str) else None


def _run(data: dict[str, Any]) -> Run:
    action = data.get("required_action") or {}
    calls = (action.get("submit_tool_outputs") or {}).get("tool_calls") or ()
    error = data.get("last_error") or {}
    return Run(
        id=data["id"],
        thread_id=data["thread_id"],
        status=data["status"],
        calls=tuple(ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls),
        turn_id=_turn_of(data),
        detail=error.get("message"),
    )


def _step(data: dict[str, Any]) -> Step:
    calls = (data.get("step_details") or {}).get("tool_calls") or ()
    return Step(data["id"], data.get("status") or "in_progress", tuple(c["id"] for c in calls))
