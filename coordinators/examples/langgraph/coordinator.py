"""A coordinator on LangGraph: a graph for each turn, with the SQLite checkpointer; a turn that comes again goes on there."""
import fcntl
import json
import os
import sqlite3
import threading
from wsgiref.simple_server import make_server

import requests
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from openai import OpenAI

threads = OpenAI(timeout=float(os.environ.get("CLIENT_TIMEOUT", "30"))).beta.threads
turns: dict[str, dict] = {"/healthz": {"async_tools": False}}


def call_tool(name: str, arguments: str) -> str:
    url, seconds = f"{os.environ['TOOL_GATEWAY_URL']}/tools/{name}", float(os.environ.get("TOOL_TIMEOUT", "30"))
    return requests.post(url, json={"arguments": json.loads(arguments)}, timeout=seconds).json()["output"]


builder = StateGraph(dict)  # the state is the run, as the API showed it last
builder.add_node("tools", lambda run: {**run, "outputs": [{"tool_call_id": call["id"], "output": call_tool(**call["function"])}
    for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]})
builder.add_node("begin", lambda turn: threads.create_and_run(
    assistant_id=os.environ["ASSISTANT_ID"], thread={"messages": [{"role": "user", "content": turn["message"]}]}).to_dict())
builder.add_node("poll", lambda run: threads.runs.poll(run["id"], thread_id=run["thread_id"]).to_dict())
builder.add_node("submit", lambda run: threads.runs.submit_tool_outputs(
    run["id"], thread_id=run["thread_id"], tool_outputs=run["outputs"]).to_dict())
builder.add_edge(START, "begin").add_edge("begin", "poll").add_edge("tools", "submit").add_edge("submit", "poll")
builder.add_conditional_edges("poll", lambda run: "tools" if run["status"] == "requires_action" else "__end__")
saver = SqliteSaver(sqlite3.connect(os.environ["STATE_DIR"] + "/langgraph.sqlite", timeout=30, check_same_thread=False))
with open(os.environ["STATE_DIR"] + "/langgraph.lock", "w") as lock:  # SQLite waits for nobody when it goes over to its WAL
    fcntl.flock(lock, fcntl.LOCK_EX)
    saver.setup()
graph = builder.compile(checkpointer=saver)


def conduct(turn: dict[str, str]) -> None:
    config = {"configurable": {"thread_id": turn["turn_id"]}}
    try:
        status = graph.invoke(None if graph.get_state(config).next else turn, config, durability="sync")["status"]
        turns[turn["turn_id"]] = {"status": "done" if status == "completed" else "failed"}
    except Exception as error:
        turns[turn["turn_id"]] = {"status": "failed", "detail": str(error)}


def app(environ, start_response) -> list[bytes]:
    found = turns.get(environ["PATH_INFO"].removeprefix("/turns/"))
    if environ["REQUEST_METHOD"] == "POST":
        turn = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if (found := turns.setdefault(turn["turn_id"], new := {"status": "running"})) is new:
            threading.Thread(target=conduct, args=(turn,), daemon=True).start()
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
    return [json.dumps(found or {"error": "unknown turn"}).encode()]


make_server("127.0.0.1", int(os.environ["PORT"]), app).serve_forever()
