"""What each toxic does to the bytes on the wire, in both directions, on the embedded server and on the real one.

Lower bounds of times are firm (a timer may be a few milliseconds early across two clocks), upper bounds generous.
"""

from __future__ import annotations

import asyncio
import time

import pytest

EARLY = 0.01


def other(stream):
    """The opposite direction."""
    return "downstream" if stream == "upstream" else "upstream"


async def quiet(reader, seconds):
    """Nothing arrives for that long, not even the end."""
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(reader.read(1), seconds)


def test_without_toxics_bytes_pass(play_both):
    """A megabyte goes through unchanged, and the close follows it."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        source, sink = pipe.ends(stream)
        data = bytes(range(256)) * 4096
        source.write(data)
        source.close()
        assert await sink.read() == data

    play_both(scenario)


def test_what_comes_early_is_kept(play):
    """Bytes that a client sends at once, before the upstream can be there, arrive; so does the close right after them."""

    async def scenario(lab):
        got = asyncio.get_running_loop().create_future()

        async def collect(reader, writer):
            got.set_result(await reader.read())

        _, writer = await lab.connect(await lab.proxy(await lab.upstream(collect)))
        writer.write(b"early")
        writer.close()
        assert await got == b"early"

    play(scenario)


def test_a_refused_upstream_is_connect_then_eof(play):
    """The client of a proxy without an upstream connects, and sees the end."""

    async def scenario(lab):
        reader, writer = await lab.connect(await lab.proxy("127.0.0.1:1"))
        assert await reader.read() == b""
        writer.close()

    play(scenario)


def test_there_is_no_half_close(play_both):
    """The end of one direction closes the other, too."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        source, sink = pipe.ends(stream)
        _, back = pipe.ends(other(stream))
        source.write_eof()
        assert await sink.read() == b""
        assert await back.read() == b""

    play_both(scenario)


def test_latency_delays_each_chunk(play_both):
    """A chunk leaves that long after its receipt; chunks wait side by side, and the other direction does not wait."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("latency", stream=stream, latency=100)
        source, sink = pipe.ends(stream)
        start = time.monotonic()
        for number in range(10):
            source.write(b"%d" % number)
            await asyncio.sleep(0.01)
        assert await sink.readexactly(1) == b"0"
        assert time.monotonic() - start >= 0.1 - EARLY
        assert await sink.readexactly(9) == b"123456789"
        assert 0.19 - EARLY <= time.monotonic() - start < 0.9  # one after the other, they would take a second
        source, sink = pipe.ends(other(stream))
        start = time.monotonic()
        for _ in range(10):
            source.write(b"c")
            assert await sink.readexactly(1) == b"c"
        assert time.monotonic() - start < 0.9

    play_both(scenario)


def test_latency_keeps_order_under_jitter(play):
    """Jitter varies the delay, and chunks overtake nobody."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("latency", latency=30, jitter=30)
        source, sink = pipe.ends("downstream")
        sent = b""
        for number in range(20):
            chunk = b"%02d" % number
            source.write(chunk)
            sent += chunk
            await asyncio.sleep(0.002)
        assert await sink.readexactly(len(sent)) == sent

    play(scenario)


def test_latency_does_not_delay_connect_and_close(play_both):
    """A connection is made, and a bare close passes, at once."""

    async def scenario(lab, stream):
        proxy = await lab.proxy()
        await lab.toxic("latency", stream=stream, latency=2000)
        start = time.monotonic()
        pipe = await lab.pipe(proxy)
        source, sink = pipe.ends(stream)
        source.close()
        assert await sink.read() == b""
        assert time.monotonic() - start < 1.5

    play_both(scenario)


def test_latencies_add_up(play_both):
    """Two toxics of a type, under two names, both apply; data under way is delivered before the close."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("latency", stream=stream, latency=50, name="one")
        await lab.toxic("latency", stream=stream, latency=70, name="two")
        source, sink = pipe.ends(stream)
        start = time.monotonic()
        source.write(b"ab")
        source.close()
        assert await sink.read() == b"ab"
        assert time.monotonic() - start >= 0.12 - EARLY

    play_both(scenario)


def test_bandwidth(play_both):
    """20 KB at 100 KB/s take 0.2 s, in pieces."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("bandwidth", stream=stream, rate=100)
        source, sink = pipe.ends(stream)
        start = time.monotonic()
        source.write(b"x" * 20_000)
        first = await sink.read(20_000)
        assert 0 < len(first) < 20_000
        await sink.readexactly(20_000 - len(first))
        assert time.monotonic() - start >= 0.2 - 2 * EARLY

    play_both(scenario)


def test_bandwidth_zero_passes_nothing(play_both):
    """With rate 0 no byte arrives; the connection stays."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("bandwidth", stream=stream, rate=0)
        source, sink = pipe.ends(stream)
        source.write(b"x")
        await quiet(sink, 0.15)

    play_both(scenario)


def test_slow_close(play_both):
    """Data passes at once; the close of that direction comes later."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("slow_close", stream=stream, delay=150)
        source, sink = pipe.ends(stream)
        source.write(b"data")
        assert await sink.readexactly(4) == b"data"
        start = time.monotonic()
        source.close()
        assert await sink.read() == b""
        assert time.monotonic() - start >= 0.15 - EARLY

    play_both(scenario)


