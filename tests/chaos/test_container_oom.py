"""An OOM kill of a container that the engine has started again before anybody could look at it."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from chaos.containers.container import Container
from chaos.containers.engine import EngineError

LIMITS = {"Memory": 1 << 28, "MemorySwap": 1 << 28}


class Engine:
    """Ends its one container when something is run in it, and has its next life running at once; tells of an OOM kill, or not."""

    def __init__(self, *, tells: bool) -> None:
        self.api = self
        self.limits: list[int] = []
        self._tells = tells

    def watch(self, container: str, notice: Any) -> None:
        self._notice = notice

    async def call(self, work: Any, *args: Any, **more: Any) -> Any:
        done = work(*args, **more)
        return await done if inspect.isawaitable(done) else done

    def start(self, container: str) -> None:
        """It is running from now on."""

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": True, "Restarting": False, "Paused": False, "OOMKilled": False}, "HostConfig": LIMITS}

    def stats(self, container: str, **how: bool) -> dict[str, Any]:
        return {"memory_stats": {"usage": 1000}}

    def update_container(self, container: str, *, mem_limit: int, memswap_limit: int) -> None:
        self.limits.append(mem_limit)

    def exec_create(self, container: str, command: list[str]) -> dict[str, str]:
        return {"Id": "eater"}

    async def exec_start(self, what: str) -> None:
        if self._tells:
            self._notice("oom", {})
        self._notice("die", {"exitCode": "137"})
        await self.next_life.start()

    next_life: Container


@pytest.mark.parametrize("tells", [True, False], ids=["for want of memory", "for another reason"])
def test_what_the_engine_told_counts_and_not_the_state_of_the_next_life(tells: bool) -> None:
    """The next life shows no OOM kill; the news of one is one, and without it the kill has failed. The limits are lifted."""

    async def story() -> tuple[Container, list[int]]:
        engine: Any = Engine(tells=tells)
        found = {"Id": "c1", "Name": "/box", "Config": {"Cmd": ["sleep"], "Env": []}}
        container = engine.next_life = Container("one", engine, found, ours=True)
        await container.start()
        if tells:
            await container.kill_by_oom()
        else:
            with pytest.raises(EngineError, match="box ended with 137, and not for want of memory"):
                await container.kill_by_oom()
        return container, engine.limits

    container, limits = asyncio.run(story())
    assert container.life == 2
    assert container.up
    assert limits[0] < LIMITS["Memory"] == limits[-1]
