"""The virtual-time loop: the order of stock asyncio, time that only jumps, and errors instead of hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from chaos.simulation.errors import Deadlock, Exhausted, Refused
from chaos.simulation.loop import VirtualLoop


def virtual(work: Coroutine[Any, Any, Any], **limits: Any) -> Any:
    return VirtualLoop(**limits).run(work)  # type: ignore[abstract]


async def interleaved() -> list[str]:
    """Tasks, events, queues, timers of one moment and nested call_soon, and in which order they ran."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    event, queue = asyncio.Event(), asyncio.Queue[str]()

    async def wait(name: str) -> None:
        await event.wait()
        seen.append(name)
        loop.call_soon(seen.append, f"{name} later")
        await asyncio.sleep(0)
        seen.append(f"{name} again")

    async def consume() -> None:
        for _ in range(3):
            seen.append(await queue.get())

    tasks = [asyncio.create_task(wait(name)) for name in "abc"] + [asyncio.create_task(consume())]
    loop.call_later(0.02, seen.append, "timer 2")
    loop.call_later(0.01, event.set)
    loop.call_later(0.01, queue.put_nowait, "item 1")
    loop.call_at(loop.time() + 0.01, seen.append, "timer 1")
    loop.call_later(0, seen.append, "at once")
    loop.call_soon(seen.append, "soon")
    for number in (2, 3):
        await asyncio.sleep(0)
        queue.put_nowait(f"item {number}")
    await asyncio.gather(*tasks)
    await asyncio.sleep(0.02)
    return seen


def test_the_order_is_that_of_stock_asyncio() -> None:
    """The same program runs in the same order on both loops."""
    assert virtual(interleaved()) == asyncio.run(interleaved())


def test_timers_of_one_moment_run_in_the_order_in_which_they_were_set() -> None:
    """Equal deadlines are told apart by a number, not by luck."""
    async def work() -> list[int]:
        seen: list[int] = []
        for number in range(50):
            asyncio.get_running_loop().call_at(7.0, seen.append, number)
        await asyncio.sleep(7.0)
        return seen

    assert virtual(work()) == list(range(50))


def test_a_day_takes_no_time() -> None:
    """Time jumps to the next timer, and timeouts are kept on the way."""
    async def work() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert virtual(work()) == 90_000.0
    assert time.monotonic() - began < 5


def test_sets_of_tasks_iterate_in_an_order_that_the_process_does_not_decide() -> None:
    """Tasks hash by number; stock tasks hash by address."""
    async def work() -> list[int]:
        tasks = {asyncio.create_task(asyncio.sleep(1)) for _ in range(20)}
        return [hash(task) for task in tasks]

    assert virtual(work()) == virtual(work())


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    """Nothing ready and no timer: asyncio would wait for ever."""
    async def forgotten() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        await asyncio.gather(forgotten(), forgotten())

    with pytest.raises(Deadlock, match=r"(?s)deadlock at 0.000 s.*forgotten at .*test_simulation_loop.py"):
        virtual(work())


def test_time_and_steps_have_an_end() -> None:
    """What goes on for ever is ended, and so is what spins without a moment passing."""
    async def ticks() -> None:
        while True:
            await asyncio.sleep(1)

    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Exhausted, match="more than 100 s of virtual time"):
        virtual(ticks(), max_time=100)
    with pytest.raises(Exhausted, match="more than 1000 steps"):
        virtual(ticks(), max_steps=1000)
    with pytest.raises(Exhausted, match=r"somebody spins without waiting; next was the harness: .*spins"):
        virtual(spins())


REAL: dict[str, Callable[[asyncio.AbstractEventLoop], Any]] = {
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 9),
    "create_server": lambda loop: loop.create_server(asyncio.Protocol, "127.0.0.1", 9),
    "getaddrinfo": lambda loop: loop.getaddrinfo("localhost", 80),
    "subprocess_exec": lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "sock_recv": lambda loop: loop.sock_recv(None, 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", REAL)
def test_what_is_real_is_refused_and_named(call: str) -> None:
    """The error names the call, the place and the way out, and a coordinator cannot swallow it."""
    async def work() -> None:
        try:
            REAL[call](asyncio.get_running_loop())
        except Exception:
            await asyncio.sleep(1000)

    with pytest.raises(Refused, match=rf"loop\.{call}\(\) at .*test_simulation_loop.py.*anechoic gate --world wire"):
        virtual(work())


def test_it_runs_inside_a_running_loop_and_leaves_it_as_it_was() -> None:
    """A simulation may be called from asynchronous code; that code stands still meanwhile."""
    async def outer() -> float:
        before = asyncio.get_running_loop()
        assert virtual(asyncio.sleep(5, "slept")) == "slept"
        assert asyncio.get_running_loop() is before
        await asyncio.sleep(0)
        return 1.0

    assert asyncio.run(outer()) == 1.0
    assert threading.active_count() == 1
