"""The fleet of replicas: real processes, really killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import psutil
import pytest

from fakes.faults import Fault, NoFaults
from fakes.history import Event, History, ReplicaExited, ReplicaStarted, of_kind
from fakes.llm.serving import Serving, ServingError


@asynccontextmanager
async def fleet(history: History, log: list[str], *, replicas: int = 2, restart_after: float = 0.0) -> AsyncIterator[Serving]:
    """A started fleet that is stopped whatever happens."""
    serving = Serving(history, NoFaults(), replicas=replicas, seed=1, restart_after=restart_after, log=log.append)
    await serving.start()
    try:
        yield serving
    finally:
        await serving.stop()


async def health(url: str, timeout: float = 5.0) -> int | None:
    """The status of GET /health, None when there is no answer in time."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as client:
        try:
            async with client.get(url + "/health") as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def alive(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that are processes still, zombies not counted."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def children() -> set[int]:
    """The processes that this one started, and theirs."""
    return {p.pid for p in psutil.Process().children(recursive=True)}


def wait_gone(pids: Sequence[int], seconds: float = 10.0) -> list[int]:
    """Wait until no process of `pids` is left; those that are there at the end."""
    until = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.02)
    return alive(pids)


def test_a_fleet_starts_answers_and_leaves_nothing() -> None:
    """Each replica is a process of its own that answers, and after stop there is none."""

    async def main() -> None:
        history, log, before = History(), list[str](), children()
        async with fleet(history, log, replicas=3) as serving:
            replicas = serving.healthy
            assert [r.name for r in replicas] == ["serve-llm-1", "serve-llm-2", "serve-llm-3"] == list(serving.names)
            assert len({r.pid for r in replicas} | {os.getpid()}) == 4
            assert [await health(r.url) for r in replicas] == [200] * 3
            assert "3/3 healthy" in repr(serving)
        assert alive([r.pid for r in replicas]) == []
        assert children() <= before
        assert len(list(of_kind(history.events, ReplicaStarted))) == 3
        assert not list(of_kind(history.events, ReplicaExited))
        await serving.stop()

    asyncio.run(main())


def test_a_killed_replica_is_gone_and_comes_back() -> None:
    """kill is a SIGKILL, shown as 137 and OOMKilled; the replica is started again, counted and logged."""

    async def main() -> None:
        history, log = History(), list[str]()
        async with fleet(history, log, restart_after=0.2) as serving:
            killed = serving.healthy[1]
            assert await serving.kill(2)
            assert [r.name for r in serving.healthy] == ["serve-llm-1"]
            assert alive([killed.pid]) == []
            assert not await serving.kill("serve-llm-2"), "it is down already"
            assert await serving.wait_healthy()
            back = serving.healthy[1]
            assert (back.life, await health(back.url)) == (2, 200)
            assert back.pid != killed.pid
            assert serving.restarts == 1
        [gone] = of_kind(history.events, ReplicaExited)
        assert (gone.replica, gone.life, gone.code, gone.reason) == ("serve-llm-2", 1, 137, "OOMKilled")
        assert log[-1].endswith(' llm-serve WARN replica=serve-llm-2 event="worker restarted" reason="OOMKilled"')

    asyncio.run(main())


def test_a_kill_from_outside_is_seen_too() -> None:
    """Whoever kills a replica, it is noticed and started again."""

    async def main() -> None:
        async with fleet(History(), [], replicas=1) as serving:
            os.kill(serving.healthy[0].pid, signal.SIGKILL)
            while serving.restarts == 0:
                await asyncio.sleep(0.01)
            assert await serving.wait_healthy()

    asyncio.run(main())


def test_restart_is_in_good_order_and_at_once() -> None:
    """restart ends a replica with SIGTERM and returns when its next life answers, without waiting restart_after."""

    async def main() -> None:
        history = History()
        async with fleet(history, [], restart_after=600) as serving:
            await serving.restart(1)
            assert serving.healthy[0].life == 2
            assert await health(serving.healthy[0].url) == 200
        [gone] = of_kind(history.events, ReplicaExited)
        assert (gone.code, gone.reason) == (0, "Completed")

    asyncio.run(main())


