"""One instance of the hardened design: its parts put together behind the coordinator protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coordinators.common.asgi import App, Reply, text_field
from coordinators.common.assistants import Assistants
from coordinators.common.gateway import Gateway, posted_result
from coordinators.common.http import Http
from coordinators.common.log import Log, Sink, to_stdout
from coordinators.common.settings import Settings
from coordinators.common.stores import StoreUnavailable
from coordinators.hardened.coordinator import Coordinator
from coordinators.hardened.dispatch import Dispatcher
from coordinators.hardened.lease import Lease
from coordinators.hardened.opening import Opening
from coordinators.hardened.records import Turn
from coordinators.hardened.store import Store, open_store
from coordinators.hardened.submission import Receiver, Submission

if TYPE_CHECKING:
    import httpx

STOP_WITHIN = 1.5
"""Seconds that a graceful stop gives the calls in flight."""


class Hardened:
    """Coordinator and submission handler in one process, or one of the two (ROLE).

    The classes of its parts are attributes, so that a variant replaces one part and keeps the others.
    """

    store_class: type[Store] = Store
    opening_class: type[Opening] = Opening
    dispatcher_class: type[Dispatcher] = Dispatcher
    submission_class: type[Submission] = Submission
    receiver_class: type[Receiver] = Receiver
    coordinator_class: type[Coordinator] = Coordinator
    lease_class: type[Lease] = Lease

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        sink: Sink = to_stdout,
    ) -> None:
        self.settings = settings
        self.log = Log(clock, sink)
        self.store = open_store(self.store_class, settings.store)
        self._http = Http(transport, secure=settings.secure)
        assistants = Assistants(
            self._http, settings.assistants_url,
            assistant_id=settings.assistant_id, api_key=settings.api_key, timeout=settings.client_timeout,
        )
        gateway = Gateway(
            self._http, settings.gateway_url, results_url=settings.results_url, timeout=settings.tool_timeout
        )
        self.dispatcher = self.dispatcher_class(
            gateway, self.store, self.log, clock, patience=settings.patience, tool_timeout=settings.tool_timeout
        )
        self.receiver = self.receiver_class(self.store, self.dispatcher, self.log)
        self.coordinator = self.coordinator_class(
            assistants,
            self.store,
            self.log,
            self.opening_class(assistants, self.store, self.log),
            self.dispatcher,
            self.submission_class(assistants, self.store, self.log),
            poll_interval=settings.poll_interval,
        )
        self.lease = self.lease_class(
            self.store, self.log, settings.instance_id, settings.lease, self.coordinator.take, self.coordinator.conducts
        )
        self._background: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Keep the lease and learn what the gateway offers, in the background."""
        if self.settings.role != "handler":
            self._background = [
                asyncio.create_task(self.lease.keep()),
                asyncio.create_task(self.dispatcher.learn()),
            ]

    async def stop(self) -> None:
        """Let the calls in flight come to their results within a moment, then give every turn back."""
        if self._stopping:
            return
        self._stopping = True
        self.lease.taking = False
        await self.coordinator.stop(STOP_WITHIN)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.release()
        await self._http.aclose()
        await self.store.close()

    async def release(self) -> None:
        """Give every turn back, so that another instance takes it at once."""
        try:
            if self.lease.owner is not None:
                await self.store.release(self.lease.owner)
        except StoreUnavailable as error:
            self.log.coordinator("WARN", f"turns not released, their lease will run out: {error}")

    def healthz(self) -> Reply:
        """Ready once the store has given this instance its name."""
        ready = not self._stopping and (self.lease.owner is not None or self.settings.role == "handler")
        return (200 if ready else 503), {"async_tools": True, "in_doubt": True}

    async def post_turn(self, body: dict[str, Any]) -> Reply:
        """Take a turn that is new to every instance; the others are known already, and go on as they are."""
        if self.settings.role == "handler":
            return 404, {"error": {"message": "this instance is a submission handler: it takes no turns"}}
        if self._stopping or self.lease.owner is None:
            return 503, {"error": {"message": "this instance is stopping, or not ready yet"}}
        thread_id = body.get("thread_id")
        turn = Turn(
            turn_id=text_field(body, "turn_id"),
            conversation_id=text_field(body, "conversation_id"),
            user_id=text_field(body, "user_id"),
            message=text_field(body, "message"),
            thread_id=thread_id if isinstance(thread_id, str) else None,
        )
        taken = await self.store.accept(turn, self.lease.owner)
        if taken is not None and not self._stopping:  # it is given back with the others then
            self.coordinator.take(taken)
        return 202, {"turn_id": turn.turn_id, "status": "accepted"}

    async def get_turn(self, turn_id: str) -> Reply:
        """The state of a turn, whichever instance conducts it."""
        turn = await self.store.turn(turn_id)
        if turn is None:
            return 404, {"error": {"message": f"no turn {turn_id}"}}
        fields = {"status": turn.status, "thread_id": turn.thread_id, "run_id": turn.run_id, "detail": turn.detail}
        return 200, {name: value for name, value in fields.items() if value is not None}

    async def post_tool_result(self, body: dict[str, Any]) -> Reply:
        """Take a result of the gateway."""
        if self.settings.role == "coordinator":
            return 404, {"error": {"message": "this instance is a coordinator: it takes no tool results"}}
        result = posted_result(body)
        status = "ignored: it names no call" if result is None else await self.receiver.receive(result)
        return 200, {"status": status}

    async def in_doubt(self) -> Reply:
        """The calls of all instances that could not be decided."""
        return 200, {"calls": await self.store.in_doubt()}


def create_app(
    environ: Mapping[str, str],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    sink: Sink = to_stdout,
    service: type[Hardened] = Hardened,
) -> App:
    """The ASGI app of one instance. Raises SettingsError or StoreUnsupported for a wrong environment.

    Args:
        transport: carries every request that the instance sends; None uses real connections.
        clock: seconds since the epoch.
        sink: takes the log, line by line.
        service: the design, or a variant of it.
    """
    return App(service(Settings.from_environ(environ), transport=transport, clock=clock, sink=sink))
