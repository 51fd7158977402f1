"""Whether the containers of a compose project are well, and what those that are not have said last."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

from chaos.containers.container import last_words
from chaos.containers.engine import Engine, EngineError
from chaos.containers.layout import PART, Layout
from chaos.containers.selection import name_of

ONE_OFF = "com.docker.compose.oneoff"
"""Compose's label of what `compose run` has started: the harness itself."""
NEWS = 0.5
"""Seconds after which the engine shows that a container has ended."""


class Health:
    """The containers of a project.

    Args:
        lost: told why when a part ends that no fault is for: a fake, or the proxies.
    """

    def __init__(self, engine: Engine, layout: Layout, lost: Callable[[str], None]) -> None:
        self._engine = engine
        self._layout = layout
        self._lost = lost

    async def watch(self) -> None:
        """From now on tell `lost`, also of what has ended before."""
        for found in await self._all():
            if _has_no_fault(found):
                self._engine.watch(found["Id"], functools.partial(self._notice, found))
                if not found["State"]["Running"]:
                    self._notice(found, "die", {})

    async def report(self, told: str) -> str:
        """What was `told`, and the last lines of every container that is not well, where they are not in it."""
        await asyncio.sleep(NEWS)
        texts = [told]
        try:
            for found in await self._all():
                trouble = trouble_of(found, self._engine)
                if trouble is not None and trouble.splitlines()[-1] not in told:
                    texts.append(trouble)
        except EngineError as error:
            texts.append(str(error))
        return "\n".join(texts)

    async def _all(self) -> list[Any]:
        found = await self._engine.find(labels=self._layout.labels())
        return [container for container in found if container["Config"]["Labels"].get(ONE_OFF) != "True"]

    def _notice(self, found: Any, action: str, said: Mapping[str, str]) -> None:
        if action == "die":
            words = last_words(self._engine, found["Id"])
            self._lost(f"{name_of(found)} has ended by itself; the last lines of its log:\n{words}")


def trouble_of(found: Any, engine: Engine) -> str | None:
    """What is wrong with a container, and the last lines of its log; None when it is well, or was stopped on purpose.

    Blocks for a moment where something is.
    """
    state = _state(found)
    if state is None:
        return None
    return f"{name_of(found)} {state}; the last lines of its log:\n{last_words(engine, found['Id'])}"


def _state(found: Any) -> str | None:
    state = found["State"]
    if state["Restarting"]:
        return f"starts again and again, and ended with exit code {state['ExitCode']}"
    if not state["Running"]:
        on_purpose = state["ExitCode"] in (0, 137, 143) and not _has_no_fault(found)
        return None if on_purpose else f"has ended with exit code {state['ExitCode']}"
    return "is unhealthy" if (state.get("Health") or {}).get("Status") == "unhealthy" else None


def _has_no_fault(found: Any) -> bool:
    return PART not in found["Config"]["Labels"]
