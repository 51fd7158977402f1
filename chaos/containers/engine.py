"""The container engine, through the SDK `docker`: its calls run in threads, its events come into the loop.

Only containers that were named (or carry a named label) are ever looked up, and only those can be broken.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from chaos.containers.selection import connect, select
from chaos.wire.errors import WireError

T = TypeVar("T")
Notice = Callable[[str, Mapping[str, str]], None]
"""Takes an action of one container (die, oom, start ...) and its attributes."""
THREADS = 8


class EngineError(WireError, OSError):
    """The engine refused a call, or is gone: as a fault it could not be injected, anywhere else the run cannot go on."""


class Engine:
    """A connection to the engine that DOCKER_HOST names, or to the default one.

    Args:
        lost: told why when the engine goes away.
    """

    def __init__(self, lost: Callable[[str], None] = lambda reason: None) -> None:
        self._client = connect()
        self.api: Any = self._client.api
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="anechoic-engine")
        self._notices: dict[str, Notice] = {}
        self._closing = False
        self._events = self._client.events(decode=True, filters={"type": "container"})
        self._listener = threading.Thread(target=self._listen, name="anechoic-engine-events", daemon=True)
        self._listener.start()

    async def call(self, work: Callable[..., T], *args: Any, **more: Any) -> T:
        """Run one call of the SDK in a thread. Raises EngineError."""
        import docker.errors
        import requests

        try:
            return await self._loop.run_in_executor(self._threads, lambda: work(*args, **more))
        except docker.errors.APIError as error:
            raise EngineError(f"the container engine refused {_asked(error)}: {error.explanation or error}") from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EngineError(f"the container engine is gone: {error}") from None

    async def find(self, *, names: Sequence[str] = (), labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What `chaos.containers.selection.select` finds."""
        return await self.call(select, self.api, names=names, labels=labels)

    def watch(self, container: str, notice: Notice) -> None:
        """Have `notice` called, in the loop, with every action of this container (its full id)."""
        self._notices[container] = notice

    async def aclose(self) -> None:
        """Close the connection; safe to call twice."""
        self._closing = True
        self._events.close()
        await asyncio.to_thread(self._listener.join, 5)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _listen(self) -> None:
        reason = "is gone: it closed the stream of its events"
        answer = getattr(self._events, "_response", None)  # the SDK takes a refusal for the end of the stream
        if answer is not None and not answer.ok:
            reason = f"refused the stream of its events with {answer.status_code}: {answer.text.strip()}"
        try:
            for event in self._events:
                notice = self._notices.get(event["Actor"]["ID"])
                if notice is not None:
                    action = event["Action"].partition(":")[0]
                    self._loop.call_soon_threadsafe(notice, action, event["Actor"]["Attributes"])
        except Exception as error:  # whatever ends the stream: the engine is gone, or this run is over
            reason = f"is gone: {type(error).__name__}: {error}"
        if not self._closing:
            self._loop.call_soon_threadsafe(self._lost, f"the container engine {reason}")


def _asked(error: Any) -> str:
    """What was asked for, and the status of the refusal: an APIError carries the answer."""
    answer = error.response
    return f"{answer.request.method} {answer.request.path_url} with {answer.status_code}"
