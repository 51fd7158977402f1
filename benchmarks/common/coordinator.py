"""A small coordinator, with nothing in it but the turns, so that what is measured around it is not its own cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx


class Plain:
    """Turns to runs, on plain clients."""

    def __init__(self, *, assistants: Any, tools: Any) -> None:
        self.assistants = assistants
        self.tools = tools
        self.turns: dict[str, dict[str, str]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self, turn: Mapping[str, str]) -> None:
        """Conduct a turn that is new."""
        if turn["turn_id"] not in self.turns:
            self.turns[turn["turn_id"]] = {"status": "running"}
            task = asyncio.create_task(self.conduct(turn))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def results(self, result: Mapping[str, Any]) -> None:
        """The tools are synchronous."""

    async def status(self, turn_id: str) -> Mapping[str, str] | None:
        """What is remembered."""
        return self.turns.get(turn_id)

    async def conduct(self, turn: Mapping[str, str]) -> None:
        """From the message to the end of the run."""
        thread = await self.assistants.create_thread()
        await self.assistants.add_message(thread, turn["message"])
        run = await self.assistants.create_run(thread)
        while run["status"] not in ("completed", "failed"):
            await asyncio.sleep(0.05)
            run = await self.assistants.run(thread, run["id"])
            if run["status"] == "requires_action":
                outputs = []
                for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]:
                    arguments = json.loads(call["function"]["arguments"])
                    done = await self.tools.call(call["function"]["name"], arguments, tool_call_id=call["id"])
                    outputs.append((call["id"], done["output"]))
                run = await self.assistants.submit(thread, run["id"], outputs)
        self.turns[turn["turn_id"]] = {"status": "done" if run["status"] == "completed" else "failed"}


class Http:
    """The clients that `Plain` wants, over an HTTP transport."""

    def __init__(self, environ: Mapping[str, str], transport: httpx.AsyncBaseTransport) -> None:
        self.environ = environ
        self.transport = transport

    async def send(self, method: str, url: str, body: Any = None) -> Any:
        """One request; its JSON."""
        content = None if body is None else json.dumps(body).encode()
        request = httpx.Request(method, url, content=content, extensions={"timeout": {"read": 2.0}})
        response = await self.transport.handle_async_request(request)
        return json.loads(await response.aread())

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the Assistants API."""
        return await self.send(method, self.environ["ASSISTANTS_BASE_URL"] + path, body)

    async def create_thread(self) -> str:
        """A thread's id."""
        return str((await self.api("POST", "/threads", {}))["id"])

    async def add_message(self, thread: str, content: str) -> Any:
        """The user's message."""
        return await self.api("POST", f"/threads/{thread}/messages", {"role": "user", "content": content})

    async def create_run(self, thread: str) -> Any:
        """A run."""
        return await self.api("POST", f"/threads/{thread}/runs", {"assistant_id": self.environ["ASSISTANT_ID"]})

    async def run(self, thread: str, run: str) -> Any:
        """A poll."""
        return await self.api("GET", f"/threads/{thread}/runs/{run}")

    async def submit(self, thread: str, run: str, outputs: list[tuple[str, str]]) -> Any:
        """The outputs."""
        body = {"tool_outputs": [{"tool_call_id": call, "output": output} for call, output in outputs]}
        return await self.api("POST", f"/threads/{thread}/runs/{run}/submit_tool_outputs", body)

    async def call(self, tool: str, arguments: Any, **named: Any) -> Any:
        """A tool."""
        return await self.send("POST", f"{self.environ['TOOL_GATEWAY_URL']}/tools/{tool}", {"arguments": arguments, **named})


def create_app(environ: Mapping[str, str], *, transport: httpx.AsyncBaseTransport) -> Any:
    """`Plain` as an ASGI app, over HTTP on both sides."""
    clients = Http(environ, transport)
    plain = Plain(assistants=clients, tools=clients)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        status, answer = 200, None
        if scope["path"].startswith("/turns/"):
            answer = await plain.status(scope["path"][7:])
            status = 200 if answer else 404
        elif scope["path"] == "/turns":
            await plain.start(json.loads((await receive())["body"]))
            status = 202
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return app
