"""A load: keep-alive connections in a closed loop, in a process of its own, and what it costs the process that serves them."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import time

from benchmarks.common.processes import cpu_seconds, line, python, running

WARM_UP = 0.3
"""Seconds at most before anything is counted."""
READ_SIZE = 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """What a server did for a load."""

    per_second: float
    per_cpu_second: float


def http(method: str, path: str, body: bytes = b"") -> bytes:
    """One request as bytes."""
    return f"{method} {path} HTTP/1.1\r\nhost: benchmark\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def measure(port: int, pid: int, request: bytes, connections: int, seconds: float) -> Served:
    """Send the request at a port again and again; the CPU time is that of the process `pid`.

    An answer that has come in part counts in part. Raises RuntimeError for an answer that is no 200.
    """
    options = (f"--port={port}", f"--connections={connections}", f"--seconds={seconds}")
    with running(*python("benchmarks.common.load", *options)) as child:
        assert child.stdin is not None
        child.stdin.write(request)
        child.stdin.close()
        line(child)
        before = cpu_seconds(pid)
        requests, took = json.loads(line(child))
        used = cpu_seconds(pid) - before
    if not requests:
        raise RuntimeError(f"no answer in {seconds:g} s from port {port}")
    return Served(requests / took, requests / used)


class Client(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answers = 0
        self.size = 1
        self.missing = 0
        self.head = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def count(self) -> float:
        """Answers, the one that is under way in part."""
        return self.answers + (1 - self.missing / self.size if self.missing else 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.max_size = READ_SIZE  # type: ignore[attr-defined]
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            data = self.head = self.head + data
            head, end, _ = data.partition(b"\r\n\r\n")
            if not end:
                return
            if head.split(b" ", 2)[1] != b"200":
                self.lost.set_exception(RuntimeError(f"an answer that is no 200: {data[:300]!r}"))
                self.transport.abort()
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.size = self.missing = len(head) + 4 + int(length)
            self.head = b""
        self.missing -= len(data)
        if not self.missing:
            self.answers += 1
            self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_exception(exc or RuntimeError("the server closed a connection"))


async def _load(port: int, request: bytes, connections: int, seconds: float) -> None:
    """The load's process: prints that it is warm, then answers and seconds."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(lambda: Client(request), "127.0.0.1", port))[1] for _ in range(connections)]

    async def wait(seconds: float) -> float:
        await asyncio.wait([client.lost for client in clients], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for client in clients:
            if client.lost.done():
                client.lost.result()
        return sum(client.count for client in clients)

    before = await wait(min(WARM_UP, seconds))
    print("warm", flush=True)
    start = time.perf_counter()
    count = await wait(seconds) - before
    print(json.dumps([count, time.perf_counter() - start]), flush=True)
    for client in clients:
        client.lost.cancel()
        client.transport.abort()


def main() -> None:
    """Read the request from stdin, then send it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(_load(given.port, sys.stdin.buffer.read(), given.connections, given.seconds))


if __name__ == "__main__":
    main()
