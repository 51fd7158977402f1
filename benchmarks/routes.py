"""The fakes' hot routes beside bare Starlette and a raw ASGI app: requests per CPU-second of each server's process.

    python -m benchmarks.routes [--seconds 2] [--rounds 3] [--connections 16]

Each fake is served as in a run (skin, endpoint, core, history file). The other two give the same answers, byte for byte of the
body, with nothing behind them, on uvicorn as it comes: Starlette with a route and a Response, and an ASGI app that reads the
body and sends. Keep-alive connections in a closed loop poll a run, and call a tool synchronously with no latency of the tool's
own. Each server and the load are processes of their own; the servers take turns, and a ratio is the median of the rounds'
ratios. Exit 1 when a route of the fakes stays below 3,500 requests per CPU-second in its best round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import load
from benchmarks.common.figures import Figure, command_line, finish, table
from benchmarks.common.processes import line, python, running
from fakes import loop

TARGET = 3_500
TOOL = "/tools/create_ticket"
ARGUMENTS = {"user_id": "U1", "conversation_id": "C1", "subject": "Damaged", "reference": "C1_abc"}
CALL = json.dumps({"arguments": ARGUMENTS}).encode()


class Route(NamedTuple):
    """What the load asks for."""

    method: str
    path: str
    body: bytes = b""


class Contender(NamedTuple):
    """One server: its process, and the port where each path is answered."""

    pid: int
    ports: Mapping[str, int]


async def fakes() -> None:
    """The fakes' process: prints the path of a run to poll, and the port of each path."""
    from fakes.assistants.core import Core
    from fakes.assistants.endpoint import AssistantsEndpoint
    from fakes.exchange import Request
    from fakes.faults import NoFaults
    from fakes.gateway.core import GatewayCore
    from fakes.gateway.endpoint import GatewayEndpoint
    from fakes.gateway.profile import PROFILES
    from fakes.history import History
    from fakes.ids import Ids
    from fakes.llm import brain
    from fakes.script import TOOLS, default
    from fakes.server import Server, bind, port_of
    from fakes.skin import skin

    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        return brain.complete(body, created=int(time.time()))

    async def post(url: str, body: dict[str, Any]) -> int:
        return 200

    with tempfile.TemporaryDirectory() as folder:
        history = History(path=Path(folder) / "history.jsonl")
        assistants = AssistantsEndpoint(Core(time.time, Ids(1)), history, NoFaults(), generate)
        gateway = GatewayEndpoint(
            GatewayCore(PROFILES["keyless"], clock=time.time, ids=Ids(1)), history, NoFaults(), post=post,
            log=lambda line: None, admin_token="t", clock=time.time, seed=1, latency=(0, 0),
        )
        ports = []
        for endpoint, title in ((assistants, "assistants"), (gateway, "gateway")):
            listening = bind()
            await Server(skin(endpoint, title=title, history=history, token="t"), [listening]).start()
            ports.append(port_of(listening))

        async def ask(path: str, body: Any) -> Any:
            return json.loads((await assistants.handle(Request("POST", path, body=json.dumps(body).encode()))).body)

        assistant = await ask("/v1/assistants", {"model": "m", "tools": list(TOOLS)})
        thread = {"messages": [{"role": "user", "content": default("turn", "C1", "U1").message()}]}
        run = await ask("/v1/threads/runs", {"assistant_id": assistant["id"], "thread": thread})
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
        print(json.dumps({path: ports[0], TOOL: ports[1]}), flush=True)
        await asyncio.Event().wait()