def test_a_paused_replica_is_silent_and_goes_on() -> None:
    """pause stops the process for a while: no answer meanwhile, the same life afterwards."""

    async def main() -> None:
        async with fleet(History(), [], replicas=1) as serving:
            [before] = serving.healthy
            pausing = asyncio.create_task(serving.pause(1, 0.4))
            while psutil.Process(before.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.01)
            assert serving.healthy == (before,), "nobody has noticed"
            assert await health(before.url, timeout=0.05) is None
            await pausing
            assert await health(before.url) == 200
            assert serving.healthy == (before,)

    asyncio.run(main())


def test_the_nemesis_is_asked_when_replicas_start_and_exit() -> None:
    """Rules can be about replicas; one that kills the next replica while it is asked does not block the fleet."""

    class Chain:
        """Kills serve-llm-2 when serve-llm-1 exits."""

        def __init__(self) -> None:
            self.seen: list[str] = []
            self.serving: Serving | None = None

        async def at(self, event: Event) -> Sequence[Fault]:
            self.seen.append(event.kind)
            if isinstance(event, ReplicaExited) and event.replica == "serve-llm-1":
                assert self.serving is not None
                await self.serving.kill(2)
            return ()

    async def main() -> None:
        history, chain = History(), Chain()
        serving = chain.serving = Serving(history, chain, replicas=2, seed=1, restart_after=0.0, log=lambda line: None)
        await serving.start()
        try:
            await serving.kill(1)
            async with asyncio.timeout(30):
                while chain.seen.count("replica_started") < 4:
                    await asyncio.sleep(0.01)
            assert await serving.wait_healthy()
        finally:
            await serving.stop()
        assert chain.seen.count("replica_exited") == 2
        assert chain.seen.count("replica_started") == 4

    asyncio.run(main())


def test_a_killed_nursery_is_a_failure_that_says_so() -> None:
    """When the process that keeps the replicas is killed, they end, and the fleet says that it is broken."""

    async def main() -> None:
        log = list[str]()
        async with fleet(History(), log) as serving:
            replicas = serving.healthy
            nursery = psutil.Process(replicas[0].pid).parent()
            assert nursery is not None
            nursery.kill()
            while serving.healthy:
                await asyncio.sleep(0.01)
            assert not await serving.wait_healthy(1, timeout=5)
            assert "ERROR the process that keeps the replicas was ended" in log[-1]
            assert await asyncio.to_thread(wait_gone, [r.pid for r in replicas]) == []

    asyncio.run(main())


PARENT = """
import asyncio
from fakes.faults import NoFaults
from fakes.history import History
from fakes.llm.serving import Serving

async def main():
    serving = Serving(History(), NoFaults(), replicas=2, seed=1, log=lambda line: None)
    await serving.start()
    asyncio.get_running_loop().create_task(serving.pause(2, 600))
    await asyncio.sleep(0.1)
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_replicas_of_a_killed_harness_end() -> None:
    """kill -9 of the harness leaves no replica, not even one that was stopped at that moment."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"up\n"
            children = [p.pid for p in psutil.Process(parent.pid).children(recursive=True)]
        finally:
            parent.kill()
    assert len(children) == 3
    assert wait_gone(children) == []


def test_mistakes_are_told() -> None:
    """Wrong numbers, names and profiles are ValueErrors that show what there is; commands need a started fleet."""
    with pytest.raises(ValueError, match="replicas=0 must be at least 1"):
        Serving(History(), NoFaults(), replicas=0, seed=1, log=print)
    with pytest.raises(ValueError, match="unknown latency profile 'h200'"):
        Serving(History(), NoFaults(), profile="h200", seed=1, log=print)
    serving = Serving(History(), NoFaults(), seed=1, log=print)
    with pytest.raises(ValueError, match="no replica 0; there are serve-llm-1, serve-llm-2, serve-llm-3, numbered from 1"):
        asyncio.run(serving.kill(0))
    asyncio.run(serving.stop())


def test_a_fleet_that_does_not_get_up_in_time_is_an_error_and_leaves_nothing() -> None:
    """start gives up after its timeout and takes everything down."""

    async def main() -> None:
        before = children()
        serving = Serving(History(), NoFaults(), seed=1, log=lambda line: None)
        with pytest.raises(ServingError, match="0/3 healthy"):
            await serving.start(timeout=0.001)
        assert children() <= before

    asyncio.run(main())
