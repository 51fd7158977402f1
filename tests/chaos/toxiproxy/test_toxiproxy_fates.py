"""Same seed, same fates: dice are drawn per proxy, connection, direction and toxic, and from nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from chaos.toxiproxy.server import ProxyCollection

CODE = """
import asyncio
from {module} import fates
print(asyncio.run(fates(3)))
"""


async def fates(seed, name="p", connections=40, detour=False):
    """Which of the first connections through a proxy a toxic with toxicity 0.5 strikes, as a string of 0 and 1."""
    collection = ProxyCollection(seed)

    async def hello(reader, writer):
        try:
            writer.write(b"1" * 8)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    upstream = await asyncio.start_server(hello, "127.0.0.1", 0)
    address = f"127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    proxy = await collection.create({"name": name, "upstream": address, "listen": "127.0.0.1:0"})
    if detour:
        other = proxy.add_toxic({"type": "latency", "toxicity": 0.5, "attributes": {"jitter": 1}})
    proxy.add_toxic({"type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 4}})
    if detour:
        proxy.update_toxic(other.name, {"toxicity": 0.9})
    seen = ""
    host, port = proxy.listen.split(":")
    for _ in range(connections):
        reader, writer = await asyncio.open_connection(host, int(port))
        await reader.readexactly(4)
        seen += "0" if await reader.read(1) else "1"
        writer.transport.abort()
    await collection.close()
    upstream.close()
    await asyncio.sleep(0.02)
    return seen


def test_the_same_seed_strikes_the_same_connections():
    """Two servers with one seed agree on every connection, also when another toxic comes and changes in between."""
    first = asyncio.run(fates(seed=3))
    assert first == asyncio.run(fates(seed=3))
    assert first == asyncio.run(fates(seed=3, detour=True))
    assert set(first) == {"0", "1"}


def test_another_seed_or_proxy_has_other_fates():
    """Seed and name of the proxy both count."""
    first = asyncio.run(fates(seed=3))
    assert first != asyncio.run(fates(seed=4))
    assert first != asyncio.run(fates(seed=3, name="q"))


def test_fates_do_not_depend_on_the_hash_seed():
    """Processes with different PYTHONHASHSEED agree."""
    code = CODE.format(module=__name__.rpartition(".")[2])
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert seen == {asyncio.run(fates(seed=3))}


def test_a_higher_toxicity_strikes_the_same_connections_and_more():
    """The draw of a connection stays when toxicity changes, so that fates nest."""

    async def struck():
        collection = ProxyCollection(seed=5)
        proxy = await collection.create({"name": "p", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"})
        proxy.add_toxic({"type": "latency", "toxicity": 0})
        links = [proxy._accept().into for _ in range(50)]
        sets = []
        for toxicity in (0.1, 0.5, 0.9, 0.5):
            proxy.update_toxic("latency_downstream", {"toxicity": toxicity})
            sets.append({number for number, link in enumerate(links) if link._stages})
        proxy.connections.clear()
        await collection.close()
        return sets

    low, middle, high, again = asyncio.run(struck())
    assert low < middle < high
    assert again == middle
