"""A coordinator on azure-ai-agents: create_and_process polls, calls the registered functions itself, and submits."""
import functools
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from azure.ai.agents import AgentsClient
from azure.ai.agents.models import FunctionTool
from azure.core.credentials import AzureKeyCredential
from azure.core.pipeline.policies import SansIOHTTPPolicy

client = AgentsClient(  # no authentication on loopback: the SDK sends no token without TLS
    os.environ["ASSISTANTS_BASE_URL"], AzureKeyCredential("dummy"), authentication_policy=SansIOHTTPPolicy(),
    read_timeout=float(os.environ.get("CLIENT_TIMEOUT", "30")))
turns: dict[str, dict[str, str]] = {}


def call_tool(name: str, **arguments: object) -> str:
    url, seconds = f"{os.environ['TOOL_GATEWAY_URL']}/tools/{name}", float(os.environ.get("TOOL_TIMEOUT", "30"))
    return requests.post(url, json={"arguments": arguments}, timeout=seconds).json()["output"]


functions = [functools.partial(call_tool, name) for name in ("create_ticket", "send_email", "refund_payment")]
for function in functions:
    function.__name__ = function.args[0]
client.enable_auto_function_calls(FunctionTool(functions))


def conduct(turn: dict[str, str]) -> None:
    try:
        thread_id = turn.get("thread_id") or client.threads.create().id
        client.messages.create(thread_id, role="user", content=turn["message"])
        interval = float(os.environ.get("POLL_INTERVAL", "1"))
        run = client.runs.create_and_process(thread_id, agent_id=os.environ["ASSISTANT_ID"], polling_interval=interval)
        turns[turn["turn_id"]] = {"status": "done" if run.status == "completed" else "failed", "run_id": run.id}
    except Exception as error:
        turns[turn["turn_id"]] = {"status": "failed", "detail": str(error)}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = {"async_tools": False} if self.path == "/healthz" else turns.get(self.path.removeprefix("/turns/"))
        self.answer(found or {"error": "unknown turn"}, 200 if found else 404)

    def do_POST(self) -> None:
        turn = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if turns.setdefault(turn["turn_id"], new := {"status": "running"}) is new:
            threading.Thread(target=conduct, args=(turn,), daemon=True).start()
        self.answer({"accepted": True}, 202)

    def answer(self, data: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
