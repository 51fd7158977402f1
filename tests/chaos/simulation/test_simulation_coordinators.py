"""Ways to give a coordinator: by name, a factory, an ASGI app, a plain class."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.plan import Plan
from chaos.simulation import Settings, simulate
from chaos.simulation.coordinator import load, references
from chaos.turns import make
from fakes.gateway.profile import PROFILES

APP = '''
import asyncio, json, os, random, time, uuid
import httpx
from memory.state import turns

birth = (os.environ["INSTANCE_ID"], len(turns), time.time(), random.random(), str(uuid.uuid4()))

async def conduct(turn):
    base, assistant = os.environ["ASSISTANTS_BASE_URL"], os.environ["ASSISTANT_ID"]
    async with httpx.AsyncClient(timeout=2) as http:
        thread = (await http.post(base + "/threads", json={})).json()["id"]
        await http.post(f"{base}/threads/{thread}/messages", json={"role": "user", "content": turn["message"]})
        run = (await http.post(f"{base}/threads/{thread}/runs", json={"assistant_id": assistant})).json()
        url = f"{base}/threads/{thread}/runs/{run['id']}"
        while run["status"] != "completed":
            await asyncio.sleep(0.05)
            run = (await http.get(url)).json()
            if run["status"] == "requires_action":
                outputs = []
                for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]:
                    tool = os.environ["TOOL_GATEWAY_URL"] + "/tools/" + call["function"]["name"]
                    done = await http.post(tool, json={"arguments": json.loads(call["function"]["arguments"])})
                    outputs.append({"tool_call_id": call["id"], "output": done.json()["output"]})
                await http.post(url + "/submit_tool_outputs", json={"tool_outputs": outputs})
    turns[turn["turn_id"]] = {"status": "done", "detail": repr(birth)}

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    status, answer = 200, {}
    if scope["method"] == "POST":
        turn = json.loads((await receive())["body"])
        if turn["turn_id"] not in turns:
            turns[turn["turn_id"]] = {"status": "running"}
            turns["task"] = asyncio.create_task(conduct(turn))
    elif scope["path"].startswith("/turns/"):
        answer = turns.get(scope["path"].rsplit("/", 1)[1])
        status = 200 if answer else 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with an ASGI app whose memory is in module globals."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "__init__.py").write_text("")
    (tmp_path / "memory" / "state.py").write_text("turns = {}\n")
    (tmp_path / "memory" / "web.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("INSTANCE_ID", "outside")
    yield "memory.web:app"
    for name in ("memory", "memory.state", "memory.web"):
        sys.modules.pop(name, None)


def test_an_asgi_app_is_imported_afresh_for_every_life(package: str, rule: Callable[..., Plan], run: Any, kinds: Any) -> None:
    """Each instance has memory and environment of its own, and a crash forgets; clocks, dice and ids are seeded."""
    plan = rule({"event": "run_created", "per": "all"}, {"fault": "kill"})
    events = run(plan, turns=2, coordinator=package)
    details = [e.detail for e in kinds(events, "turn_ended")]
    assert len(details) == 2
    assert all("('coordinator-" in d and "', 0, 17733096" in d for d in details)
    again = run(plan, turns=2, coordinator=package)
    assert [e.detail for e in kinds(again, "turn_ended")] == details
    other = run(plan, turns=2, coordinator=package, seed=2)
    assert [e.detail for e in kinds(other, "turn_ended")] != details


def test_reference_coordinators_go_by_name() -> None:
    """The name of a package in `coordinators` stands for its create_app."""
    assert {"as_deployed", "hardened"} <= set(references())
    assert load("hardened").label == "hardened"


def test_a_factory_gets_what_it_names(settings: Callable[..., Settings], plain: Any) -> None:
    """The environment under whatever name comes first, and only what the signature asks for."""
    given: dict[str, Any] = {}

    def create(env: Any, *, clock: Any, sink: Any, tools: Any, assistants: Any, transport: Any, extra: int = 3) -> Any:
        given.update(locals())
        return plain(assistants=assistants, tools=tools, environ=env, clock=clock)

    lines: list[str] = []
    simulate(settings(coordinator=create, instances=1, sink=lines.append, environ={"LEASE": "3"}), [make(1, 0)])
    assert given["env"]["INSTANCE_ID"] == "coordinator-1"
    assert given["env"]["LEASE"] == "3"
    assert given["extra"] == 3
    given["sink"]("a line")
    assert lines == ["a line"]


def test_in_doubt_and_capabilities_of_a_plain_class(run: Any, kinds: Any, plain: Any) -> None:
    """They are asked for as on the wire."""
    class Doubting(plain):  # type: ignore[misc]
        capabilities = {"async_tools": False, "in_doubt": True}

        async def in_doubt(self) -> Any:
            return [{"tool_call_id": "call_1", "run_id": "run_1"}]

    events = run(coordinator=Doubting, instances=2)
    assert [(e.instance, e.tool_call_id) for e in kinds(events, "in_doubt_reported")] == [
        ("coordinator-1", "call_1"), ("coordinator-2", "call_1"),
    ]
    assert kinds(events, "instance_ready")[0].capabilities == {"async_tools": False, "in_doubt": True}


def test_results_come_to_the_instance_that_asked(run: Any, kinds: Any, plain: Any, rule: Callable[..., Plan]) -> None:
    """Asynchronous tools post over the tool-results edge, at least once, through its faults."""
    class Later(plain):  # type: ignore[misc]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.arrived: dict[str, asyncio.Future[str]] = {}

        async def results(self, result: Any) -> None:
            await super().results(result)
            if not self.arrived[result["tool_call_id"]].done():
                self.arrived[result["tool_call_id"]].set_result(result["output"])

        async def tool(self, call: Any, run_id: str) -> str:
            arrived = self.arrived[call["id"]] = asyncio.get_running_loop().create_future()
            arguments = {"reference": call["id"]}
            accepted = await self.tools.call(call["function"]["name"], arguments, tool_call_id=call["id"], results=True)
            assert accepted["status"] == "accepted"
            return await arrived

    events = run(coordinator=Later)
    assert {e.http_status for e in kinds(events, "callback_posted")} == {200}
    down = {"fault": "proxy_down", "proxy": "tool-results", "seconds": 0.3}
    events = run(rule({"event": "callback_due", "per": "all"}, down), coordinator=Later)
    assert [e.http_status for e in kinds(events, "callback_posted")][:2] == [None, None]
    assert kinds(events, "turn_ended")[0].status == "done"


def test_what_a_plain_class_raises_is_a_500(run: Any, kinds: Any, plain: Any) -> None:
    """The turn is delivered again, elsewhere."""
    class Moody(plain):  # type: ignore[misc]
        async def start(self, turn: Any) -> None:
            if self.environ["INSTANCE_ID"] == "coordinator-1":
                raise ValueError("not today")
            await super().start(turn)

    events = run(coordinator=Moody)
    assert [(e.http_status, e.reason) for e in kinds(events, "turn_answered")] == [(500, "ValueError: not today"), (202, None)]


def test_the_reference_coordinators_run_unchanged(kinds: Any) -> None:
    """Both do everything exactly once on a calm day."""
    for name in ("hardened", "as_deployed"):
        events = simulate(Settings(coordinator=name, gateway=PROFILES["keyless"]), [make(3, n) for n in range(4)]).events
        calls = sum(len(step) for e in kinds(events, "turn_planned") for step in e.calls)
        assert len(kinds(events, "effect_committed")) == calls
