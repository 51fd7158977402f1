"""Changes act on live connections: toxics come, change and go, proxies are disabled, on both servers."""

from __future__ import annotations

import asyncio
import time

import pytest

EARLY = 0.01


async def echo(reader, writer):
    """An upstream that sends back what it gets."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def round_trip(client):
    """Seconds from a byte to its echo."""
    reader, writer = client
    start = time.monotonic()
    writer.write(b"x")
    await reader.readexactly(1)
    return time.monotonic() - start


async def is_quick(client, below):
    """One of several round trips takes less than that: a busy machine may delay some, a toxic delays all."""
    return min([await round_trip(client) for _ in range(3)]) < below


def test_toxics_come_and_go(play):
    """One connection sees a toxic added, updated and removed."""

    async def scenario(lab):
        client = await lab.connect(await lab.proxy(await lab.upstream(echo)))
        assert await is_quick(client, below=0.08)
        await lab.toxic("latency", latency=80)
        assert await round_trip(client) >= 0.08 - EARLY
        path = "/proxies/p/toxics/latency_downstream"
        await lab.admin("POST", path, {"attributes": {"latency": 160}})
        assert await round_trip(client) >= 0.16 - EARLY
        await lab.admin("DELETE", path)
        assert await is_quick(client, below=0.08)

    play(scenario)


def test_an_update_of_toxicity_acts_at_once(play):
    """A live connection is struck when toxicity becomes 1, and spared when it becomes 0."""

    async def scenario(lab):
        client = await lab.connect(await lab.proxy(await lab.upstream(echo)))
        await lab.toxic("latency", latency=80, toxicity=0)
        assert await is_quick(client, below=0.08)
        path = "/proxies/p/toxics/latency_downstream"
        await lab.admin("POST", path, {"toxicity": 1})
        assert await round_trip(client) >= 0.08 - EARLY
        await lab.admin("POST", path, {"toxicity": 0})
        assert await is_quick(client, below=0.08)

    play(scenario)


def test_removing_latency_frees_what_waits(play):
    """Data that waits in a removed toxic goes on at once, and nothing is lost."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("latency", latency=10_000)
        source, sink = pipe.ends("downstream")
        for chunk in (b"one", b"two", b"three"):
            source.write(chunk)
            await asyncio.sleep(0.02)
        await lab.admin("DELETE", "/proxies/p/toxics/latency_downstream")
        assert await sink.readexactly(11) == b"onetwothree"

    play(scenario)


def test_removing_bandwidth_frees_what_waits(play):
    """A stalled stream goes on where it was when the toxic is removed."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("bandwidth", rate=0)
        source, sink = pipe.ends("downstream")
        data = bytes(range(256)) * 2000
        source.write(data)
        await asyncio.sleep(0.1)
        await lab.admin("DELETE", "/proxies/p/toxics/bandwidth_downstream")
        assert await sink.readexactly(len(data)) == data

    play(scenario)


def test_removing_one_of_three_keeps_the_others(play):
    """The toxic in the middle goes; those around it still work, in order."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("latency", latency=60, name="a")
        await lab.toxic("limit_data", bytes=3, name="b")
        await lab.toxic("latency", latency=60, name="c")
        await lab.admin("DELETE", "/proxies/p/toxics/b")
        source, sink = pipe.ends("downstream")
        start = time.monotonic()
        source.write(b"123456")
        assert await sink.readexactly(6) == b"123456"
        assert time.monotonic() - start >= 0.12 - EARLY

    play(scenario)


def test_reset_frees_live_connections(play):
    """Reset takes the toxics off live connections."""

    async def scenario(lab):
        client = await lab.connect(await lab.proxy(await lab.upstream(echo)))
        await lab.toxic("latency", latency=5000)
        await lab.admin("POST", "/reset")
        assert await round_trip(client) < 1

    play(scenario)


def test_disabling_closes_everything(play):
    """Both ends of every connection are closed, new ones refused; enabling again takes the same address, toxics and all."""

    async def scenario(lab):
        proxy = await lab.proxy()
        pipe = await lab.pipe(proxy)
        await lab.toxic("limit_data", bytes=2)
        await lab.admin("POST", "/proxies/p", {"enabled": False})
        assert await pipe.client_in.read() == b""
        assert await pipe.server_in.read() == b""
        with pytest.raises(ConnectionError):
            await lab.connect(proxy)
        after = (await lab.admin("POST", "/proxies/p", {"enabled": True})).json()
        assert after["listen"] == proxy["listen"]
        assert [toxic["type"] for toxic in after["toxics"]] == ["limit_data"]
        pipe = await lab.pipe(proxy)
        pipe.server_out.write(b"1234")
        assert await pipe.client_in.read() == b"12"

    play(scenario)


def test_deleting_closes_everything(play):
    """A deleted proxy leaves no connection and no listener."""

    async def scenario(lab):
        proxy = await lab.proxy()
        pipe = await lab.pipe(proxy)
        await lab.admin("DELETE", "/proxies/p")
        assert await pipe.client_in.read() == b""
        assert await pipe.server_in.read() == b""
        with pytest.raises(ConnectionError):
            await lab.connect(proxy)

    play(scenario)


def test_a_reader_that_stops_does_not_lose_data(play):
    """While the client does not read, the source is held back; when it reads again, everything is there."""

    async def scenario(lab):
        proxy = await lab.proxy()
        pipe = await lab.pipe(proxy)
        pipe.client_out.transport.pause_reading()
        size = 16 * 1024 * 1024
        sending = asyncio.ensure_future(_send(pipe.server_out, size))
        await asyncio.sleep(0.1)
        assert not sending.done()
        pipe.client_out.transport.resume_reading()
        assert len(await pipe.client_in.read()) == size
        await sending

    play(scenario)


async def _send(writer, size):
    writer.write(b"x" * size)
    await writer.drain()
    writer.close()
