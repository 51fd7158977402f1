"""One instance as a process: environment in, HTTP on 127.0.0.1:$PORT, graceful stop at SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

import uvicorn

from coordinators.common.asgi import App
from coordinators.common.settings import Settings, SettingsError
from coordinators.common.stores import StoreUnsupported


class _Server(uvicorn.Server):
    """Stops the service first and the listening socket last, so that results can still come in meanwhile."""

    def __init__(self, app: App, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app, host=os.environ.get("HOST") or "127.0.0.1", port=port, http="httptools", ws="none", lifespan="on",
                log_level="warning", access_log=False, proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
                server_header=False, date_header=False,
            )
        )
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        await super().startup()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._loop is not None and self._stopping is None:
            self._loop.call_soon_threadsafe(self._begin_stop)
        else:
            self.should_exit = True

    def _begin_stop(self) -> None:
        self._stopping = asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        try:
            await self._app.service.stop()
        finally:
            self.should_exit = True


def main(create_app: Callable[[Mapping[str, str]], App]) -> int:
    """Serve one instance until it is told to stop; returns the exit code (2 for a wrong environment)."""
    try:
        settings = Settings.from_environ(os.environ)
        app = create_app(os.environ)
    except (SettingsError, StoreUnsupported) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    server = _Server(app, settings.port)
    server.run()
    return 0 if server.started else 3
