"""A Redis that is not there in every way: each is an outage of the store, on either event loop, and never another error."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordinators.common.log import Log
from coordinators.common.redis import RedisClient
from coordinators.common.stores import Address, StoreUnavailable
from coordinators.hardened.lease import Lease

uvloop = pytest.importorskip("uvloop")

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
AT_ONCE, EACH = 30, 10


def close(connection: socket.socket) -> None:
    """The end of the connection, in good order."""
    connection.close()


def reset(connection: socket.socket) -> None:
    """The end of the connection by a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def silence(connection: socket.socket) -> None:
    """Nothing."""


@pytest.fixture
def served() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a server that does so with each connection, in a thread of its own; its address."""
    with contextlib.ExitStack() as stack:

        def start(does: Callable[[socket.socket], None]) -> str:
            listening = socket.create_server(("127.0.0.1", 0), backlog=512)
            accepted: list[socket.socket] = []

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        accepted.append(listening.accept()[0])
                        does(accepted[-1])

            def stop() -> None:
                listening.shutdown(socket.SHUT_RDWR)
                listening.close()
                thread.join()
                for connection in accepted:
                    connection.close()

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(stop)
            return f"redis://127.0.0.1:{listening.getsockname()[1]}/0"

        yield start


@pytest.mark.parametrize("does", [close, reset, silence])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_does_not_answer_is_unavailable(served: Any, loop: str, does: Callable[[socket.socket], None]) -> None:
    """As a proxy does whose server is down: it accepts, and the connection ends before, while or after something is written.

    The loop is a busy one, so that the end of a connection is often known before anything was written to it.
    """

    async def story() -> int:
        client = RedisClient(Address(served(does)), {}, timeout=0.1)
        unavailable = 0

        async def ask() -> None:
            nonlocal unavailable
            for _ in range(1 if does is silence else EACH):
                with pytest.raises(StoreUnavailable) as caught:
                    await client.read("GET", "key")
                unavailable += bool(str(caught.value))

        async def be_busy() -> None:
            while True:
                time.sleep(0.003)
                await asyncio.sleep(0)

        busy = asyncio.create_task(be_busy())
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        busy.cancel()
        await client.close()
        return unavailable

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(story()) == (AT_ONCE if does is silence else AT_ONCE * EACH)


def test_a_lease_outlives_an_error_that_nobody_expected() -> None:
    """It is logged, and the owner goes on beating: otherwise nobody takes over and nothing is taken up, for ever."""

    class Store:
        beaten = 0

        async def register(self, instance_id: str) -> str:
            return f"{instance_id}#1"

        async def beat(self, owner: str) -> None:
            self.beaten += 1
            if self.beaten == 1:
                raise KeyError("beats")

        async def beats(self) -> dict[str | None, int | None]:
            return {}

        async def owned_by(self, owner: str) -> frozenset[str]:
            return frozenset()

    async def story() -> None:
        store, lines = Store(), list[str]()
        lease = Lease(store, Log(lambda: 0.0, lines.append), "coordinator-1", 0.04, lambda turn: None, lambda turn_id: True)  # type: ignore[arg-type]
        keeping = asyncio.create_task(lease.keep())
        async with asyncio.timeout(10):
            while store.beaten < 3:
                await asyncio.sleep(0.005)
        keeping.cancel()
        assert "lease: KeyError: 'beats'" in "".join(map(str, lines))

    asyncio.run(story())
