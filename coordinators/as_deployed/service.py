"""One instance of the deployed design: its parts put together behind the coordinator protocol."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coordinators.as_deployed.coordinator import Coordinator, Turn
from coordinators.as_deployed.handler import Handler
from coordinators.as_deployed.store import Store, open_store
from coordinators.common.asgi import App, Reply, text_field
from coordinators.common.assistants import Assistants
from coordinators.common.gateway import Gateway, ToolResult, posted_result
from coordinators.common.http import Http, NoAnswer
from coordinators.common.log import Log, Sink, to_stdout
from coordinators.common.settings import Settings

if TYPE_CHECKING:
    import httpx

STOP_WITHIN = 1.0
"""Seconds that a graceful stop gives the turns in flight."""


class AsDeployed:
    """Coordinator and submission handler in one process, or one of the two (ROLE)."""

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        sink: Sink = to_stdout,
    ) -> None:
        self._settings = settings
        self._http = Http(transport, secure=settings.secure)
        self._store = open_store(Store, settings.store)
        log = Log(clock, sink)
        assistants = Assistants(
            self._http, settings.assistants_url,
            assistant_id=settings.assistant_id, api_key=settings.api_key, timeout=settings.client_timeout,
        )
        gateway = Gateway(
            self._http, settings.gateway_url, results_url=settings.results_url, timeout=settings.tool_timeout
        )
        self.coordinator = Coordinator(settings, assistants, gateway, self._store, log, self._deliver)
        self.handler = Handler(self._store, assistants, log, clock)
        self._stopping = False

    async def start(self) -> None:
        """Nothing runs before the first turn."""

    async def stop(self) -> None:
        """Let the turns in flight end within a second, then drop them."""
        if self._stopping:
            return
        self._stopping = True
        await self.coordinator.stop(STOP_WITHIN)
        await self.handler.stop()
        await self._http.aclose()
        await self._store.close()

    def healthz(self) -> Reply:
        """Ready as soon as it answers."""
        return 200, {"async_tools": True, "in_doubt": False}

    async def post_turn(self, body: dict[str, Any]) -> Reply:
        """Begin a turn that this instance does not remember."""
        if self._settings.role == "handler":
            return 404, {"error": {"message": "this instance is a submission handler: it takes no turns"}}
        if self._stopping:
            return 503, {"error": {"message": "this instance is stopping"}}
        thread_id = body.get("thread_id")
        turn = Turn(
            text_field(body, "turn_id"), text_field(body, "message"), thread_id if isinstance(thread_id, str) else None
        )
        self.coordinator.take(turn)
        return 202, {"turn_id": turn.turn_id, "status": "accepted"}

    async def get_turn(self, turn_id: str) -> Reply:
        """The state of a turn that this instance remembers."""
        turn = self.coordinator.turns.get(turn_id)
        if turn is None:
            return 404, {"error": {"message": f"no turn {turn_id} on this instance"}}
        fields = {"status": turn.status, "thread_id": turn.thread_id, "run_id": turn.run_id, "detail": turn.detail}
        return 200, {name: value for name, value in fields.items() if value is not None}

    async def post_tool_result(self, body: dict[str, Any]) -> Reply:
        """Queue a result of the gateway."""
        if self._settings.role == "coordinator":
            return 404, {"error": {"message": "this instance is a coordinator: it takes no tool results"}}
        result = posted_result(body)
        if result is not None:
            await self.handler.receive(result)
        return 200, {"status": "queued" if result is not None else "ignored"}

    async def in_doubt(self) -> Reply:
        """This design never doubts."""
        return 200, {"calls": []}

    async def _deliver(self, result: ToolResult) -> None:
        """Hand a result that came in the gateway's answer to the submission handler, as the gateway would."""
        body = {
            "thread_id": result.thread_id, "run_id": result.run_id, "step_id": result.step_id,
            "tool_call_id": result.tool_call_id, "output": result.output,
        }
        with contextlib.suppress(NoAnswer):
            await self._http.request("POST", self._settings.results_url, timeout=self._settings.client_timeout, data=body)


def create_app(
    environ: Mapping[str, str],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    sink: Sink = to_stdout,
) -> App:
    """The ASGI app of one instance. Raises SettingsError or StoreUnsupported for a wrong environment.

    Args:
        transport: carries every request that the instance sends; None uses real connections.
        clock: seconds since the epoch.
        sink: takes the log, line by line.
    """
    return App(AsDeployed(Settings.from_environ(environ), transport=transport, clock=clock, sink=sink))
