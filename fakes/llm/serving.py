"""The fleet of serving replicas: started, watched, killed for real, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fakes.faults import Nemesis
from fakes.history import Event, History, ReplicaExited, ReplicaStarted
from fakes.llm.fleet import Replica
from fakes.llm.log import ServingLog
from fakes.llm.profiles import named

OOM_KILLED = 137
"""The exit code of a process that SIGKILL ended, as container runtimes show it."""


class ServingError(RuntimeError):
    """The replicas cannot be started or kept alive; says which one and why."""


@dataclasses.dataclass(slots=True)
class Place:
    """Where one replica lives, life after life. `pid` is set from fork to exit, `up` from ready to exit."""

    name: str
    life: int = 0
    pid: int | None = None
    up: Replica | None = None
    reason: str = ""
    """why the life before this one ended"""
    at_once: bool = False
    """a restart was asked for: no waiting before the next life"""


class Serving:
    """N replicas, each an operating system process, named serve-llm-1 to serve-llm-N.

    A replica that ends, whoever ended it, is started again `restart_after` seconds later on another port; that is
    counted in `restarts` (the metric llm_serve.replica_restarts). Replicas of a harness that was killed with SIGKILL
    end within moments; `stop` leaves no process.

    Args:
        replicas: how many, at least 1.
        names: theirs, where they are not serve-llm-1 and so on.
        profile: name of a latency profile (fakes.llm.profiles); ValueError when there is none.
        seed: of the latencies.
        restart_after: seconds from an exit to the next start.
        log: takes the lines of the serving layer's log.
        wall: unix time in seconds, for the log.
    """

    def __init__(
        self,
        history: History,
        nemesis: Nemesis,
        *,
        replicas: int = 3,
        names: Sequence[str] | None = None,
        profile: str = "ci",
        seed: int,
        restart_after: float = 0.5,
        log: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        if replicas < 1:
            raise ValueError(f"replicas={replicas} must be at least 1")
        self.restarts = 0
        self._profile = named(profile).name
        self._history = history
        self._nemesis = nemesis
        self._seed = seed
        self._restart_after = restart_after
        self._log = ServingLog(log, wall)
        self._places = {name: Place(name) for name in names or [f"serve-llm-{n}" for n in range(1, replicas + 1)]}
        self._changed = asyncio.Event()
        self._failure: str | None = None
        self._stopping = False
        self._nursery: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Serving {len(self.healthy)}/{len(self._places)} healthy, {self.restarts} restarts>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all replicas, in order."""
        return tuple(self._places)

    @property
    def healthy(self) -> tuple[Replica, ...]:
        """The replicas that are up now, in order of their names. A paused one counts: nobody has noticed."""
        return tuple(place.up for place in self._places.values() if place.up is not None)

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that are up, and of the process that started them."""
        nursery = [self._nursery.pid] if self._nursery is not None else []
        return nursery + [place.pid for place in self._places.values() if place.pid is not None]

    async def start(self, timeout: float = 30.0) -> None:
        """Start every replica; returns when all answer. Raises ServingError when they do not within `timeout` seconds."""
        self._nursery = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "fakes.llm.nursery",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )
        self._reader = asyncio.create_task(self._watch(self._nursery))
        for place in self._places.values():
            self._start(place)
        try:
            if not await self.wait_healthy(len(self._places), timeout):
                raise ServingError(self._failure or f"{self!r}: not all replicas were up after {timeout} s")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every replica and what watches them; safe to call twice. Nothing is recorded: no fault asked for this."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        nursery, self._nursery = self._nursery, None
        if nursery is None or nursery.stdin is None:
            return
        nursery.stdin.close()
        try:
            await asyncio.wait_for(nursery.wait(), 5)
        except TimeoutError:
            nursery.kill()
            await nursery.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await nursery.stdin.wait_closed()
        if self._reader is not None:
            await self._reader
        for place in self._places.values():
            place.pid = place.up = None

    async def kill(self, which: int | str) -> bool:
        """SIGKILL one replica, by number (from 1) or name; returns when it is gone.

        False when it was down already. It comes back `restart_after` seconds later: see `wait_healthy`.
        """
        place = self._find(which)
        pid = place.pid
        if pid is None:
            return False
        self._signal(pid, signal.SIGKILL)
        await self._until(lambda: place.pid != pid)
        return True

    async def restart(self, which: int | str, timeout: float = 10.0) -> None:
        """Stop one replica in good order (SIGTERM) and start it again at once; returns when it is up.

        One that is down already is waited for. Raises ServingError when it is not within `timeout` seconds.
        """
        place = self._find(which)
        before, place.at_once = place.up, True
        self._signal(place.pid, signal.SIGTERM)
        if not await self._until(lambda: place.up is not None and place.up is not before, timeout):
            raise ServingError(f"{place.name} was not up again {timeout} s after its restart")

    async def pause(self, which: int | str, seconds: float) -> None:
        """Stop one replica (SIGSTOP) for `seconds`, then let it go on (SIGCONT); returns when it goes on.

        Its connections stay open and silent meanwhile. A replica that is killed while paused is not touched again.
        """
        place = self._find(which)
        pid = place.pid
        self._signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(pid, signal.SIGCONT)

    def unit(self, which: str) -> Any:
        """What a replica runs in, where that can be taken off its network. Raises OSError: here it is a process."""
        raise OSError(f"{which} is a process, which cannot be taken off a network")

    async def wait_healthy(self, count: int | None = None, timeout: float = 10.0) -> bool:
        """Wait until at least `count` replicas (default: all) are up; False when they are not within `timeout` seconds."""
        wanted = len(self._places) if count is None else count
        await self._until(lambda: self._failure is not None or len(self.healthy) >= wanted, timeout)
        return len(self.healthy) >= wanted

    # --- one replica ------------------------------------------------------------------------------------------------

    def _find(self, which: int | str) -> Place:
        place = self._places.get(f"serve-llm-{which}" if isinstance(which, int) else which)
        if place is None:
            raise ValueError(f"no replica {which!r}; there are {', '.join(self._places)}, numbered from 1")
        return place

    def _start(self, place: Place) -> None:
        place.life += 1
        place.at_once = False
        self._tell({"do": "start", "name": place.name, "life": place.life, "profile": self._profile, "seed": self._seed})

    def _signal(self, pid: int | None, number: signal.Signals) -> None:
        if pid is not None:
            self._tell({"do": "signal", "pid": pid, "signal": int(number)})

    async def _revive(self, place: Place, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.restarts += 1
        self._start(place)

    # --- what the nursery tells -------------------------------------------------------------------------------------

    async def _watch(self, nursery: asyncio.subprocess.Process) -> None:
        assert nursery.stdout is not None
        async for line in nursery.stdout:
            report = json.loads(line)
            place = self._places[report["name"]]
            if report["is"] == "forked":
                place.pid = report["pid"]
            elif report["is"] == "ready":
                self._on_ready(place, report["pid"], f"http://127.0.0.1:{report['port']}")
            else:
                self._on_exited(place, report["code"])
            self._notify()
        if not self._stopping:
            self._on_lost()

    def _on_ready(self, place: Place, pid: int, url: str) -> None:
        place.pid = pid
        place.up = Replica(place.name, place.life, pid, url)
        if place.life == 1:
            self._log.info(f'replica={place.name} event="worker started"')
        else:
            self._log.warn(f'replica={place.name} event="worker restarted" reason="{place.reason}"')
        self._tell_history(ReplicaStarted, replica=place.name, life=place.life, pid=pid)

    def _on_exited(self, place: Place, code: int) -> None:
        was_up, place.up, place.pid = place.up is not None, None, None
        if self._stopping:
            return
        shown = 128 - code if code < 0 else code
        place.reason = "OOMKilled" if shown == OOM_KILLED else "Completed" if shown == 0 else "Error"
        self._tell_history(ReplicaExited, replica=place.name, life=place.life, code=shown, reason=place.reason)
        if not was_up and code > 0 and code != OOM_KILLED:
            self._failure = f"{place.name} ended with exit code {code} before it was up; {self._why(place)}"
            self._log.error(self._failure)
        else:
            self._spawn(self._revive(place, 0.0 if place.at_once else self._restart_after))

    def _why(self, place: Place) -> str:
        return "its traceback is on stderr"

    def _on_lost(self) -> None:
        """The nursery died: nobody stops or restarts replicas any more, so there are none."""
        self._failure = "the process that keeps the replicas was ended from outside; no replica can be started any more"
        self._log.error(self._failure)
        for place in self._places.values():
            if place.pid is not None:
                place.pid = place.up = None
                self._tell_history(ReplicaExited, replica=place.name, life=place.life, code=None, reason="supervisor lost")
        self._notify()

    # --- plumbing ---------------------------------------------------------------------------------------------------

    def _tell(self, command: dict[str, Any]) -> None:
        if self._nursery is None or self._nursery.stdin is None:
            raise ServingError("the replicas are not running: start() first")
        if not self._nursery.stdin.is_closing():
            self._nursery.stdin.write(json.dumps(command).encode() + b"\n")

    def _tell_history(self, cls: type[Event], **fields: Any) -> None:
        event = self._history.record(cls, **fields)

        async def ask() -> None:
            await self._nemesis.at(event)

        self._spawn(ask())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(f"{type(error).__name__}: {error}")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, holds: Callable[[], bool], timeout: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    await self._changed.wait()
        except TimeoutError:
            return holds()
        return True