def starlette(answers: Mapping[str, bytes]) -> Any:
    """Bare Starlette."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        if request.method == "POST":
            await request.json()
        return Response(answers[request.url.path], media_type="application/json")

    routes = [
        Route("/v1/threads/{thread_id}/runs/{run_id}", answer),
        Route("/tools/{name}", answer, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def asgi(answers: Mapping[str, bytes]) -> Any:
    """A raw ASGI app."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        body = answers[scope["path"]]
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def bare(make: Callable[[Mapping[str, bytes]], Any]) -> None:
    """The process of one of the others: reads the answers from stdin, prints the port of each path."""
    import uvicorn

    from fakes.server import bind, port_of

    answers = {path: body.encode() for path, body in json.loads(sys.stdin.readline()).items()}
    listening = bind()
    config = uvicorn.Config(make(answers), log_level="warning", access_log=False, lifespan="off")
    print(json.dumps(dict.fromkeys(answers, port_of(listening))), flush=True)
    await uvicorn.Server(config).serve([listening])


def compare(connections: int, seconds: float, rounds: int) -> list[Figure]:
    """Measure and print the table."""
    with contextlib.ExitStack() as stack:

        def start(role: str, said: str) -> Contender:
            child = stack.enter_context(running(*python("benchmarks.routes", "--role", role)))
            assert child.stdin is not None
            child.stdin.write(f"{said}\n".encode())
            child.stdin.flush()
            return Contender(child.pid, json.loads(line(child)))

        contenders = {"the fakes": start("fakes", "")}
        polled, tool = contenders["the fakes"].ports
        routes = {"poll a run": Route("GET", polled), "call a tool": Route("POST", tool, CALL)}
        answers = json.dumps({route.path: fetch(contenders["the fakes"].ports[route.path], route) for route in routes.values()})
        contenders |= {"Starlette": start("starlette", answers), "raw ASGI": start("asgi", answers)}
        results: dict[tuple[str, str], list[load.Served]] = {(name, who): [] for name in routes for who in contenders}
        for number in range(rounds):
            for name, route in routes.items():
                for who, contender in contenders.items():
                    request = load.http(*route)
                    served = load.measure(contender.ports[route.path], contender.pid, request, connections, seconds)
                    results[name, who].append(served)
                    rate = f"{served.per_cpu_second:,.0f} requests per CPU-second"
                    print(f"round {number + 1} of {rounds}: {name}, {who}: {rate}", flush=True)
    print(f"\n{connections} keep-alive connections, median of {rounds} rounds of {seconds:g} s")
    print(table([("route", "server", "requests/s", "per CPU-second", "the fakes' part of it"), *map(tuple, rows(results))]))
    return judged(results)


def rows(results: Mapping[tuple[str, str], list[load.Served]]) -> list[list[str]]:
    """The table's rows."""
    return [
        [
            name,
            who,
            f"{statistics.median(served.per_second for served in got):,.0f}",
            f"{statistics.median(served.per_cpu_second for served in got):,.0f}",
            f"{ratio(results[name, 'the fakes'], got):.2f}",
        ]
        for (name, who), got in results.items()
    ]


def ratio(mine: list[load.Served], its: list[load.Served]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one.per_cpu_second / other.per_cpu_second for one, other in zip(mine, its, strict=True))


def judged(results: Mapping[tuple[str, str], list[load.Served]]) -> list[Figure]:
    """The figures: the best round of each route, since other load on the machine only ever takes from it, and the ratios."""
    found = []
    for (name, who), got in results.items():
        if who == "the fakes":
            best = max(served.per_cpu_second for served in got)
            found.append(Figure(name, best, "requests per CPU-second, best round", at_least=TARGET))
        else:
            part = ratio(results[name, "the fakes"], got)
            found.append(Figure(f"{name}: the fakes / {who}", part, "of requests per CPU-second"))
    return found


def fetch(port: int, route: Route) -> str:
    """The body of an answer."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{route.path}", route.body or None, method=route.method)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def main() -> int:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, help="per server, route and round (default 2)")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("--role", choices=["fakes", "starlette", "asgi"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        loop.run(fakes() if given.role == "fakes" else bare({"starlette": starlette, "asgi": asgi}[given.role]))
        return 0
    seconds, rounds = (0.2, 1) if given.quick else (2.0, 3)
    return finish(given, compare(given.connections, given.seconds or seconds, given.rounds or rounds))


if __name__ == "__main__":
    sys.exit(main())
