"""The embedded proxy beside the real Toxiproxy: requests per second, and the CPU that one request costs the proxy.

    python benchmarks/proxy.py [--seconds 3] [--rounds 3] [--connections 16]

Keep-alive connections in a closed loop, small requests and answers, no toxic. The upstream, the load and each proxy are
processes of their own; the sides take turns, so that a busy machine disturbs both alike. The real one is found as in the
tests: TOXIPROXY_BIN, .tools/bin/toxiproxy-server (see scripts/toxiproxy), or toxiproxy-server on PATH; without it only the
embedded side is measured. Exit 1 when a target is missed: CPU per request at most the real one's, requests/s at least 0.8 of
the real one's.
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
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

REQUEST = b"GET /v1/threads/thread_1/runs/run_1 HTTP/1.1\r\nHost: benchmark\r\nAccept: application/json\r\n\r\n"
BODY = json.dumps({"id": "run_1", "object": "thread.run", "status": "in_progress", "filler": "x" * 400}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
SHARE_OF_THROUGHPUT = 0.8


class Upstream(asyncio.Protocol):
    """Answers each request; a request is assumed to come in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER)


class Client(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete."""

    def __init__(self, tally: list[int]) -> None:
        self.tally = tally
        self.missing = len(ANSWER)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if not self.missing:
            self.missing = len(ANSWER)
            self.tally[0] += 1
            self.transport.write(REQUEST)


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


async def load(port: int, connections: int, seconds: float) -> None:
    """The load's process: prints requests and seconds, after a short warm-up."""
    tally = [0]
    made = [
        (await asyncio.get_running_loop().create_connection(lambda: Client(tally), "127.0.0.1", port))[0]
        for _ in range(connections)
    ]
    await asyncio.sleep(0.3)
    print("warm", flush=True)
    before, start = tally[0], time.perf_counter()
    await asyncio.sleep(seconds)
    print(json.dumps([tally[0] - before, time.perf_counter() - start]), flush=True)
    for transport in made:
        transport.abort()


@contextlib.contextmanager
def running(*command: str, heard: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A child process, ended with the block; its output is piped, or thrown away when nobody would read it."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE if heard else subprocess.DEVNULL, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def me(*arguments: str) -> tuple[str, ...]:
    """The command of one of the roles above."""
    return (sys.executable, __file__, *arguments)


def line(child: subprocess.Popen[str]) -> str:
    """The next line that a child prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


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


def create(admin: int, upstream_port: int) -> int:
    """Make the proxy; returns the port where it listens. Waits for the admin API for up to 10 s."""
    body = json.dumps({"name": "bench", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream_port}"}).encode()
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/proxies", data=body, timeout=5) as answer:
                return int(json.load(answer)["listen"].rpartition(":")[2])
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure(port: int, process: psutil.Process | None, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second, and CPU microseconds of `process` per request."""
    with running(*me("--role", "load", "--port", str(port), "-c", str(connections), "--seconds", str(seconds))) as child:
        line(child)
        before = process.cpu_times() if process else None
        requests, took = json.loads(line(child))
        after = process.cpu_times() if process else None
    used = (after.user + after.system - before.user - before.system) if before and after else 0.0
    return requests / took, used / requests * 1e6


def compare(connections: int, seconds: float, rounds: int) -> int:
    """Measure, print the table, and return the exit code."""
    with contextlib.ExitStack() as stack:
        upstream_port = int(line(stack.enter_context(running(*me("--role", "upstream")))))
        sides: dict[str, tuple[int, psutil.Process | None]] = {"direct": (upstream_port, None)}
        ours = stack.enter_context(running(*me("--role", "embedded")))
        sides["embedded"] = create(int(line(ours)), upstream_port), psutil.Process(ours.pid)
        binary = real_binary()
        if binary:
            admin = free_port()
            real = stack.enter_context(running(binary, "-host", "127.0.0.1", "-port", str(admin), heard=False))
            sides["real"] = create(admin, upstream_port), psutil.Process(real.pid)
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, (port, process) in sides.items():
                results[name].append(measure(port, process, connections, seconds))
    rates = {name: statistics.median(rate for rate, _ in rows) for name, rows in results.items()}
    costs = {name: statistics.median(cost for _, cost in rows) for name, rows in results.items()}
    print(f"{connections} keep-alive connections, median of {rounds} rounds of {seconds:g} s")
    print(f"{'':10}{'requests/s':>12}{'CPU us/request of the proxy':>30}")
    for name in sides:
        print(f"{name:10}{rates[name]:12,.0f}{'-' if name == 'direct' else f'{costs[name]:.1f}':>30}")
    if "real" not in sides:
        print("NO REAL TOXIPROXY HERE, nothing to compare with: run scripts/toxiproxy, or set TOXIPROXY_BIN", file=sys.stderr)
        return 0
    throughput, cost = rates["embedded"] / rates["real"], costs["embedded"] / costs["real"]
    good = throughput >= SHARE_OF_THROUGHPUT and cost <= 1
    print(f"embedded / real: requests/s {throughput:.2f} (target >= {SHARE_OF_THROUGHPUT}), CPU {cost:.2f} (target <= 1)")
    print("targets reached" if good else "TARGET MISSED")
    return 0 if good else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per side and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("--role", choices=["upstream", "embedded", "load"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role is None:
        return compare(given.connections, given.seconds, given.rounds)
    role = {"upstream": upstream, "embedded": embedded}.get(given.role)
    asyncio.run(role() if role else load(given.port, given.connections, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
