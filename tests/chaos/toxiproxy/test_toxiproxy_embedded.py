"""The embedded server as a part of a process: it gives everything back, and no byte is lost while toxics come and go."""

from __future__ import annotations

import asyncio
import random
import socket

import psutil
import pytest

from chaos.toxiproxy.client import Toxiproxy
from chaos.toxiproxy.embedded import EmbeddedToxiproxy
from chaos.toxiproxy.server import ProxyCollection

HARMLESS = [
    ("latency", {"latency": 5, "jitter": 4}),
    ("slicer", {"average_size": 1000, "size_variation": 500, "delay": 10}),
    ("bandwidth", {"rate": 5000}),
    ("bandwidth", {"rate": 0}),
    ("slow_close", {"delay": 10}),
    ("reset_peer", {"timeout": 60_000}),
]


async def echo(reader, writer):
    """An upstream that sends back what it gets."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


def test_stopping_gives_everything_back():
    """Listeners, live connections and tasks are gone after stop(), which may be called twice."""

    async def scenario():
        upstream = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        descriptors, tasks = psutil.Process().num_fds(), len(asyncio.all_tasks())
        server = EmbeddedToxiproxy(seed=1)
        await server.start()
        async with Toxiproxy(server.url) as client:
            proxy = await client.create("p", address)
            await client.add_toxic("p", "latency", {"latency": 60_000})
        pipes = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(5)]
        for _, writer in pipes:
            writer.write(b"x")
        await asyncio.sleep(0.05)
        await server.stop()
        await server.stop()
        for reader, writer in pipes:
            assert await reader.read() == b""
            writer.transport.abort()
        for _ in range(50):
            await asyncio.sleep(0.02)
            if (psutil.Process().num_fds(), len(asyncio.all_tasks())) == (descriptors, tasks):
                break
        assert len(asyncio.all_tasks()) == tasks
        assert psutil.Process().num_fds() == descriptors
        upstream.close()

    asyncio.run(scenario())


def test_a_taken_port_is_an_os_error():
    """start() on a taken port raises, and leaves nothing behind."""

    async def scenario(port):
        server = EmbeddedToxiproxy(seed=1)
        with pytest.raises(OSError, match="in use"):
            await server.start(port=port)
        await server.stop()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asyncio.run(scenario(taken.getsockname()[1]))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_byte_is_lost_while_toxics_come_and_go(seed):
    """Under traffic, harmless toxics are added, updated and removed at random; every echo is complete, nothing stumbles."""

    async def scenario():
        dice = random.Random(seed)
        stumbled = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: stumbled.append(context))
        upstream = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        collection = ProxyCollection(seed)
        proxy = await collection.create({"name": "p", "upstream": address, "listen": "127.0.0.1:0"})
        calm = asyncio.Event()

        async def talk():
            reader, writer = await asyncio.open_connection(*proxy.listen.split(":"))
            while not calm.is_set():
                data = dice.randbytes(dice.choice([1, 100, 5_000, 100_000]))
                writer.write(data)
                assert await asyncio.wait_for(reader.readexactly(len(data)), 20) == data
            writer.transport.abort()

        talks = [asyncio.create_task(talk()) for _ in range(4)]
        for number in range(80):
            names = [toxic.name for toxic in proxy.toxics]
            if names and dice.random() < 0.5:
                proxy.remove_toxic(dice.choice(names))
            elif names and dice.random() < 0.3:
                proxy.update_toxic(dice.choice(names), {"toxicity": dice.choice([0, 0.3, 1])})
            elif len(names) < 4:
                type_, attributes = dice.choice(HARMLESS)
                about = {"name": f"t{number}", "stream": dice.choice(["upstream", "downstream"])}
                proxy.add_toxic({"type": type_, "attributes": attributes, "toxicity": dice.choice([0.5, 1]), **about})
            await asyncio.sleep(dice.random() * 0.015)
        calm.set()
        for toxic in proxy.toxics:
            proxy.remove_toxic(toxic.name)
        await asyncio.gather(*talks)
        await asyncio.sleep(0.05)
        assert not proxy.connections
        await collection.close()
        upstream.close()
        await asyncio.sleep(0.02)
        assert not stumbled

    asyncio.run(scenario())
