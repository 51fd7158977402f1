"""A Redis as the shared store on the wire: what its faults do, what it keeps, and what is said when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis.asyncio

from chaos.plan import parse
from chaos.turns import make
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings, by_name
from chaos.wire.store import RedisStore
from fakes import history as h
from fakes.gateway.profile import PROFILES

pytestmark = pytest.mark.usefixtures("redis_program")


def settings(**more: Any) -> Settings:
    """Two hardened instances on a Redis of the run's own."""
    given = {"coordinator": by_name("hardened"), "gateway": PROFILES["keyed"], "instances": 2, "store": "redis", **more}
    return Settings(**given)


@contextlib.asynccontextmanager
async def up(**more: Any) -> AsyncIterator[tuple[Chamber, RedisStore]]:
    """A chamber without coordinators, and its store."""
    async with Chamber(settings(**more), alone=True) as chamber:
        store = chamber.world.store
        assert isinstance(store, RedisStore)
        yield chamber, store


def through(chamber: Chamber, name: str) -> redis.asyncio.Redis:
    """A client that reaches the store as an instance does."""
    return redis.asyncio.Redis.from_url(chamber.addresses[name]["STORE_URL"], socket_timeout=0.3, socket_connect_timeout=0.3)


async def reaches(chamber: Chamber, name: str) -> bool:
    """Whether that instance would reach the store now."""
    client = through(chamber, name)
    try:
        return bool(await client.ping())
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
        return False
    finally:
        await client.aclose()


async def do(chamber: Chamber, fault: str, cause: h.Event | None = None, **args: Any) -> tuple[str, Callable[[], Awaitable[Any]]]:
    """Carry a fault out with its defaults; what was said, and how it is healed."""
    rule = {"when": {"event": "run_created"}, "do": {"fault": fault, **args}}
    (made,) = parse({"name": "one", "rules": [rule]}).rules[0].do
    said, _, heal = await chamber.world.carry_out(made.fault, made.args, cause)
    assert heal is not None
    return said, heal


def test_an_outage_reaches_everybody_and_is_healed() -> None:
    """Connections are refused and dropped while it lasts, and taken again after."""

    async def story() -> None:
        async with up() as (chamber, _):
            assert await reaches(chamber, "coordinator-1")
            _, heal = await do(chamber, "store_outage")
            assert not await reaches(chamber, "coordinator-1")
            assert not await reaches(chamber, "coordinator-2")
            await heal()
            assert await reaches(chamber, "coordinator-2")

    asyncio.run(story())


def test_a_partition_is_of_one_instance() -> None:
    """The sender's proxy alone goes down."""

    async def story() -> None:
        async with up() as (chamber, _):
            created = chamber.history.record(h.RunCreated, run_id="run_1", thread_id="thread_1", instance="coordinator-1")
            _, heal = await do(chamber, "proxy_down", created, proxy="store", which="sender")
            assert [await reaches(chamber, name) for name in ("coordinator-1", "coordinator-2")] == [False, True]
            await heal()
            assert await reaches(chamber, "coordinator-1")

    asyncio.run(story())


def test_latency_is_on_the_answers_of_the_store() -> None:
    """A toxic on the edge slows what comes back."""

    async def story() -> None:
        async with up() as (chamber, _):
            client = redis.asyncio.Redis.from_url(chamber.addresses["coordinator-1"]["STORE_URL"])
            await client.ping()
            _, heal = await do(chamber, "toxic", proxy="store", type="latency", attributes={"latency": 200})
            clock = asyncio.get_running_loop().time
            began = clock()
            await client.ping()
            assert clock() - began >= 0.2
            await heal()
            await client.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["kill", "terminate", "restart"])
