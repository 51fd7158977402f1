"""The replicas as a router sees them: named addresses, up or down."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One life of one replica that answers at `url`."""

    name: str
    life: int
    pid: int
    url: str


class Replicas(Protocol):
    """What a router asks of whoever looks after the replicas."""

    @property
    def healthy(self) -> tuple[Replica, ...]:
        """The replicas that are up now, in order of their names."""
        ...

    @property
    def restarts(self) -> int:
        """How often a replica was started again."""
        ...

    async def wait_healthy(self, count: int | None = None, timeout: float = 10.0) -> bool:
        """Wait until at least `count` replicas (default: all) are up; False when they are not within `timeout` seconds."""
        ...


class Fleet:
    """Replicas that somebody else looks after, and tells about. `urls` are the names and addresses; all start as up."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.restarts = 0
        self._up: dict[str, Replica | None] = {name: Replica(name, 1, 0, url) for name, url in urls.items()}
        self._changed = asyncio.Event()

    @property
    def healthy(self) -> tuple[Replica, ...]:
        """The replicas that are up, as far as was told."""
        return tuple(replica for replica in self._up.values() if replica is not None)

    def tell(self, name: str, life: int, url: str | None) -> None:
        """A replica began a life at `url`, or (None) ended it."""
        if url is not None and life > 1:
            self.restarts += 1
        self._up[name] = None if url is None else Replica(name, life, 0, url)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_healthy(self, count: int | None = None, timeout: float = 10.0) -> bool:
        """Wait until at least `count` replicas (default: all) are up; False when they are not within `timeout` seconds."""
        wanted = len(self._up) if count is None else count
        try:
            async with asyncio.timeout(timeout):
                while len(self.healthy) < wanted:
                    await self._changed.wait()
        except TimeoutError:
            return len(self.healthy) >= wanted
        return True
