"""A small coordinator without HTTP, and what a simulation of it is made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from chaos.plan import Plan, parse
from chaos.simulation import Settings, Simulation
from chaos.simulation.clients import ClientError
from chaos.turns import make
from fakes import history as h
from fakes.gateway.profile import PROFILES


class Plain:
    """Polls, calls each tool in place once, submits; forgets everything when it dies. Notes what happens to it in `log`."""

    log: list[str] = []
    """of every instance together; each test has its own"""

    def __init__(self, *, assistants: Any, tools: Any, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self.assistants = assistants
        self.tools = tools
        self.environ = environ
        self.clock = clock
        self.turns: dict[str, dict[str, Any]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def note(self, text: str) -> None:
        self.log.append(f"{self.environ['INSTANCE_ID']}: {text}")

    async def start(self, turn: Mapping[str, str]) -> None:
        if turn["turn_id"] not in self.turns:
            self.turns[turn["turn_id"]] = {"status": "running"}
            task = asyncio.create_task(self.conduct(turn))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def results(self, result: Mapping[str, Any]) -> None:
        self.note(f"result of {result['tool_call_id']}")

    async def status(self, turn_id: str) -> Mapping[str, Any] | None:
        return self.turns.get(turn_id)

    async def stop(self) -> None:
        self.note("stop")

    async def conduct(self, turn: Mapping[str, str]) -> None:
        try:
            await self.follow(turn)
            self.turns[turn["turn_id"]] = {"status": "done"}
        except ClientError as error:
            self.note(f"{type(error).__name__}: {error}")
            self.turns[turn["turn_id"]] = {"status": "failed", "detail": str(error)}
        finally:
            self.note("finally")

    async def follow(self, turn: Mapping[str, str]) -> None:
        thread = await self.assistants.create_thread()
        await self.assistants.add_message(thread, turn["message"], {"turn_id": turn["turn_id"]})
        run = await self.assistants.create_run(thread)
        while run["status"] not in ("completed", "failed", "cancelled", "expired"):
            await asyncio.sleep(0.05)
            run = await self.assistants.run(thread, run["id"])
            if run["status"] == "requires_action":
                calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
                outputs = [(call["id"], await self.tool(call, run["id"])) for call in calls]
                await self.assistants.submit(thread, run["id"], outputs)

    async def tool(self, call: Mapping[str, Any], run_id: str) -> str:
        arguments = json.loads(call["function"]["arguments"])
        done = await self.tools.call(call["function"]["name"], arguments, tool_call_id=call["id"], run_id=run_id)
        return str(done["output"])


Run = Callable[..., "list[h.Event]"]


@pytest.fixture
def plain() -> type[Plain]:
    """The small coordinator, with a log of its own."""
    return type("Plain", (Plain,), {"log": []})


@pytest.fixture
def settings(plain: type[Plain]) -> Callable[..., Settings]:
    """`settings(...)` for the small coordinator behind a keyless gateway, unless said otherwise."""

    def make_settings(**more: Any) -> Settings:
        return Settings(**{"coordinator": plain, "gateway": PROFILES["keyless"], "instances": 2, "stall": 20.0, **more})

    return make_settings


@pytest.fixture
def rule() -> Callable[..., Plan]:
    """`rule(when, do)` is a plan of one rule."""
    return lambda when, *do: parse({"name": "p", "rules": [{"when": when, "do": list(do)}]})


@pytest.fixture
def run(settings: Callable[..., Settings], plain: type[Plain]) -> Run:
    """`run(plan, turns=1, ...)`: the events of a whole simulation; the coordinator's log is as it was at its end."""

    def run_it(plan: Plan | None = None, turns: int = 1, **more: Any) -> list[h.Event]:
        with Simulation(settings(**more)) as simulation:
            simulation.bind([], [plan] if plan else [])
            simulation.deliver([make(1, number) for number in range(turns)])
            simulation.quiesce()
            seen = list(plain.log)
        plain.log[:] = seen
        assert not [e for e in simulation.history.events if isinstance(e, h.FaultFailed)]
        return simulation.history.events

    return run_it


@pytest.fixture
def kinds() -> Callable[[Sequence[h.Event], str], list[Any]]:
    """`kinds(events, word)`: the events of that kind."""
    return lambda events, word: [e for e in events if e.kind == word]
