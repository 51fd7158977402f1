"""The embedded proxy beside the real Toxiproxy, in every kind of work: requests per CPU-second of each proxy's process.

    python -m benchmarks.proxy [--seconds 1.5] [--rounds 3] [--only latency --connections 16 --body small]

Keep-alive connections in a closed loop through no toxic, a latency of 5 ms and a bandwidth of 10 MB/s (downstream, each
connection by itself), with answers of half a kilobyte and of 1 MB. The upstream, the load and each proxy are processes of their
own; the two sides take turns, so that a busy machine disturbs both alike, and a ratio is the median of the rounds' ratios. The
real one is found as in the tests: TOXIPROXY_BIN, .tools/bin/toxiproxy-server (see scripts/toxiproxy), or toxiproxy-server on
PATH; without it only the embedded side is measured. Exit 1 when the embedded one serves fewer requests per CPU-second than the
real one in any cell, or less than 0.8 of its requests/s in small requests on 16 connections without a toxic.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks.common.figures import Figure, command_line, finish, table
from benchmarks.common.load import Served, http, measure
from benchmarks.common.processes import line, python, running
from fakes import loop

SHARE_OF_THROUGHPUT = 0.8
CONNECTIONS = (1, 16, 64)
TOXICS: Mapping[str, Mapping[str, Any] | None] = {
    "none": None,
    "latency": {"type": "latency", "attributes": {"latency": 5}},
    "bandwidth": {"type": "bandwidth", "attributes": {"rate": 10_000}},
}
SIZES = {"small": 500, "1 MB": 1_000_000}
ANSWERS = {
    b"/%d" % size: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
    for size in SIZES.values()
}


class Cell(NamedTuple):
    """One kind of work."""

    toxic: str
    connections: int
    body: str

    def __str__(self) -> str:
        return f"{self.toxic}, {self.connections} connection{'s' * (self.connections > 1)}, {self.body}"


class Side(NamedTuple):
    """One proxy server: its process, and the port of the proxy with each toxic."""

    pid: int
    ports: Mapping[str, int]


class Upstream(asyncio.Protocol):
    """Answers each request; a request is assumed to come in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWERS[data.split(b" ", 2)[1]])


async def upstream() -> None:
    """The upstream process: prints its port."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def embedded() -> None:
    """The embedded proxy's process: prints the port of its admin API."""
    from chaos.toxiproxy.embedded import EmbeddedToxiproxy

    server = EmbeddedToxiproxy(seed=1)
    await server.start()
    print(server.url.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


def real_binary() -> str | None:
    """Where a real toxiproxy-server is, if there is one."""
    built = Path(__file__).parent.parent / ".tools" / "bin" / "toxiproxy-server"
    return os.environ.get("TOXIPROXY_BIN") or (str(built) if built.exists() else shutil.which("toxiproxy-server"))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def create(admin: int, upstream_port: int, pid: int) -> Side:
    """Make a proxy for each toxic. Waits for the admin API for up to 10 s."""

    def post(path: str, body: Mapping[str, Any]) -> Any:
        deadline = time.monotonic() + 10
        url, data = f"http://127.0.0.1:{admin}{path}", json.dumps(body).encode()
        while True:
            try:
                with urllib.request.urlopen(url, data, timeout=5) as answer:
                    return json.load(answer)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    ports = {}
    for name, toxic in TOXICS.items():
        made = post("/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream_port}"})
        ports[name] = int(made["listen"].rpartition(":")[2])
        if toxic is not None:
            post(f"/proxies/{name}/toxics", toxic)
    return Side(pid, ports)


def compare(cells: Sequence[Cell], seconds: float, rounds: int) -> list[Figure]:
    """Measure and print the table."""
    with contextlib.ExitStack() as stack:
        upstream_port = int(line(stack.enter_context(running(*python("benchmarks.proxy", "--role", "upstream")))))
        ours = stack.enter_context(running(*python("benchmarks.proxy", "--role", "embedded")))
        sides = {"embedded": create(int(line(ours)), upstream_port, ours.pid)}
        binary = real_binary()
        if binary:
            admin = free_port()
            real = stack.enter_context(running(binary, "-host", "127.0.0.1", "-port", str(admin), heard=False))
            sides["real"] = create(admin, upstream_port, real.pid)
        else:
            print("NO REAL TOXIPROXY HERE, nothing to compare with: scripts/toxiproxy builds one", file=sys.stderr)
        heads = [f"{name} {what}" for what in ("req/s", "req/CPU-s") for name in sides]
        rows = [["toxic, connections, answers", *heads, "ratio"]]
        found: list[Figure] = []
        for cell in cells:
            results: dict[str, list[Served]] = {name: [] for name in sides}
            request = http("GET", f"/{SIZES[cell.body]}")
            for _ in range(rounds):
                for name, side in sides.items():
                    results[name].append(measure(side.ports[cell.toxic], side.pid, request, cell.connections, seconds))
            found += judged(cell, results)
            rates = [f"{statistics.median(served.per_second for served in got):,.0f}" for got in results.values()]
            costs = [f"{statistics.median(served.per_cpu_second for served in got):,.0f}" for got in results.values()]
            rows.append([str(cell), *rates, *costs, found[-1].cells()[1] if binary else "-"])
            print(f"{cell}: {found[-1].cells()[1]} {found[-1].unit}", flush=True)
    print(f"\nmedian of {rounds} rounds of {seconds:g} s\n{table(rows)}")
    return found


def judged(cell: Cell, results: Mapping[str, Sequence[Served]]) -> list[Figure]:
    """The figures of a cell; the last one is what its target is about."""
    ours = results["embedded"]
    if "real" not in results:
        rate = statistics.median(served.per_cpu_second for served in ours)
        return [Figure(f"embedded: {cell}", rate, "requests per CPU-second")]
    pairs = list(zip(ours, results["real"], strict=True))
    found = []
    if cell == Cell("none", 16, "small"):
        rate = statistics.median(mine.per_second / its.per_second for mine, its in pairs)
        found.append(Figure(f"embedded / real: {cell}", rate, "of requests/s", at_least=SHARE_OF_THROUGHPUT))
    cost = statistics.median(mine.per_cpu_second / its.per_cpu_second for mine, its in pairs)
    return [*found, Figure(f"embedded / real: {cell}", cost, "of requests per CPU-second", at_least=1)]


def main() -> int:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, help="per side and round (default 1.5)")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--only", choices=TOXICS, help="this toxic only")
    parser.add_argument("-c", "--connections", type=int, help="so many connections only")
    parser.add_argument("--body", choices=SIZES, help="answers of this size only")
    parser.add_argument("--role", choices=["upstream", "embedded"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        loop.run({"upstream": upstream, "embedded": embedded}[given.role]())
        return 0
    cells = [
        Cell(toxic, connections, body)
        for body in ([given.body] if given.body else SIZES)
        for toxic in ([given.only] if given.only else TOXICS)
        for connections in ([given.connections] if given.connections else (4,) if given.quick else CONNECTIONS)
    ]
    seconds, rounds = (0.1, 1) if given.quick else (1.5, 3)
    return finish(given, compare(cells, given.seconds or seconds, given.rounds or rounds))


if __name__ == "__main__":
    sys.exit(main())
