"""Sessions of a remote fake: one for each harness that connects, with a fake of its own, gone when the harness is."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fakes.exchange import Endpoint
from fakes.faults import Nemesis, Runs
from fakes.history import History
from fakes.remote.lines import BadLine, Lines
from fakes.remote.tie import Tie
from fakes.server import Server, bind, port_of
from fakes.skin import skin


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One fake, made for one session or to stand alone."""

    title: str
    endpoint: Endpoint
    close: Callable[[], Awaitable[None]]
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """what the harness has to know about it, such as the id of the default assistant"""
    runs: Runs | None = None
    """where the faults of RUN_FAULTS are made"""
    replica: Callable[[str, int, str | None], None] | None = None
    """takes the news that a replica is up at an address, or (None) down"""


Make = Callable[[Mapping[str, Any], History, Nemesis, Callable[[str], None], str], Awaitable[Part]]
"""Makes a fake from settings, history, nemesis, log and admin token. Raises ValueError for settings that are wrong."""


class Sessions:
    """Takes connections of harnesses that know the token, any number at once."""

    def __init__(self, make: Make, token: str, host: str) -> None:
        self._make = make
        self._token = token
        self._host = host
        self._running: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first line to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        lines = Lines(reader, writer)
        try:
            await self._session(lines)
        except BadLine as error:
            lines.send(**{"is": "refused", "reason": str(error)})
        finally:
            self._running.discard(task)
            await lines.aclose()

    async def aclose(self) -> None:
        """End every session."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _session(self, lines: Lines) -> None:
        first = await lines.next()
        if first is None:
            return
        if not hmac.compare_digest(str(first.get("token")).encode(), self._token.encode()):
            lines.send(**{"is": "refused", "reason": "the token is not this fake's: give both ends the same ANECHOIC_TOKEN"})
            return
        history = History(keep=False)  # the harness has all of it
        tie = Tie(lines, history)
        settings = first.get("settings") or {}
        try:
            part = await self._make(settings, history, tie, tie.log, self._token)
        except (ValueError, KeyError) as error:
            lines.send(**{"is": "refused", "reason": f"settings {settings}: {error}"})
            return
        names: list[str | None] = settings.get("instances") or [None]
        sockets = [bind(self._host) for _ in names]
        ports = {port_of(listening): name for listening, name in zip(sockets, names, strict=True)}
        server = Server(
            skin(part.endpoint, title=part.title, history=history, token=self._token, instance_of=ports.get), sockets
        )
        befalling: set[asyncio.Task[None]] = set()
        try:
            await server.start()
            lines.send(**{"is": "begun", "ports": list(ports), **part.told})
            async for line in lines:
                if line["do"] == "faults":
                    tie.answered(line)
                elif line["do"] == "befall":
                    task = asyncio.create_task(_befall(part, tie, lines, line))
                    befalling.add(task)
                    task.add_done_callback(befalling.discard)
                elif line["do"] == "replica" and part.replica is not None:
                    part.replica(line["name"], line["life"], line["url"])
        finally:
            tie.cut()
            await server.stop()
            await asyncio.gather(*befalling, return_exceptions=True)
            await part.close()


async def _befall(part: Part, tie: Tie, lines: Lines, line: Mapping[str, Any]) -> None:
    error = None
    try:
        if part.runs is None:
            raise ValueError(f"{part.title} has no runs")
        await part.runs.befall(tie.fault(line["fault"]), line["run_id"], line["conversation"])
    except Exception as failed:
        error = f"{type(failed).__name__}: {failed}"
    lines.send(**{"is": "befallen", "id": line["id"], "error": error})
