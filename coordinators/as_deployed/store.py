"""The shared store of the deployed design: the submission queue, the dedup records, the latest step of each run.

Two implementations: an SQLite file, and a Redis server.
"""

from __future__ import annotations

import abc
import dataclasses

from coordinators.common import stores
from coordinators.common.gateway import ToolResult

IMPLEMENTATIONS = {
    "sqlite": "coordinators.as_deployed.sqlite_store:SqliteStore",
    "redis": "coordinators.as_deployed.redis_store:RedisStore",
}
DEDUP_TTL = 24 * 3600.0
"""Seconds that a dedup record is valid."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """All outputs of one step, taken out of the queue to be submitted. `rows` are their places in the queue."""

    thread_id: str
    run_id: str
    step_id: str
    outputs: tuple[tuple[str, str], ...]
    rows: tuple[int, ...]


class Store(abc.ABC):
    """Every method raises StoreUnavailable when the store does not answer."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close every connection."""

    @abc.abstractmethod
    async def set_latest_step(self, thread_id: str, run_id: str, step_id: str, call_ids: tuple[str, ...]) -> None:
        """Note the step that the run waits for; only its outputs are submitted from now on."""

    @abc.abstractmethod
    async def enqueue(self, result: ToolResult) -> None:
        """Add a result to the submission queue."""

    @abc.abstractmethod
    async def take_batch(self, run_id: str) -> Batch | None:
        """Take the results of the run's latest step, once all of them are queued."""

    @abc.abstractmethod
    async def put_back(self, batch: Batch) -> None:
        """Queue the batch again."""

    @abc.abstractmethod
    async def mark_submitted(self, batch: Batch) -> None:
        """The batch was submitted."""

    @abc.abstractmethod
    async def submitted(self, run_id: str) -> frozenset[str]:
        """The calls of the run whose outputs were submitted."""

    @abc.abstractmethod
    async def seen_before(self, key: str, now: float) -> bool:
        """Whether the dedup record is there already; it is written when it is not."""


def open_store(wanted: type[Store], address: stores.Address) -> Store:
    """The store at that address. Raises StoreUnsupported."""
    return stores.open_store(wanted, address, IMPLEMENTATIONS)
