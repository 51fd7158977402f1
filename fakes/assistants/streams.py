"""A run told as server-sent events while it happens, up to requires_action or its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fakes.assistants.core import Core
from fakes.assistants.delivery import one
from fakes.assistants.errors import ApiError
from fakes.assistants.objects import Thread
from fakes.assistants.runs import WORKING, Run
from fakes.assistants.watch import View
from fakes.encoding import encode
from fakes.exchange import Cut
from fakes.faults import Fault
from fakes.history import Event, History, InstanceExited

Tell = Callable[[View], Awaitable[Sequence[Fault]]]
"""Records that a run is told, and holds it where a fault says so; returns the faults that befall the telling."""

GOES_ON = ("queued", "in_progress", "cancelling")
"""The statuses after which a stream has more to tell."""

_DONE = b"event: done\ndata: [DONE]\n\n"
_BROKEN = ApiError(500, "The server had an error while processing your request.").json()


class RunStream:
    """The answer to one request with `stream: true`.

    What happens to the run is noted at once, as it was then, and told in that order. Every event that carries the run counts
    as an answer that tells its state: it is recorded, and held where a barrier is closed, before it leaves. Iterating raises
    Cut where the connection ends before the stream does.
    """

    def __init__(self, streams: Streams, instance: str | None) -> None:
        self.instance = instance
        self._streams = streams
        self._run: Run | None = None
        self._tell: Tell | None = None
        self._happened: deque[tuple[str, bytes, View | None]] = deque()
        self._awake = asyncio.Event()
        self._left = False

    def begin(self, run: Run, thread: Thread | None) -> None:
        """Follow a new run from its creation on; `thread` is given when it was created with the run."""
        self.follow(run)
        if thread is not None:
            self._note("thread.created", thread.json())
        self._note("thread.run.created", run.json())
        self._note("thread.run.queued", run.json())

    def follow(self, run: Run) -> None:
        """Follow a run from now on, and no other one."""
        self.close()
        self._streams.opened[self] = None
        self._happened.clear()
        self._run = run
        run.followers.append(self._note)

    def catch_up(self, view: View) -> None:
        """Begin with `view` where it is old, and where nothing has happened since the run is followed."""
        if view.stale:
            self._happened.clear()
        if not self._happened:
            self._happened.append((f"thread.run.{view.status}", view.body, view))

    def told_by(self, tell: Tell) -> RunStream:
        """Let it be iterated."""
        self._tell = tell
        return self

    def leave(self) -> None:
        """Nobody listens any more: iterating ends soon."""
        self._left = True
        self._awake.set()

    def close(self) -> None:
        """Let go of the run."""
        self._streams.opened.pop(self, None)
        if self._run is not None and self._note in self._run.followers:
            self._run.followers.remove(self._note)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What leaves at a time: one or more whole events."""
        assert self._tell is not None
        assert self._run is not None
        ready: list[bytes] = []
        try:
            while True:
                if ready and (not self._happened or self._happened[0][2] is not None):
                    yield b"".join(ready)
                    ready.clear()
                if self._left:
                    raise Cut
                if not self._happened:
                    await self._more()
                    continue
                name, data, view = self._happened.popleft()
                ready.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))
                if view is None:
                    continue
                cut = one(await self._tell(view), "cut_stream")
                if cut is not None:
                    yield b"".join(ready)
                    cut.injected(f"the stream of {self._run.id} ended after {name}")
                    if cut.args.get("how", "cut") == "cut":
                        raise Cut
                    yield b"event: error\ndata: %b\n\n" % encode(_BROKEN) + _DONE
                    return
                if view.status not in GOES_ON:
                    yield b"".join([*ready, _DONE])
                    return
        finally:
            self.close()

    async def _more(self) -> None:
        """Wait until something happens; expiry happens when a run is looked at."""
        run = self._run
        assert run is not None
        self._awake.clear()
        try:
            async with asyncio.timeout(self._streams.seconds_left(run)):
                await self._awake.wait()
        except TimeoutError:
            self._streams.look(run)

    def _note(self, name: str, thing: dict[str, Any]) -> None:
        run, data = self._run, encode(thing)
        assert run is not None
        view = View(data, run.status, run.pending) if thing["object"] == "thread.run" else None
        self._happened.append((name, data, view))
        self._awake.set()


class Streams:
    """The streams that are open. Those of an instance end with its process: what it is not told, it does not know."""

    def __init__(self, core: Core, history: History) -> None:
        self.opened: dict[RunStream, None] = {}
        self._core = core
        history.subscribe(self._noticed)

    def open(self, wanted: bool | None, instance: str | None) -> RunStream | None:
        """A new stream, None where the request asks for none."""
        return RunStream(self, instance) if wanted else None

    def end_all(self) -> None:
        """End every stream, wherever it is."""
        for stream in list(self.opened):
            stream.leave()

    def seconds_left(self, run: Run) -> float | None:
        """Until the run expires; None when it will not."""
        return max(0.0, run.expires_at - self._core.clock()) if run.status in WORKING else None

    def look(self, run: Run) -> None:
        """Have the run expire if it is time."""
        self._core.look(run)

    def _noticed(self, event: Event) -> None:
        if self.opened and isinstance(event, InstanceExited):
            for stream in list(self.opened):
                if stream.instance == event.instance:
                    stream.leave()
