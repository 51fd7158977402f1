"""What a coordinator sees of a connection that fails: whether its request can have arrived, and how often it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from coordinators.common.http import Answer, Http, NoAnswer, NotSent, timed_out

Served = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nx-Seen: yes\r\n\r\n{}"


def ask(served: Served, method: str = "POST", times: int = 1, timeout: float = 5.0) -> tuple[list[Answer | NoAnswer], list[bytes]]:
    """Ask a server so often, whose `served` is called with the number of each request; answers and errors, and the requests."""

    async def story() -> tuple[list[Answer | NoAnswer], list[bytes]]:
        seen: list[bytes] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
                    seen.append(head + await reader.readexactly(length))
                    await served(len(seen), writer)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a?b=c%20d"
        http, found = Http(), list[Answer | NoAnswer]()
        try:
            for _ in range(times):
                try:
                    data = {"n": 1} if method == "POST" else None
                    found.append(await http.request(method, url, timeout=timeout, data=data, headers={"x-key": "k"}))
                except NoAnswer as error:
                    found.append(error)
        finally:
            await http.aclose()
            server.close()
        return found, seen

    return asyncio.run(story())


async def answered(number: int, writer: asyncio.StreamWriter) -> None:
    """As it should be."""
    writer.write(OK)


async def cut(number: int, writer: asyncio.StreamWriter) -> None:
    """The first request is answered, and no other: its connection ends."""
    if number == 1:
        writer.write(OK)
    else:
        writer.close()


async def half(number: int, writer: asyncio.StreamWriter) -> None:
    """An answer that ends in its middle."""
    writer.write(OK[:-1])
    writer.close()


async def silent(number: int, writer: asyncio.StreamWriter) -> None:
    """Nothing."""


def test_an_answer_comes_whole_over_one_connection() -> None:
    """With its headers whatever their case, of a request that is what was asked for."""
    found, seen = ask(answered, times=2)
    assert [a.status for a in found if isinstance(a, Answer)] == [200, 200]
    assert isinstance(found[0], Answer)
    assert (found[0].body, found[0].headers["X-SEEN"]) == (b"{}", "yes")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /a?b=c%20d HTTP/1.1"
    assert body == b'{"n":1}'
    assert b"accept-encoding" not in head.lower()


@pytest.mark.parametrize("served", [half, silent])
def test_a_lost_answer_is_no_request_that_was_not_sent(served: Served) -> None:
    """It may have had its effect; one that was late is told from one that was cut."""
    (error,), seen = ask(served, timeout=0.2)
    assert isinstance(error, NoAnswer)
    assert not isinstance(error, NotSent)
    assert timed_out(error) is (served is silent)
    assert len(seen) == 1


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("GET", 2)])
def test_a_kept_connection_that_ends_is_a_lost_answer(method: str, times: int) -> None:
    """What may have an effect is sent once; what only asks, once more."""
    (_, error), seen = ask(cut, method, times=2)
    assert type(error) is NoAnswer
    assert len(seen) == 1 + times


def test_what_never_left_is_not_sent() -> None:
    """Nobody listens there."""

    async def story() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        http = Http()
        with pytest.raises(NotSent, match="ClientConnectorError"):
            await http.request("POST", f"http://127.0.0.1:{port}/", timeout=1.0)
        await http.aclose()

    asyncio.run(story())
