"""What processes use while a load runs: CPU time, memory, open files."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from load.measure import slope

EVERY = 1.0
"""Seconds between two looks."""
POINTS = 600
"""Points of memory that are kept of each role; when there are more, every second one is dropped."""

Roles = Callable[[], Mapping[str, Sequence[int]]]


@dataclasses.dataclass(slots=True)
class Role:
    """All processes that play one part, those that have ended included. Memory is resident, in MiB."""

    cpu: float = 0.0
    """seconds, user and system, since the first look"""
    memory: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    files: int = 0
    files_at_first: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As load.json has it."""
        settled = self.memory[len(self.memory) // 3 :]  # caches and pools fill up first
        return {
            "cpu_seconds": round(self.cpu, 2),
            "memory_mib": round(self.memory[-1][1], 1) if self.memory else None,
            "memory_mib_per_minute": round(slope(settled) * 60, 3),
            "open_files_at_first": self.files_at_first, "open_files": self.files,
            "memory": [[round(t, 1), round(m, 1)] for t, m in self.memory],
        }


class Usage:
    """Looks at the processes of each role again and again. What a process used after the last look at it is not seen."""

    def __init__(self, roles: Roles, clock: Callable[[], float]) -> None:
        self.roles: dict[str, Role] = {}
        self._find = roles
        self._clock = clock
        self._seen: dict[int, tuple[psutil.Process, float]] = {}
        self._looks = 0
        self._thin = 1

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY)

    def look(self) -> None:
        """One look at everything."""
        self._looks += 1
        for name, pids in self._find().items():
            role = self.roles.setdefault(name, Role())
            memory, files = 0.0, 0
            for pid in pids:
                try:
                    process, before = self._seen.get(pid) or (psutil.Process(pid), None)
                    with process.oneshot():
                        times = process.cpu_times()
                        memory += process.memory_info().rss / 2**20
                        files += process.num_fds()
                except (psutil.Error, OSError):
                    continue
                used = times.user + times.system
                if before is not None:
                    role.cpu += used - before
                elif self._looks > 1:
                    role.cpu += used  # it was started since
                self._seen[pid] = (process, used)
            role.files = files
            if role.files_at_first is None:
                role.files_at_first = files
            if self._looks % self._thin == 0:
                role.memory.append((self._clock(), memory))
        if any(len(role.memory) > POINTS for role in self.roles.values()):
            self._thin *= 2
            for role in self.roles.values():
                role.memory[:] = role.memory[::2]
