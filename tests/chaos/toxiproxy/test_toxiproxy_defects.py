"""What goes wrong in the real server must not go wrong in the embedded one. (On the real one most of these hang or kill it.)"""

from __future__ import annotations

import asyncio
import socket

import pytest

from chaos.toxiproxy.server import ProxyCollection


def test_a_client_that_does_not_read_blocks_no_admin_call(play_embedded):
    """With a stuck client, adding and removing toxics, listing and resetting answer, and other clients are served."""

    async def scenario(lab):
        proxy = await lab.proxy()
        stuck = await lab.pipe(proxy)
        stuck.client_out.transport.pause_reading()
        stuck.server_out.write(b"x" * 16 * 1024 * 1024)
        await asyncio.sleep(0.1)
        await lab.toxic("latency", latency=1)
        assert (await lab.admin("GET", "/proxies")).status_code == 200
        assert (await lab.admin("DELETE", "/proxies/p/toxics/latency_downstream")).status_code == 204
        assert (await lab.admin("POST", "/reset")).status_code == 204
        pipe = await lab.pipe(proxy)
        pipe.server_out.write(b"ok")
        assert await pipe.client_in.readexactly(2) == b"ok"
        assert (await lab.admin("DELETE", "/proxies/p")).status_code == 204

    play_embedded(scenario)


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({}, "average_size"),
        ({"average_size": 0}, "average_size"),
        ({"average_size": 10, "size_variation": 10}, "size_variation"),
        ({"average_size": -1}, "average_size"),
    ],
)
def test_slicer_needs_a_size(play_embedded, attributes, named):
    """A slicer that could not make progress is refused, with the attribute's name; the server lives on."""

    async def scenario(lab):
        await lab.proxy()
        answer = await lab.admin("POST", "/proxies/p/toxics", {"type": "slicer", "attributes": attributes})
        assert answer.status_code == 400
        assert named in answer.json()["error"]
        await lab.toxic("slicer", average_size=5)
        answer = await lab.admin("POST", "/proxies/p/toxics/slicer_downstream", {"attributes": {"average_size": 0}})
        assert answer.status_code == 400
        assert (await lab.admin("GET", "/proxies/p/toxics")).json()[0]["attributes"]["average_size"] == 5

    play_embedded(scenario)


