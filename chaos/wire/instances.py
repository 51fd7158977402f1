"""The instances of the coordinator under test: started, waited for, broken on purpose, started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aiohttp
import psutil

from chaos.wire.errors import WireError
from fakes.history import History, InstanceExited, InstanceReady, InstanceStarted

STOP_PATIENCE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
PROGRESS = 10.0
"""Seconds of waiting for an instance after which it is told what is waited for, again and again."""


class Unit(Protocol):
    """What is behind an instance that can be broken: a process, or a container. `life` counts its starts from 1."""

    name: str
    life: int
    paused: bool

    @property
    def command(self) -> Sequence[str]:
        """What it runs, for people."""
        ...

    @property
    def where(self) -> str:
        """Where to find it, for people."""
        ...

    @property
    def up(self) -> bool:
        """Whether it has not ended in this life."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id, None where there is none here."""
        ...

    @property
    def code(self) -> int | None:
        """Exit code of this life, None while it is up."""
        ...

    async def start(self) -> None:
        """Start the next life. Raises WireError when it cannot be started at all."""
        ...

    async def wait(self) -> int:
        """Until it ends; its exit code."""
        ...

    async def kill(self) -> None:
        """A crash; returns when it is over."""
        ...

    async def terminate(self, patience: float) -> bool:
        """A graceful stop, a crash after `patience` seconds; False when the latter was needed."""
        ...

    async def pause(self) -> bool:
        """Have it stand still; False when it has ended, or stands still already."""
        ...

    async def resume(self) -> None:
        """Let it go on."""
        ...

    async def disconnect(self) -> str:
        """Cut it off from every network; from which. Raises OSError where that cannot be done."""
        ...

    async def reconnect(self) -> None:
        """Put it back on the networks that it was cut off from."""
        ...

    async def give_back(self, patience: float) -> None:
        """The run is over: leave nothing of it."""
        ...

    def last_words(self) -> str:
        """Its last lines of output."""
        ...


class Instance:
    """One instance: its name, where it listens, and its process or container (None when somebody else started it)."""

    def __init__(self, name: str, url: str, process: Unit | None) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.process = process
        self.ready = asyncio.Event()
        self.capabilities: dict[str, Any] = {}
        self.wanted = True
        """False while a fault or a stop has taken it down on purpose."""

    @property
    def life(self) -> int:
        """How often it was started."""
        return self.process.life if self.process is not None else 1

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self.process is not None and self.process.paused


