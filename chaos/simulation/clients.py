"""Plain in-memory clients, for coordinators that are a class instead of an HTTP service: see `coordinator.Plain`.

They go over the same edges, to the same fakes, with the same faults, and leave out HTTP alone. What an endpoint answers
with an error raises `Refused`; `NotSent`, `NoAnswer` and `TimedOut` are what a connection does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from chaos.simulation.network import ConnectionLost, Edge, NoAnswerInTime, NotConnected
from fakes.exchange import Request


class ClientError(Exception):
    """Any failure of a client."""


class Refused(ClientError):
    """The answer is an error: its HTTP `status`, its `code` and its message."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.code = code


class NoAnswer(ClientError):
    """The connection ended; the request may have arrived, and may have had its effect."""


class TimedOut(NoAnswer):
    """No answer came in time; the request may have arrived, and may have had its effect."""


class NotSent(NoAnswer):
    """There was no connection: the request never left."""


class Client:
    """Requests over one edge. `timeout` is in seconds."""

    def __init__(self, edge: Edge, timeout: float) -> None:
        self._edge = edge
        self._timeout = timeout

    async def request(
        self, method: str, path: str, body: Any = None, *,
        headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None,
    ) -> Any:
        """One request; the answer's JSON. Raises ClientError."""
        content = b"" if body is None else orjson.dumps(body)
        request = Request(method, path, query or {}, headers or {}, content, self._edge.instance)
        try:
            if self._edge.troubles:
                await self._edge.connect()
            reply = await self._edge.ask(request, self._timeout)
        except NotConnected as error:
            raise NotSent(str(error)) from None
        except NoAnswerInTime as error:
            raise TimedOut(str(error)) from None
        except ConnectionLost as error:
            raise NoAnswer(str(error)) from None
        if reply.status < 300:
            return orjson.loads(reply.body)
        raise _refused(reply.status, reply.body)


class Assistants:
    """The Assistants API."""

    def __init__(self, edge: Edge, timeout: float, assistant_id: str) -> None:
        self._client = Client(edge, timeout)
        self.assistant_id = assistant_id

    async def create_thread(self) -> str:
        """A new thread's id."""
        return str((await self._client.request("POST", "/v1/threads", {}))["id"])

    async def add_message(self, thread_id: str, content: str, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Add the user's message."""
        body = {"role": "user", "content": content, "metadata": dict(metadata or {})}
        return dict(await self._client.request("POST", f"/v1/threads/{thread_id}/messages", body))

    async def messages(self, thread_id: str) -> list[dict[str, Any]]:
        """The latest 100 messages, newest first."""
        return list((await self._client.request("GET", f"/v1/threads/{thread_id}/messages", query={"limit": "100"}))["data"])

    async def create_run(self, thread_id: str, metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Start a run of the default assistant."""
        body = {"assistant_id": self.assistant_id, "metadata": dict(metadata or {})}
        return dict(await self._client.request("POST", f"/v1/threads/{thread_id}/runs", body))

    async def runs(self, thread_id: str) -> list[dict[str, Any]]:
        """The latest 100 runs, newest first."""
        return list((await self._client.request("GET", f"/v1/threads/{thread_id}/runs", query={"limit": "100"}))["data"])

    async def run(self, thread_id: str, run_id: str) -> dict[str, Any]:
        """Poll a run."""
        return dict(await self._client.request("GET", f"/v1/threads/{thread_id}/runs/{run_id}"))

    async def steps(self, thread_id: str, run_id: str) -> list[dict[str, Any]]:
        """The first 100 steps, oldest first."""
        query = {"order": "asc", "limit": "100"}
        return list((await self._client.request("GET", f"/v1/threads/{thread_id}/runs/{run_id}/steps", query=query))["data"])

    async def submit(self, thread_id: str, run_id: str, outputs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Submit (tool_call_id, output) pairs; the run as the answer shows it."""
        body = {"tool_outputs": [{"tool_call_id": call, "output": output} for call, output in outputs]}
        path = f"/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs"
        return dict(await self._client.request("POST", path, body))


class Tools:
    """The tool gateway."""

    def __init__(self, edge: Edge, timeout: float, results_url: str) -> None:
        self._client = Client(edge, timeout)
        self._results_url = results_url

    async def call(
        self, tool: str, arguments: Mapping[str, Any], *, key: str | None = None, results: bool = False, **named: Any
    ) -> dict[str, Any]:
        """Call a tool; its result (`output`, `external_id` ...).

        Args:
            key: the Idempotency-Key.
            results: have the result come to `results` of the coordinator later, instead of in this answer.
            named: thread_id, run_id, step_id, tool_call_id and fence, as far as they are to be sent.
        """
        body: dict[str, Any] = {"arguments": dict(arguments), **named}
        if results:
            body["callback_url"] = self._results_url
        headers = {"idempotency-key": key} if key is not None else None
        return dict(await self._client.request("POST", f"/tools/{quote(tool, safe='')}", body, headers=headers))

    async def capabilities(self) -> dict[str, Any]:
        """What the gateway offers."""
        return dict(await self._client.request("GET", "/capabilities"))

    async def effects(self, tool_call_id: str) -> list[dict[str, Any]]:
        """The effects in the ledger for a call, where the gateway has a look-up."""
        return list((await self._client.request("GET", "/effects", query={"tool_call_id": tool_call_id}))["effects"])

    async def raise_fence(self, tool_call_id: str, fence: int) -> None:
        """Shut out every request for this call below `fence`, where the gateway has fences."""
        await self._client.request("PUT", f"/fences/{quote(tool_call_id, safe='')}", {"fence": fence})


def _refused(status: int, body: bytes) -> Refused:
    try:
        error = json.loads(body)["error"]
        return Refused(status, error.get("code"), str(error.get("message")))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Refused(status, None, body[:200].decode(errors="replace"))