def test_slicing_to_single_bytes_does_not_stall_the_server(play_embedded):
    """A large chunk in slices of a byte goes through while the admin API answers."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("slicer", average_size=1)
        data = bytes(range(256)) * 100
        pipe.server_out.write(data)
        assert (await lab.admin("GET", "/version")).status_code == 200
        assert await pipe.client_in.readexactly(len(data)) == data

    play_embedded(scenario)


def test_negative_attributes_are_refused(play_embedded):
    """No attribute of any toxic may be negative."""

    async def scenario(lab):
        await lab.proxy()
        answer = await lab.admin("POST", "/proxies/p/toxics", {"type": "bandwidth", "attributes": {"rate": -1}})
        assert answer.status_code == 400
        assert "rate" in answer.json()["error"]

    play_embedded(scenario)


def test_a_hanging_dial_stalls_nobody_else():
    """While the dial for one client hangs, the next client is served."""

    async def scenario():
        loop = asyncio.get_running_loop()
        dial, hanging = loop.create_connection, asyncio.Event()

        async def slow_at_first(*args, **kwargs):
            if not hanging.is_set():
                hanging.set()
                await asyncio.Event().wait()
            return await dial(*args, **kwargs)

        async def hello(reader, writer):
            writer.write(b"hello")
            writer.close()

        upstream = await asyncio.start_server(hello, "127.0.0.1", 0)
        collection = ProxyCollection(seed=1)
        address = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        proxy = await collection.create({"name": "p", "upstream": address, "listen": "127.0.0.1:0"})
        host, port = proxy.listen.split(":")
        first = socket.create_connection((host, int(port)))
        loop.create_connection = slow_at_first  # type: ignore[method-assign]
        try:
            await hanging.wait()
            second = socket.create_connection((host, int(port)))
            second.setblocking(False)
            assert await asyncio.wait_for(loop.sock_recv(second, 5), 5) == b"hello"
        finally:
            del loop.create_connection
        await collection.close()
        first.close()
        second.close()
        upstream.close()

    asyncio.run(scenario())


def test_an_update_to_a_bad_address_is_rolled_back(play_embedded):
    """A proxy that cannot move stays where it was, enabled, with its toxics."""

    async def scenario(lab):
        proxy = await lab.proxy()
        await lab.toxic("limit_data", bytes=2)
        other = await lab.proxy(name="other")
        for listen in (other["listen"], "192.0.2.1:1", "no port", "127.0.0.1:99999"):
            answer = await lab.admin("POST", "/proxies/p", {"listen": listen, "upstream": "127.0.0.1:9"})
            assert answer.status_code == 500, listen
            after = (await lab.admin("GET", "/proxies/p")).json()
            assert {**after, "toxics": []} == proxy
            assert len(after["toxics"]) == 1
        pipe = await lab.pipe(proxy)
        pipe.server_out.write(b"1234")
        assert await pipe.client_in.read() == b"12"

    play_embedded(scenario)


def test_a_replacement_that_cannot_listen_keeps_the_old_proxy(play_embedded):
    """Populate with a taken address says so, and the proxy that was to be replaced still listens."""

    async def scenario(lab):
        proxy = await lab.proxy()
        other = await lab.proxy(name="other")
        answer = await lab.admin("POST", "/populate", [{"name": "p", "upstream": "a:1", "listen": other["listen"]}])
        assert (answer.status_code, answer.json()["proxies"]) == (500, [])
        assert (await lab.admin("GET", "/proxies/p")).json() == proxy

    play_embedded(scenario)


@pytest.mark.parametrize("toxicity", ["7", "-0.1", "1.01", "NaN"])
def test_toxicity_is_a_share(play_embedded, toxicity):
    """Toxicity outside 0..1 is refused, when a toxic is added and when it is updated."""

    async def scenario(lab):
        await lab.proxy()
        await lab.toxic("latency", name="before")
        body = f'{{"type": "latency", "toxicity": {toxicity}}}'.encode()
        for path in ("/proxies/p/toxics", "/proxies/p/toxics/before"):
            answer = await lab.admin("POST", path, content=body)
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("bad request body: ")
        assert [toxic["toxicity"] for toxic in (await lab.admin("GET", "/proxies/p/toxics")).json()] == [1.0]

    play_embedded(scenario)


def test_a_spared_connection_is_not_reset(play_embedded):
    """With reset_peer at toxicity 0, a close is a close and no reset."""

    async def scenario(lab):
        proxy = await lab.proxy()
        await lab.toxic("reset_peer", timeout=0, toxicity=0)
        pipe = await lab.pipe(proxy)
        pipe.server_out.write(b"data")
        pipe.server_out.close()
        assert await pipe.client_in.read() == b"data"

    play_embedded(scenario)


def test_a_live_connection_is_reset(play_embedded):
    """reset_peer sends RST also on connections that were there before it."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("reset_peer", timeout=0)
        pipe.server_out.write(b"data")
        with pytest.raises(ConnectionResetError):
            await pipe.client_in.read()
        with pytest.raises(ConnectionResetError):
            await pipe.server_in.read()

    play_embedded(scenario)


def test_removing_reset_peer_in_time_loses_nothing(play_embedded):
    """What waited for a reset goes on when the toxic is removed before."""

    async def scenario(lab):
        pipe = await lab.pipe(await lab.proxy())
        await lab.toxic("reset_peer", timeout=60_000)
        pipe.server_out.write(b"data")
        await asyncio.sleep(0.05)
        await lab.admin("DELETE", "/proxies/p/toxics/reset_peer_downstream")
        assert await pipe.client_in.readexactly(4) == b"data"

    play_embedded(scenario)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"name": "\xff"}', b'"text"', b"17"])
def test_garbage_never_breaks_the_server(play_embedded, body):
    """Whatever a body is, the answer is 400."""

    async def scenario(lab):
        await lab.proxy()
        for path in ("/proxies", "/populate", "/proxies/p", "/proxies/p/toxics"):
            assert (await lab.admin("POST", path, content=body)).status_code == 400

    play_embedded(scenario)
