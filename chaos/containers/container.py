"""One container under test: started, broken and started again through the engine, with the face of `chaos.wire.process`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from chaos.containers.engine import Engine, EngineError
from chaos.wire.errors import WireError
from chaos.wire.process import TAIL_LINES

PATIENCE = 15.0
"""Seconds between a signal that ends a container and the news that it ended."""
HEADROOM = 16 * 1024 * 1024
"""Bytes above its present use at which the memory of a container is limited for an OOM kill."""
EAT = """
open("/proc/1/oom_score_adj", "w").write("1000")
eaten = []
while True:
    eaten.append(bytearray(b"x" * 4194304))
"""
"""What is run inside for an OOM kill: the kernel takes the main process, and not the one that eats."""


class Container:
    """A container that exists already; `life` counts its starts by this run from 1.

    Args:
        found: as `inspect` showed it.
        ours: whether it belongs to this run's own services, which are started afresh; otherwise it is given back as found.
    """

    pid: int | None = None
    """Its process is the engine's business."""

    def __init__(self, name: str, engine: Engine, found: Mapping[str, Any], *, ours: bool) -> None:
        self.name = name
        self.id = str(found["Id"])
        self.engine = engine
        self.ours = ours
        self.label = str(found["Name"]).lstrip("/")
        config = found["Config"]
        self.command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())] or [config["Image"]]
        self.environ: dict[str, str] = dict(pair.partition("=")[::2] for pair in config.get("Env") or ())
        self.life = 0
        self.code: int | None = None
        self.paused = False
        self._ooms = 0
        """how often the engine has told that the kernel killed something of it for want of memory, in all lives"""
        self._limits: dict[str, int] | None = None
        self._cut_off: list[tuple[str, list[str]]] = []
        self._ended: asyncio.Future[int] | None = None
        self._starving = asyncio.Lock()
        engine.watch(self.id, self._notice)

    @property
    def where(self) -> str:
        """The container's name, in words."""
        return f"container {self.label}"

    def __repr__(self) -> str:
        return f"<Container {self.label} life {self.life} {'up' if self.up else f'down, code {self.code}'}>"

    @property
    def up(self) -> bool:
        """Whether the container of this life has not ended."""
        return self._ended is not None and not self._ended.done()

    async def start(self) -> None:
        """Start the next life, or find it running already. Raises WireError when the engine cannot start it."""
        self.code = None
        self.paused = False
        ended = self._ended = asyncio.get_running_loop().create_future()
        try:
            await self.engine.call(self.engine.api.start, self.id)
            state = (await self.inspect())["State"]
        except EngineError as error:
            raise WireError(f"{self.name} (container {self.label}) cannot be started: {error}\n{self._last(error)}") from None
        self.life += 1
        if not state["Running"] and not state["Restarting"] and not ended.done():  # gone before the news of it
            self._notice("die", {"exitCode": str(state["ExitCode"])})
        if state["Paused"]:
            await self.engine.call(self.engine.api.unpause, self.id)

    async def wait(self) -> int:
        """Until the container of this life ends; its exit code."""
        if self._ended is None:
            raise RuntimeError(f"{self.name} was never started")
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """SIGKILL; returns when it has ended. One that is down already stays so."""
        if self.up:
            await self._end(self.engine.api.kill, self.id)

    async def terminate(self, patience: float) -> bool:
        """SIGTERM, SIGKILL after `patience` seconds; False when the latter was needed."""
        await self.resume()
        if self.up:
            await self._end(self.engine.api.stop, self.id, timeout=round(patience))
        return self.code != 137

    async def pause(self) -> bool:
        """Freeze it; False when it ended before that, or is being frozen already. Raises EngineError."""
        if self.paused:
            return False
        self.paused = True  # from here on no other fault takes it for one that runs
        try:
            await self.engine.call(self.engine.api.pause, self.id)
        except EngineError:
            self.paused = False
            if (await self.inspect())["State"]["Running"]:
                raise
            return False
        return True

    async def resume(self) -> None:
        """Let it go on."""
        if self.paused:
            self.paused = False
            if self.up:
                await self.engine.call(self.engine.api.unpause, self.id)

    async def kill_by_oom(self) -> None:
        """Limit its memory to little more than it uses, and eat that up inside: the kernel kills its main process.

        Returns when it has ended; the limits are as before then. Raises OSError when it did not come to an OOM kill.
        """
        life = self.life
        async with self._starving:  # of two at once the second would take the limit of the first for its own
            if self.up and self.life == life:
                await self._starve()

    async def _starve(self) -> None:
        config = (await self.inspect())["HostConfig"]
        self._limits = {"mem_limit": config["Memory"], "memswap_limit": config["MemorySwap"]}
        stats = await self.engine.call(self.engine.api.stats, self.id, stream=False, one_shot=True)
        limit = stats["memory_stats"]["usage"] + HEADROOM
        told = self._ooms  # the next life may have begun when this one's end is looked into: so its state alone says too little
        try:
            await self._limit(limit, limit)
            made = await self.engine.call(self.engine.api.exec_create, self.id, ["python3", "-c", EAT])
            code = await self._end(self.engine.api.exec_start, made["Id"])
            if self._ooms == told and not (await self.inspect())["State"]["OOMKilled"]:
                raise EngineError(f"{self.label} ended with {code}, and not for want of memory")
        finally:
            await self.lift_limits()

    async def lift_limits(self) -> None:
        """Give it the memory back that it had; it is done once."""
        limits, self._limits = self._limits, None
        if limits is not None:
            await self._limit(limits["mem_limit"], limits["memswap_limit"])

    async def disconnect(self) -> str:
        """Take it off every network; which ones."""
        networks = (await self.inspect())["NetworkSettings"]["Networks"]
        for name, network in networks.items():
            aliases = [alias for alias in network.get("Aliases") or () if not self.id.startswith(alias)]
            await self.engine.call(self.engine.api.disconnect_container_from_network, self.id, name)
            self._cut_off.append((name, aliases))
        if not networks:
            raise EngineError(f"{self.label} is on no network")
        return ", ".join(networks)

    async def reconnect(self) -> None:
        """Put it back on the networks that it was taken off, under the same names."""
        while self._cut_off:
            name, aliases = self._cut_off.pop()
            await self.engine.call(self.engine.api.connect_container_to_network, self.id, name, aliases=aliases)

    async def give_back(self, patience: float = 0.0) -> None:
        """Leave it as it was found: whole, and running."""
        await self.resume()
        await self.lift_limits()
        await self.reconnect()
        if self.life and not self.up:
            await self.engine.call(self.engine.api.start, self.id)

    async def inspect(self) -> Any:
        """As the engine shows it now."""
        return await self.engine.call(self.engine.api.inspect_container, self.id)

    def last_words(self) -> str:
        """The last 20 lines of its log. Blocks for a moment."""
        return last_words(self.engine, self.id)

    async def _end(self, work: Any, *args: Any, **more: Any) -> int:
        """Have the engine do something that ends it; its exit code. Raises EngineError where it does not end."""
        ended = self.wait()
        doing = asyncio.ensure_future(self.engine.call(work, *args, **more))
        try:
            async with asyncio.timeout(PATIENCE + more.get("timeout", 0)):
                code = await ended
        except TimeoutError:
            raise EngineError(f"{self.label} did not end within {PATIENCE:g} s") from None
        finally:
            done = await asyncio.gather(doing, return_exceptions=True)
        if isinstance(done[0], BaseException) and self.up:
            raise done[0]
        return code

    async def _limit(self, memory: int, swap: int) -> None:
        await self.engine.call(self.engine.api.update_container, self.id, mem_limit=memory or -1, memswap_limit=swap or -1)

    def _notice(self, action: str, attributes: Mapping[str, str]) -> None:
        if action == "oom":
            self._ooms += 1
        elif action == "die" and self._ended is not None and not self._ended.done():
            self.code = int(attributes.get("exitCode", "-1"))
            self._ended.set_result(self.code)

    def _last(self, error: EngineError) -> str:
        return f"  its last lines:\n    {self.last_words()}" if "No such container" not in str(error) else ""


def last_words(engine: Engine, container: str) -> str:
    """The last 20 lines of a container's log. Blocks for a moment."""
    try:
        text: bytes = engine.api.logs(container, tail=TAIL_LINES)
    except Exception as error:  # the container or the engine is gone; the reader is told of something else
        return f"(no log: {getattr(error, 'explanation', None) or error})"
    return text.decode(errors="replace").strip() or "(it printed nothing)"
