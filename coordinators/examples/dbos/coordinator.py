"""A coordinator on a durable engine: a DBOS workflow for each turn on SQLite, everything that it does outside a step of it."""
import functools
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from dbos import DBOS, SetWorkflowID
from openai import OpenAI

threads = OpenAI(timeout=float(os.environ.get("CLIENT_TIMEOUT", "30"))).beta.threads
step = functools.partial(DBOS.run_step, None)


def call_tool(name: str, arguments: str) -> str:
    url, seconds = f"{os.environ['TOOL_GATEWAY_URL']}/tools/{name}", float(os.environ.get("TOOL_TIMEOUT", "30"))
    return requests.post(url, json={"arguments": json.loads(arguments)}, timeout=seconds).json()["output"]


@DBOS.workflow()
def conduct(message: str) -> str:
    thread = step(threads.create, messages=[{"role": "user", "content": message}])
    run = step(threads.runs.create, thread.id, assistant_id=os.environ["ASSISTANT_ID"])
    while (run := step(threads.runs.poll, run.id, thread_id=thread.id)).status == "requires_action":
        calls = run.required_action.submit_tool_outputs.tool_calls
        outputs = [{"tool_call_id": c.id, "output": step(call_tool, c.function.name, c.function.arguments)} for c in calls]
        step(threads.runs.submit_tool_outputs, run.id, thread_id=thread.id, tool_outputs=outputs)
    return run.status


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        flow = DBOS.get_workflow_status(self.path.removeprefix("/turns/"))
        if flow is None:
            self.answer({"async_tools": False}, 200 if self.path == "/healthz" else 404)
        elif flow.status in ("PENDING", "ENQUEUED"):
            self.answer({"status": "running"})
        else:
            self.answer({"status": "done" if flow.output == "completed" else "failed", "detail": flow.status})

    def do_POST(self) -> None:
        turn = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with SetWorkflowID(turn["turn_id"]):  # a turn that comes again finds its workflow
            DBOS.start_workflow(conduct, turn["message"])
        self.answer({"accepted": True}, 202)

    def answer(self, data: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())


DBOS(config={"name": "support", "system_database_url": f"sqlite:///{os.environ['STATE_DIR']}/dbos.sqlite",
             "executor_id": os.environ["INSTANCE_ID"], "application_version": "1", "run_admin_server": False})
DBOS.launch()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
