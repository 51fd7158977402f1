"""A coordinator that never polls: the openai SDK's streaming helpers, tools called in place, no dedup."""
import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import OpenAI

client = OpenAI(timeout=float(os.environ.get("CLIENT_TIMEOUT", "30")))
turns: dict[str, dict[str, str]] = {}


def call_tool(call) -> dict[str, str]:
    body = json.dumps({"arguments": json.loads(call.function.arguments)}).encode()
    url = f"{os.environ['TOOL_GATEWAY_URL']}/tools/{call.function.name}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=float(os.environ.get("TOOL_TIMEOUT", "30"))) as answer:  # noqa: S310
        return {"tool_call_id": call.id, "output": json.load(answer)["output"]}


def conduct(turn: dict[str, str]) -> None:
    threads, runs = client.beta.threads, client.beta.threads.runs
    try:
        thread_id = turn.get("thread_id") or threads.create().id
        threads.messages.create(thread_id, role="user", content=turn["message"])
        asked = runs.stream(thread_id=thread_id, assistant_id=os.environ["ASSISTANT_ID"])
        while True:
            with asked as stream:
                run = stream.get_final_run()
            if run.status != "requires_action":
                break
            outputs = [call_tool(call) for call in run.required_action.submit_tool_outputs.tool_calls]
            asked = runs.submit_tool_outputs_stream(run_id=run.id, thread_id=thread_id, tool_outputs=outputs)
        turns[turn["turn_id"]] = {"status": "done" if run.status == "completed" else "failed", "run_id": run.id}
    except Exception as error:
        turns[turn["turn_id"]] = {"status": "failed", "detail": str(error)}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = {"async_tools": False} if self.path == "/healthz" else turns.get(self.path.removeprefix("/turns/"))
        self.answer(200 if found else 404, found or {"error": "unknown turn"})

    def do_POST(self) -> None:
        turn = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if turns.setdefault(turn["turn_id"], new := {"status": "running"}) is new:
            threading.Thread(target=conduct, args=(turn,), daemon=True).start()
        self.answer(202, {"accepted": True})

    def answer(self, status: int, data: dict[str, object]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
