"""A laboratory around a Toxiproxy server: the embedded one always, the real one when a binary is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chaos.toxiproxy.embedded import EmbeddedToxiproxy

SEED = 7
LIMIT = 20.0


class Pipe:
    """One connection through a proxy, both ends in hand."""

    def __init__(self, client: Any, server: Any) -> None:
        self.client_in, self.client_out = client
        self.server_in, self.server_out = server

    def ends(self, stream: str) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """Where the bytes of a direction are written, and where they arrive."""
        return (self.client_out, self.server_in) if stream == "upstream" else (self.server_out, self.client_in)


class Lab:
    """What a scenario works with: the admin API over HTTP, proxies, upstreams, connections. All is given back at its end."""

    def __init__(self, url: str, http: httpx.AsyncClient, name: str = "p") -> None:
        self.url = url
        self.name = name  # of the proxy, where a scenario gives none
        self._http = http
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._accepted: asyncio.Queue[Any] = asyncio.Queue()

    async def admin(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """One request to the admin API."""
        if body is not None:
            more["json"] = body
        return await self._http.request(method, self.url + path, **more)

    async def upstream(self, handler: Any = None) -> str:
        """A server for a proxy to point at; its connections are handled, or handed out by `pipe`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            if handler is None:
                self._accepted.put_nowait((reader, writer))
            else:
                with contextlib.suppress(ConnectionError):
                    await handler(reader, writer)
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    async def proxy(self, upstream: str | None = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
        """A proxy, in front of a new upstream when none is named."""
        upstream = upstream or await self.upstream()
        body = {"name": name or self.name, "upstream": upstream, "listen": "127.0.0.1:0", **fields}
        made = await self.admin("POST", "/proxies", body)
        assert made.status_code == 201, made.text
        return dict(made.json())

    async def toxic(self, type: str, proxy: str | None = None, **fields: Any) -> dict[str, Any]:
        """A toxic on a proxy; what is no field of a toxic is an attribute."""
        known = {key: fields.pop(key) for key in ("stream", "name", "toxicity") if key in fields}
        made = await self.admin("POST", f"/proxies/{proxy or self.name}/toxics", {"type": type, **known, "attributes": fields})
        assert made.status_code == 200, made.text
        return dict(made.json())

    async def connect(self, proxy: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection to a proxy."""
        host, _, port = proxy["listen"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._writers.append(writer)
        return reader, writer

    async def pipe(self, proxy: dict[str, Any]) -> Pipe:
        """A connection through a proxy whose upstream is one without a handler."""
        client = await self.connect(proxy)
        return Pipe(client, await self._accepted.get())

    async def close(self) -> None:
        """Give everything back."""
        for name in (await self.admin("GET", "/proxies")).json():
            await self.admin("DELETE", f"/proxies/{name}")
        for server in self._servers:
            server.close()
        for writer in self._writers:
            if not writer.is_closing():  # aborting what has closed fails in CPython 3.11
                writer.transport.abort()
        await asyncio.sleep(0.01)


def binary() -> str | None:
    """Where a real toxiproxy-server is, if there is one."""
    built = Path(__file__).parents[3] / ".tools" / "bin" / "toxiproxy-server"
    return os.environ.get("TOXIPROXY_BIN") or (str(built) if built.exists() else shutil.which("toxiproxy-server"))


@pytest.fixture(scope="session")
def real_url() -> Iterator[str]:
    """The admin API of a real Toxiproxy, started for the session."""
    found = binary()
    if found is None:
        pytest.skip("NO REAL TOXIPROXY HERE, conformance was not compared: run scripts/toxiproxy, or set TOXIPROXY_BIN")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [found, "-host", "127.0.0.1", "-port", str(port), "-proxy-metrics"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                urllib.request.urlopen(f"{url}/version", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the real Toxiproxy ended"
                assert time.monotonic() < deadline, "the real Toxiproxy did not answer"
                time.sleep(0.02)
        yield url
    finally:
        server.kill()
        server.wait()


Scenario = Callable[[Lab], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for the session; servers in it rest between the tests. What it only logs otherwise fails the session."""
    stumbled: list[Any] = []
    with asyncio.Runner() as made:
        made.get_loop().set_exception_handler(lambda loop, context: stumbled.append(context))
        yield made
    assert not stumbled


@pytest.fixture(scope="session")
def embedded_url(runner: asyncio.Runner) -> Iterator[str]:
    """The admin API of an embedded server, started for the session."""
    embedded = EmbeddedToxiproxy(SEED)
    runner.run(embedded.start())
    yield embedded.url
    runner.run(embedded.stop())


@pytest.fixture(scope="session")
def http(runner: asyncio.Runner) -> Iterator[httpx.AsyncClient]:
    """The HTTP client of all labs."""
    made = httpx.AsyncClient(trust_env=False, timeout=5)
    yield made
    runner.run(made.aclose())


@pytest.fixture(params=["embedded", "real"])
def play(request: pytest.FixtureRequest, runner: asyncio.Runner, http: httpx.AsyncClient) -> Play:
    """Plays a scenario in a lab around each of the two servers."""
    url = request.getfixturevalue(f"{request.param}_url")
    return lambda scenario: runner.run(_play(scenario, Lab(url, http)))


@pytest.fixture(params=["embedded", "real"])
def play_both(request: pytest.FixtureRequest, runner: asyncio.Runner, http: httpx.AsyncClient) -> Callable[[Any], None]:
    """Plays a scenario for both directions side by side, each with a proxy of its own, around each of the two servers."""
    url = request.getfixturevalue(f"{request.param}_url")

    async def both(scenario: Any) -> None:
        labs = {stream: Lab(url, http, stream) for stream in ("upstream", "downstream")}
        try:
            scenes = [scenario(lab, stream) for stream, lab in labs.items()]
            await asyncio.wait_for(asyncio.gather(*scenes), LIMIT)
        finally:
            for lab in labs.values():
                await lab.close()

    return lambda scenario: runner.run(both(scenario))


@pytest.fixture
def play_embedded(runner: asyncio.Runner, embedded_url: str, http: httpx.AsyncClient) -> Play:
    """Plays a scenario in a lab around the embedded server only."""
    return lambda scenario: runner.run(_play(scenario, Lab(embedded_url, http)))


async def _play(scenario: Scenario, lab: Lab) -> None:
    try:
        await asyncio.wait_for(scenario(lab), LIMIT)
    finally:
        await lab.close()