class Instances:
    """All instances, in order. Every end of a process is recorded, the unexpected ones as such and started again."""

    def __init__(
        self, history: History, http: aiohttp.ClientSession, *, ready_timeout: float, on_trouble: Callable[[str], None],
        tools: str | None = None,
    ) -> None:
        self.all: list[Instance] = []
        self._history = history
        self._http = http
        self._ready_timeout = ready_timeout
        self._tools = tools
        self._on_trouble = on_trouble
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._unexpected: dict[str, int] = {}
        self._once_ready: set[str] = set()

    def __getitem__(self, name: str) -> Instance:
        return next(i for i in self.all if i.name == name)

    def add(self, name: str, url: str, unit: Unit | None) -> None:
        """One more instance; `unit` is None for one that somebody else has started."""
        self.all.append(Instance(name, url, unit))

    async def start(self) -> None:
        """Start all and wait until each answers /healthz. Raises WireError with the last words of the first that does not."""
        await _all(self.start_one(instance) for instance in self.all)

    async def start_one(self, instance: Instance) -> None:
        """Start one instance (again) and wait until it is ready."""
        instance.wanted = True
        if instance.process is not None:
            await instance.process.start()
            self._history.record(
                InstanceStarted, instance=instance.name, life=instance.life, pid=instance.process.pid
            )
            self._watchers[instance.name] = asyncio.get_running_loop().create_task(self._watch(instance, instance.process))
        await self._until_ready(instance)
        instance.ready.set()
        self._once_ready.add(instance.name)
        self._history.record(
            InstanceReady, instance=instance.name, life=instance.life, capabilities=instance.capabilities
        )

    async def down(self, instance: Instance, *, graceful: bool) -> str:
        """Take an instance down on purpose; how it went, in a few words."""
        process = instance.process
        if process is None:
            raise WireError(f"{instance.name} was not started by this run, so it cannot be killed (it is given by --url)")
        instance.wanted = False
        instance.ready.clear()
        where = process.where
        if graceful:
            within = await process.terminate(STOP_PATIENCE)
            forced = "" if within else f", but only by SIGKILL after {STOP_PATIENCE:g} s"
            return f"{instance.name} ({where}) stopped{forced}"
        await process.kill()
        return f"{instance.name} ({where}) killed"

    async def stop(self) -> None:
        """Give every unit back; returns when all that this run started are gone."""
        for instance in self.all:
            instance.wanted = False
        await asyncio.gather(*(i.process.give_back(STOP_PATIENCE) for i in self.all if i.process is not None))
        for instance in self.all:
            if instance.process is not None and instance.process.up and instance.name in self._watchers:
                self._watchers[instance.name].cancel()  # it goes on running, and is nothing of this run any more
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    async def _watch(self, instance: Instance, process: Unit) -> None:
        life = process.life
        code = await process.wait()
        expected = not instance.wanted
        instance.ready.clear()
        self._history.record(InstanceExited, instance=instance.name, life=life, code=code, expected=expected)
        if not expected and life == process.life:
            await process.kill()  # grandchildren would hold its port
            self._unexpected[instance.name] = self._unexpected.get(instance.name, 0) + 1
            self._on_trouble(
                f"{instance.name} ended by itself with {_code(code)}. Its last lines:\n{_indent(process.last_words())}"
            )
            if life > 1 or instance.name in self._once_ready:
                await asyncio.sleep(0.2 * self._unexpected[instance.name])
                with contextlib.suppress(WireError):
                    await self.start_one(instance)

    async def _until_ready(self, instance: Instance) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline, tell = began + self._ready_timeout, began + PROGRESS
        seen = "no connection"
        while True:
            process = instance.process
            if process is not None and not process.up:
                raise WireError(
                    f"{instance.name} ended with {_code(process.code)} before it was ready.\n"
                    f"  command: {' '.join(process.command)}\n  its last lines:\n{_indent(process.last_words())}\n"
                    "  A coordinator stays up and answers GET /healthz with 200 on 127.0.0.1:$PORT."
                )
            try:
                async with self._http.get(f"{instance.url}/healthz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    if answer.status == 200:
                        instance.capabilities = self._settled(instance.name, _capabilities(await answer.read()))
                        return
                    seen = f"GET /healthz answered {answer.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                seen = f"GET /healthz: {type(error).__name__}: {error}"
            if loop.time() >= deadline:
                raise WireError(self._never_ready(instance, seen))
            if loop.time() >= tell:
                tell += PROGRESS
                waited = f"{loop.time() - began:.0f} s of {self._ready_timeout:g} s (--ready-timeout)"
                self._on_trouble(f"{instance.name} is not ready yet after {waited}; last seen: {seen}")
            await asyncio.sleep(0.02)

    def _settled(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
        """What an instance told, with what the configuration says of its tools. Raises WireError where they differ."""
        if self._tools is None:
            return told
        asynchronous = self._tools == "async"
        if told.get("async_tools", asynchronous) is not asynchronous:
            raise WireError(
                f"{name} answers GET /healthz with async_tools={json.dumps(told['async_tools'])}, and the configuration says "
                f"tools={self._tools}. Correct one of them, or leave out --tools (`tools` in the file)."
            )
        return {**told, "async_tools": asynchronous}

    def _never_ready(self, instance: Instance, seen: str) -> str:
        lines = [f"{instance.name} was not ready after {self._ready_timeout:g} s; last seen at {instance.url}: {seen}."]
        process = instance.process
        if process is not None:
            ports = _listening(process.pid)
            lines.append(f"  command: {' '.join(process.command)}")
            if ports:
                lines.append(f"  it listens on {', '.join(map(str, ports))}: does it read the environment variable PORT?")
            lines.append(f"  its last lines:\n{_indent(process.last_words())}")
        lines.append("  A coordinator answers GET /healthz with 200 when it is ready; --ready-timeout gives it more time.")
        return "\n".join(lines)


def _capabilities(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _listening(pid: int | None) -> list[int]:
    if pid is None:
        return []
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        found = {c.laddr.port for p in family for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return []
    return sorted(found)


def _code(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"


def _indent(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.splitlines())


async def _all(coroutines: Any) -> None:
    """Run together; the first error cancels the rest, and is raised when they are done."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
