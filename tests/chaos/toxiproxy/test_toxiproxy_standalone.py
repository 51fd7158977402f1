"""The embedded server alone, as the command line starts it."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest

from chaos.toxiproxy.standalone import StartError, run


async def started(host, port, config):
    """The running task and what it announced, once it announced all that it would."""
    said = []
    ready = asyncio.Event()

    def announce(line):
        said.append(line)
        ready.set()

    task = asyncio.create_task(run(host, port, 1, config, announce))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    await asyncio.sleep(0.1)
    return task, said


def test_it_serves_until_cancelled(tmp_path):
    """It announces its address and its proxies, answers, and gives the ports back when cancelled."""
    config = tmp_path / "proxies.json"
    config.write_text(json.dumps([{"name": "store", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"}]))

    async def scenario():
        task, said = await started("127.0.0.1", 0, config)
        url = said[0].split()[-1]
        async with httpx.AsyncClient(trust_env=False) as http:
            proxies = (await http.get(f"{url}/proxies")).json()
        assert said[1] == f"proxy store: {proxies['store']['listen']} -> 127.0.0.1:1"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for address in (url.rpartition("/")[2], proxies["store"]["listen"]):
            host, _, port = address.rpartition(":")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, int(port))

    asyncio.run(scenario())


def test_a_taken_port_is_a_clear_error():
    """It names the address and the way out."""

    async def scenario(port):
        with pytest.raises(StartError, match=rf"127.0.0.1:{port}: Address already in use.*another port"):
            await started("127.0.0.1", port, None)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asyncio.run(scenario(taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("nonsense", "bad request body"),
        ("{}", "a list of proxies was expected, not an object"),
        ('[{"name": "store"}]', "missing required field: upstream at proxy 1"),
        ('[{"name": "store", "upstream": "a:1", "listen": "nowhere"}]', "missing port"),
    ],
)
def test_a_wrong_configuration_is_a_clear_error(tmp_path, text, reason):
    """It names the file and the reason, and leaves nothing running."""
    config = tmp_path / "proxies.json"
    if text is not None:
        config.write_text(text)

    async def scenario():
        with pytest.raises(StartError, match=reason) as caught:
            await run("127.0.0.1", 0, 1, config, lambda line: None)
        assert str(config) in str(caught.value)

    asyncio.run(scenario())