def test_timeout_drops_data_and_closes(play_both):
    """Data of that direction is lost, the other flows, and some time after the last chunk both ends are closed."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("timeout", stream=stream, timeout=120)
        source, sink = pipe.ends(stream)
        back_source, back_sink = pipe.ends(other(stream))
        back_source.write(b"back")
        assert await back_sink.readexactly(4) == b"back"
        await asyncio.sleep(0.05)
        start = time.monotonic()
        source.write(b"lost")
        assert await sink.read() == b""
        assert time.monotonic() - start >= 0.12 - EARLY
        assert await back_sink.read() == b""

    play_both(scenario)


def test_timeout_zero_never_closes_until_removed(play_both):
    """With timeout 0 data is lost and the connection stays, until the toxic is removed: then it closes."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("timeout", stream=stream, timeout=0)
        source, sink = pipe.ends(stream)
        source.write(b"lost")
        await quiet(sink, 0.15)
        await lab.admin("DELETE", f"/proxies/{lab.name}/toxics/timeout_{stream}")
        assert await sink.read() == b""

    play_both(scenario)


def test_timeout_lets_a_close_pass(play_both):
    """A close is not held back by a timeout of 0."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("timeout", stream=stream, timeout=0)
        source, sink = pipe.ends(stream)
        source.close()
        assert await sink.read() == b""

    play_both(scenario)


def test_slicer(play_both):
    """Data arrives in small slices, some time apart, complete and in order."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("slicer", stream=stream, average_size=50, size_variation=10, delay=10_000)
        source, sink = pipe.ends(stream)
        data = bytes(range(200))
        start = time.monotonic()
        source.write(data)
        first = await sink.read(200)
        assert 0 < len(first) < 200
        assert first + await sink.readexactly(200 - len(first)) == data
        assert time.monotonic() - start >= 0.02

    play_both(scenario)


def test_limit_data(play_both):
    """After so many bytes, in however many chunks, the connection closes."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("limit_data", stream=stream, bytes=10)
        source, sink = pipe.ends(stream)
        source.write(b"123456")
        assert await sink.readexactly(6) == b"123456"
        source.write(b"7890abcdef")
        assert await sink.read() == b"7890"

    play_both(scenario)


def test_limit_data_counts_from_its_addition(play_both):
    """What passed before the toxic was added does not count; reaching the limit exactly closes."""

    async def scenario(lab, stream):
        pipe = await lab.pipe(await lab.proxy())
        source, sink = pipe.ends(stream)
        source.write(b"before")
        assert await sink.readexactly(6) == b"before"
        await lab.toxic("limit_data", stream=stream, bytes=4)
        source.write(b"1234")
        assert await sink.read() == b"1234"

    play_both(scenario)


def test_reset_peer(play_both):
    """After the first chunk, and the timeout, both ends are reset; the chunk is lost."""

    async def scenario(lab, stream):
        proxy = await lab.proxy()
        await lab.toxic("reset_peer", stream=stream, timeout=80)
        pipe = await lab.pipe(proxy)
        source, _ = pipe.ends(stream)
        start = time.monotonic()
        source.write(b"lost")
        with pytest.raises(ConnectionResetError):
            await pipe.client_in.read()
        assert time.monotonic() - start >= 0.08 - EARLY
        with pytest.raises(ConnectionResetError):
            await pipe.server_in.read()

    play_both(scenario)


def test_toxicity_zero_spares_all(play_both):
    """A toxic with toxicity 0 is there and touches nothing."""

    async def scenario(lab, stream):
        proxy = await lab.proxy()
        await lab.toxic("timeout", stream=stream, timeout=0, toxicity=0)
        pipe = await lab.pipe(proxy)
        source, sink = pipe.ends(stream)
        source.write(b"data")
        assert await sink.readexactly(4) == b"data"

    play_both(scenario)


def test_toxicity_is_drawn_per_connection(play):
    """With toxicity 0.5 some connections are struck and some are not, each for all that it carries."""

    async def scenario(lab):
        proxy = await lab.proxy()
        await lab.toxic("latency", latency=250, toxicity=0.5)
        pipes = [await lab.pipe(proxy) for _ in range(24)]

        async def late(pipe):
            source, sink = pipe.ends("downstream")
            source.write(b"a")
            try:
                await asyncio.wait_for(sink.readexactly(1), 0.15)
            except TimeoutError:
                return True
            return False

        struck = sum(await asyncio.gather(*map(late, pipes)))
        assert 1 <= struck <= 23

    play(scenario)


def test_toxics_apply_in_order(play):
    """A limit behind a timeout sees no data; the toxic that was added first works first."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("limit_data", bytes=4)
        await lab.toxic("latency", latency=100)
        source, sink = pipe.ends("downstream")
        start = time.monotonic()
        source.write(b"123456")
        assert await sink.read() == b"1234"
        assert time.monotonic() - start >= 0.1 - EARLY

    play(scenario)