def test_what_the_store_was_told_survives_its_end(fault: str) -> None:
    """The process is another one, and what was acknowledged is there."""

    async def story() -> None:
        async with up() as (chamber, store):
            process = store.process
            assert process is not None
            client = through(chamber, "coordinator-1")
            await client.set("told", "before")
            await client.aclose()
            before = process.pid
            said, heal = await do(chamber, fault, target="store")
            assert f"redis (pid {before})" in said
            assert not await reaches(chamber, "coordinator-1")
            await heal()
            assert process.pid != before
            again = through(chamber, "coordinator-1")
            assert await again.get("told") == b"before"
            await again.aclose()

    asyncio.run(story())


def test_a_paused_store_answers_nobody() -> None:
    """SIGSTOP: the connection is taken by the system, and no answer comes until SIGCONT."""

    async def story() -> None:
        async with up() as (chamber, _):
            _, heal = await do(chamber, "pause", target="store")
            assert not await reaches(chamber, "coordinator-1")
            await heal()
            assert await reaches(chamber, "coordinator-1")

    asyncio.run(story())


@pytest.mark.parametrize("name", ["hardened", "as_deployed"])
def test_a_reference_coordinator_runs_on_it_through_the_proxy(name: str) -> None:
    """Turns are done, and all that the store holds came through the proxies of the instances."""

    async def story() -> None:
        async with Chamber(settings(coordinator=by_name(name))) as chamber:
            await chamber.run([make(1, number) for number in range(4)])
            await chamber.quiesce()
            client = through(chamber, "coordinator-1")
            assert await client.dbsize() > 0
            await client.aclose()
        ended = [e.status for e in chamber.history.events if isinstance(e, h.TurnEnded)]
        assert ended == ["done"] * 4

    asyncio.run(story())


def test_a_store_that_is_gone_for_good_ends_the_run(tmp_path: Path) -> None:
    """The reason with its last lines, at once; nothing is left running."""

    async def story() -> None:
        async with Chamber(settings()) as chamber:
            store = chamber.world.store
            assert isinstance(store, RedisStore)
            assert store.process is not None
            assert store.process.pid is not None
            os.kill(store.process.pid, signal.SIGKILL)
            await chamber.run([make(1, number) for number in range(4)])

    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with pytest.raises(WireError, match=r"(?s)the Redis of this run ended by itself with exit code -9\..*its last lines:.*Ready to accept"):
        asyncio.run(story())
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before


def test_one_that_runs_already_is_used_under_a_prefix_and_left_alone() -> None:
    """Keys of the run begin with its prefix; nothing that was there before is touched."""

    async def story() -> None:
        async with up() as (_, server):
            url = f"redis://{server.upstream}/3"
            client = redis.asyncio.Redis.from_url(url)
            await client.set("mine", "kept")
            async with Chamber(settings(store=url)) as chamber:
                await chamber.run([make(1, 0)])
            keys = {key.decode() for key in await client.keys("*")}
            assert await client.get("mine") == b"kept"
            prefix = chamber.addresses["coordinator-1"]["STORE_PREFIX"]
            assert len(keys) > 1
            assert all(key == "mine" or key.startswith(prefix) for key in keys)
            await client.aclose()

    asyncio.run(story())


def test_one_that_is_not_there_is_an_error() -> None:
    """The address, what was seen, and what to look at."""

    async def story() -> None:
        async with up(store="redis://127.0.0.1:9/0"):
            raise AssertionError("it started")

    with pytest.raises(WireError, match=r"the Redis at 127\.0\.0\.1:9 did not answer within .* s; last seen: ConnectionRefusedError"):
        asyncio.run(story())


@pytest.mark.parametrize("word", ["postgres://x", "Redis", "rediss://host"])
def test_other_words_are_no_store(word: str) -> None:
    """Before anything is started."""
    with pytest.raises(WireError, match="is no store: expected sqlite"):
        settings(store=word)


def test_without_a_program_it_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started."""
    monkeypatch.setenv("REDIS_SERVER", "no-such-program")
    with pytest.raises(WireError, match=r"no program 'no-such-program' on PATH\. Install one"):
        settings()
