"""The client drives both servers, in time, and every failure is an error that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from chaos.toxiproxy.client import (
    BadUrl,
    Conflict,
    Failed,
    NotFound,
    ProxyInfo,
    Refused,
    TimedOut,
    ToxicInfo,
    Toxiproxy,
    Unreachable,
)
from chaos.toxiproxy.embedded import EmbeddedToxiproxy

ODD = "odd name?#%&ü"


def test_proxies(play):
    """Create, list, disable, enable, delete; names with odd characters are quoted."""

    async def scenario(lab):
        upstream = await lab.upstream()
        async with Toxiproxy(lab.url) as client:
            assert await client.version() == "2.12.0"
            made = await client.create(ODD, upstream)
            assert made == ProxyInfo(ODD, f"127.0.0.1:{made.port}", upstream, True)
            assert await client.proxies() == {ODD: made}
            await client.disable(ODD)
            assert (await client.proxies())[ODD].enabled is False
            await client.enable(ODD)
            assert (await client.proxies())[ODD].enabled is True
            await client.delete(ODD)
            assert await client.proxies() == {}
            off = await client.create("off", upstream, enabled=False)
            assert off.enabled is False
            await client.delete("off")

    play(scenario)


def test_toxics(play):
    """Add, list, update, remove, reset."""

    async def scenario(lab):
        async with Toxiproxy(lab.url) as client:
            await client.create(ODD, "127.0.0.1:1")
            made = await client.add_toxic(ODD, "latency", {"latency": 5}, stream="upstream", toxicity=0.5, name=ODD)
            assert made == ToxicInfo(ODD, "latency", "upstream", 0.5, {"latency": 5, "jitter": 0})
            plain = await client.add_toxic(ODD, "timeout")
            assert plain == ToxicInfo("timeout_downstream", "timeout", "downstream", 1, {"timeout": 0})
            assert await client.toxics(ODD) == [made, plain]
            updated = await client.update_toxic(ODD, ODD, {"jitter": 2}, toxicity=1)
            assert updated == ToxicInfo(ODD, "latency", "upstream", 1, {"latency": 5, "jitter": 2})
            updated = await client.update_toxic(ODD, ODD, toxicity=0.5)
            assert updated.attributes == {"latency": 5, "jitter": 2}
            await client.remove_toxic(ODD, ODD)
            assert await client.toxics(ODD) == [plain]
            await client.disable(ODD)
            await client.reset()
            assert await client.toxics(ODD) == []
            assert (await client.proxies())[ODD].enabled is True
            await client.delete(ODD)

    play(scenario)


def test_populate(play):
    """Many proxies in one call, by the server."""

    async def scenario(lab):
        async with Toxiproxy(lab.url) as client:
            wanted = [{"name": name, "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"} for name in "ab"]
            made = await client.populate(wanted)
            assert [proxy.name for proxy in made] == ["a", "b"]
            assert await client.populate([]) == []
            assert set(await client.proxies()) == {"a", "b"}

    play(scenario)


def test_refusals_are_typed(play):
    """Each refusal is an error of its kind, with the call, the answer and advice."""

    async def scenario(lab):
        async with Toxiproxy(lab.url) as client:
            made = await client.create("p", "127.0.0.1:1")
            with pytest.raises(Conflict, match=r"create proxy 'p'.*already exists.*choose another name"):
                await client.create("p", "127.0.0.1:1")
            with pytest.raises(Failed, match=r"(?i)create proxy 'q'.*500: .*address already in use.*port 0"):
                await client.create("q", "127.0.0.1:1", listen=made.listen)
            with pytest.raises(Refused, match=r"400: missing required field: name"):
                await client.create("", "127.0.0.1:1")
            for call in (
                client.delete("none"),
                client.enable("none"),
                client.disable("none"),
                client.toxics("none"),
                client.add_toxic("none", "latency"),
                client.remove_toxic("none", "t"),
                client.update_toxic("none", "t", {}),
            ):
                with pytest.raises(NotFound, match=r"'none'.*404: proxy not found"):
                    await call
            with pytest.raises(NotFound, match="404: toxic not found"):
                await client.remove_toxic("p", "t")
            with pytest.raises(Refused, match="400: invalid toxic type"):
                await client.add_toxic("p", "lightning")
            with pytest.raises(Refused, match="400: stream was invalid"):
                await client.add_toxic("p", "latency", stream="sideways")
            await client.add_toxic("p", "latency")
            with pytest.raises(Conflict, match="409: toxic already exists"):
                await client.add_toxic("p", "latency")
            with pytest.raises(Refused, match="400: bad request body"):
                await client.update_toxic("p", "latency_downstream", {"latency": "long"})

    play(scenario)


def test_two_servers_in_one_process():
    """Clients of different servers, used at the same time, do not mix them up."""

    async def scenario():
        servers = [EmbeddedToxiproxy(seed=1), EmbeddedToxiproxy(seed=2)]
        for server in servers:
            await server.start()
        clients = [Toxiproxy(server.url) for server in servers]
        await asyncio.gather(*(clients[n % 2].create(f"{n % 2}-{n}", "127.0.0.1:1") for n in range(20)))
        for number, client in enumerate(clients):
            names = set(await client.proxies())
            assert names == {f"{number}-{n}" for n in range(20) if n % 2 == number}
            client.close()
        for server in servers:
            await server.stop()

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def answering(*pieces, pause=0.0):
    """The address of a server that says the pieces to whoever connects, whatever was asked, and then nothing."""

    async def handler(reader, writer):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.02)


def test_a_server_that_hangs_is_timed_out():
    """No call waits longer than its timeout for a server that accepts and says nothing."""

    async def scenario():
        async with answering() as url, Toxiproxy(url, timeout=0.2) as client:
            start = time.monotonic()
            with pytest.raises(TimedOut, match=r"add toxic latency.*POST .*/proxies/p/toxics.*restart it"):
                await client.add_toxic("p", "latency")
            with pytest.raises(TimedOut, match="list the proxies"):
                await client.proxies()
            assert time.monotonic() - start < 5

    asyncio.run(scenario())


def test_a_server_that_drips_is_timed_out():
    """Bytes that come now and then do not keep a call alive."""

    async def scenario():
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n"
        async with answering(head, *[b" "] * 15, pause=0.1) as url, Toxiproxy(url, timeout=0.2) as client:
            with pytest.raises(TimedOut, match="reset"):
                await client.reset()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "kind", "seen"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", Failed, "500: Oh"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\ngate", Failed, "502: gate"),
        (b"HTTP/1.1 302 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", Failed, "302: Moved"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", Refused, "403: No"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhat", Failed, "that no Toxiproxy gives"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"p\": {}}\n", Failed, "that no Toxiproxy gives"),
        (b"nonsense\r\n\r\n", Unreachable, "nonsense"),
    ],
)
def test_strange_answers_are_errors(answer, kind, seen):
    """Whatever answers there, the caller gets a ToxiproxyError that tells what was seen."""

    async def scenario():
        async with answering(answer) as url, Toxiproxy(url, timeout=2) as client:
            with pytest.raises(kind, match=seen):
                await client.proxies()

    asyncio.run(scenario())


def test_nobody_there_is_unreachable():
    """A refused connection names the address, the reason and the way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def scenario():
        async with Toxiproxy(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(Unreachable, match=rf"127.0.0.1:{port}/version.*refused.*anechoic proxy"):
                await client.version()

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1:1", "http://", "http://127.0.0.1:1/admin", "http://h:port", "http://h:99999"])
def test_a_bad_url_is_refused_at_once(url):
    """What is no address of a server is refused before any call, with an example."""
    with pytest.raises(BadUrl, match=r"such as http://127.0.0.1:8474"):
        Toxiproxy(url)


@pytest.mark.parametrize(
    ("url", "base"),
    [("127.0.0.1:5", "http://127.0.0.1:5"), ("http://h/", "http://h:8474"), ("http://[::1]:9/", "http://[::1]:9")],
)
def test_addresses_are_completed(url, base):
    """A missing scheme is http, a missing port is Toxiproxy's."""
    with contextlib.closing(Toxiproxy(url)) as client:
        assert client.url == base


def test_the_old_version_format():
    """Servers before 2.2 answer the version as bare text."""

    async def scenario():
        async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n2.1.4") as url, Toxiproxy(url) as client:
            assert await client.version() == "2.1.4"

    asyncio.run(scenario())
