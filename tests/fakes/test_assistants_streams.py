"""Runs told as streams: which events come in which order, what of it counts as told, and what faults do to a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.exchange import Cut, Reply, Request
from fakes.faults import FAKE_FAULTS, Fault
from fakes.history import Event, History, InstanceExited, RunTold, SubmitAccepted, of_kind
from fakes.ids import Ids

SETTINGS = {"model": "gpt-4o"}
TO_ACTION = [
    "thread.run.created", "thread.run.queued", "thread.run.in_progress", "thread.run.step.created",
    "thread.run.step.in_progress", "thread.run.step.delta", "thread.run.requires_action", "done",
]  # fmt: skip
TO_THE_END = [
    "thread.run.step.completed", "thread.run.queued", "thread.run.in_progress", "thread.run.step.created",
    "thread.run.step.in_progress", "thread.message.created", "thread.message.in_progress", "thread.message.delta",
    "thread.message.completed", "thread.run.step.completed", "thread.run.completed", "done",
]  # fmt: skip


class Api:
    """An endpoint whose serving layer asks for two calls, then closes; a rule fires once, at the first event that fits."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1_800_000_000.0
        self.rules: list[tuple[str, dict[str, Any], Fault]] = []
        self.injected: list[str | None] = []
        self.history = History()
        self.hold: asyncio.Event | None = None
        self.finish = "stop"
        self.core = Core(lambda: self.now, Ids(5))
        self.endpoint = AssistantsEndpoint(self.core, self.history, self, self.generate, **settings)
        self.replies: list[Reply] = []

    def when(self, point: str, fault: str, where: dict[str, Any] | None = None, **args: Any) -> None:
        """Add a rule."""
        assert point in FAKE_FAULTS[fault].points
        self.rules.append((point, where or {}, Fault(fault, args, self.injected.append)))

    async def at(self, event: Event) -> Sequence[Fault]:
        """The nemesis."""
        await asyncio.sleep(0)
        fits = [r for r in self.rules if r[0] == event.kind and all(getattr(event, k) == v for k, v in r[1].items())]
        self.rules = [r for r in self.rules if r not in fits]
        return [fault for _, _, fault in fits]

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """The serving layer."""
        if self.hold is not None:
            await self.hold.wait()
        if any(message.get("tool_calls") for message in body["messages"]):
            return {"choices": [{"message": {"content": "That is done. " * 9}, "finish_reason": self.finish}]}
        calls = [
            {"id": f"call_{body['seed']}_{n}", "type": "function", "function": {"name": n, "arguments": json.dumps({"reference": n * 20})}}
            for n in ("create_ticket", "send_email")
        ]
        return {"choices": [{"message": {"content": None, "tool_calls": calls}}]}

    async def send(self, method: str, path: str, body: Any = None, instance: str = "coordinator-1") -> Reply:
        """One request."""
        data = b"" if body is None else json.dumps(body).encode()
        return await self.endpoint.handle(Request(method, "/v1" + path, body=data, instance=instance))

    async def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request that must be answered with 200 and JSON."""
        reply = await self.send(method, path, body)
        assert reply.status == 200, reply.body
        data: dict[str, Any] = json.loads(reply.body)
        return data

    async def stream(self, path: str, body: dict[str, Any], instance: str = "coordinator-1") -> Told:
        """The events of a streamed request, the last of them None where the connection was cut."""
        reply = await self.send("POST", path, {**body, "stream": True}, instance)
        assert (reply.status, reply.media_type) == (200, "text/event-stream"), reply.body
        self.replies.append(reply)
        told: Told = []
        assert reply.stream is not None
        try:
            async for piece in reply.stream:
                told += [parse(text) for text in piece.decode().removesuffix("\n\n").split("\n\n")]
        except Cut:
            told.append(("cut", None))
        return told

    async def begin(self) -> Told:
        """A run on a new thread, streamed."""
        assistant = await self.call("POST", "/assistants", SETTINGS)
        self.thread = (await self.call("POST", "/threads", {"messages": [{"role": "user", "content": "help"}]}))["id"]
        return await self.stream(f"/threads/{self.thread}/runs", {"assistant_id": assistant["id"]})

    def outputs(self, run: Any) -> dict[str, Any]:
        """What is to be submitted for the calls that a run shows."""
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        return {"tool_outputs": [{"tool_call_id": call["id"], "output": "done"} for call in calls]}

    async def submit(self, run: Any) -> Told:
        """Submit the outputs, streamed."""
        return await self.stream(f"/threads/{self.thread}/runs/{run['id']}/submit_tool_outputs", self.outputs(run))

    async def waiting(self) -> dict[str, Any]:
        """The thread's run, once it waits for outputs."""
        while True:
            run: dict[str, Any] = (await self.call("GET", f"/threads/{self.thread}/runs"))["data"][0]
            if run["status"] == "requires_action":
                return run
            await asyncio.sleep(0.001)

    def told(self) -> list[RunTold]:
        """What the history says that instances were told."""
        return list(of_kind(self.history.events, RunTold))


Told = list[tuple[str, Any]]


def parse(text: str) -> tuple[str, Any]:
    """One server-sent event: its name and its data."""
    first, second = text.split("\n")
    name, data = first.removeprefix("event: "), second.removeprefix("data: ")
    return name, data if data == "[DONE]" else json.loads(data)


def names(told: Told) -> list[str]:
    """The names of the events, deltas in a row counted once."""
    found = [name for name, _ in told]
    return [name for i, name in enumerate(found) if not name.endswith("delta") or found[i - 1] != name]


def play(scene: Callable[[Api], Awaitable[None]], **settings: Any) -> Api:
    """Run a scene against a fresh endpoint; afterwards nothing follows a run any more."""

    async def main() -> Api:
        api = Api(**settings)
        async with asyncio.timeout(10):
            await scene(api)
        await api.endpoint.aclose()
        assert [r for t in api.core.threads.values() for r in t.runs.values() if r.followers] == []
        return api

    return asyncio.run(main())


def test_a_turn_in_two_streams() -> None:
    """A stream ends at requires_action, the submit's goes on to the last word; every event has its object."""

    async def scene(api: Api) -> None:
        told = await api.begin()
        assert names(told) == TO_ACTION
        assert told[-1][1] == "[DONE]"
        run = told[-2][1]
        assert run == await api.call("GET", f"/threads/{api.thread}/runs/{run['id']}")
        pieces = [d["delta"]["step_details"]["tool_calls"][0] for n, d in told if n == "thread.run.step.delta"]
        for index, call in enumerate(run["required_action"]["submit_tool_outputs"]["tool_calls"]):
            mine = [piece for piece in pieces if piece["index"] == index]
            assert (mine[0]["id"], mine[0]["function"]["name"]) == (call["id"], call["function"]["name"])
            assert len(mine) > 2
            assert "".join(piece["function"]["arguments"] for piece in mine) == call["function"]["arguments"]
        created = dict(told)["thread.run.step.created"]
        assert (created["status"], created["step_details"]["tool_calls"]) == ("in_progress", [])

        told = await api.submit(run)
        assert names(told) == TO_THE_END
        outputs = [call["function"]["output"] for call in told[0][1]["step_details"]["tool_calls"]]
        assert (told[0][1]["status"], outputs) == ("completed", ["done", "done"])
        words = [d["delta"]["content"][0]["text"]["value"] for n, d in told if n == "thread.message.delta"]
        message = dict(told)["thread.message.completed"]
        assert len(words) > 2
        assert "".join(words) == message["content"][0]["text"]["value"] == "That is done. " * 9
        first = dict(told)["thread.message.created"]
        assert (first["id"], first["status"], first["content"]) == (message["id"], "in_progress", [])
        assert dict(told)["thread.run.completed"]["usage"] is not None

    api = play(scene)
    assert [(t.status, t.nth) for t in api.told() if t.via == "stream"] == [
        ("queued", 1), ("queued", 2), ("in_progress", 3), ("requires_action", 4),
        ("queued", 6), ("in_progress", 7), ("completed", 8),
    ]  # fmt: skip
    waiting = [t for t in api.told() if t.waiting_for]
    assert [(t.via, len(t.waiting_for), t.instance) for t in waiting] == [("stream", 2, "coordinator-1"), ("poll", 2, "coordinator-1")]


def test_a_thread_and_its_run_in_one_stream() -> None:
    """POST /threads/runs tells of the thread first."""

    async def scene(api: Api) -> None:
        assistant = await api.call("POST", "/assistants", SETTINGS)
        told = await api.stream("/threads/runs", {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "x"}]}})
        assert names(told) == ["thread.created", *TO_ACTION]
        assert told[0][1]["id"] == told[1][1]["thread_id"]
        assert "x-request-id" in api.replies[0].headers

    play(scene)


def test_how_runs_end_on_a_stream() -> None:
    """Cancelled, expired, failed and incomplete runs say so, with the step or the message that ended with them."""

    async def cancelled(api: Api) -> None:
        api.hold = asyncio.Event()
        api.when("run_told", "cancel_run", {"status": "in_progress"})
        assert names(await api.begin())[2:] == ["thread.run.in_progress", "thread.run.cancelling", "thread.run.cancelled", "done"]

    async def cancelled_while_it_waits(api: Api) -> None:
        api.when("action_required", "cancel_run")
        told = await api.begin()
        assert names(told) == TO_ACTION  # it ends where outputs are asked for, whatever comes

    async def expired(api: Api) -> None:
        api.hold = asyncio.Event()
        api.when("run_told", "expire_run", {"status": "in_progress"})
        told = await api.begin()
        assert names(told)[2:] == ["thread.run.in_progress", "thread.run.expired", "done"]
        assert told[-2][1]["status"] == "expired"

    async def failed(api: Api) -> None:
        async def broken(body: dict[str, Any]) -> dict[str, Any]:
            raise RuntimeError("no replica left")

        api.generate = broken  # type: ignore[method-assign]
        api.endpoint = AssistantsEndpoint(api.core, api.history, api, broken)
        told = await api.begin()
        assert names(told)[2:] == ["thread.run.in_progress", "thread.run.failed", "done"]
        assert told[-2][1]["last_error"]["message"] == "no replica left"

    async def incomplete(api: Api) -> None:
        run = (await api.begin())[-2][1]
        api.finish = "length"
        told = await api.submit(run)
        assert names(told)[-4:] == ["thread.message.incomplete", "thread.run.step.completed", "thread.run.incomplete", "done"]
        assert dict(told)["thread.message.incomplete"]["incomplete_details"] == {"reason": "max_tokens"}

    for scene in (cancelled, cancelled_while_it_waits, expired, failed, incomplete):
        play(scene)


@pytest.mark.parametrize(("how", "events"), [
    ("cancel", ["thread.run.cancelling", "thread.run.step.cancelled", "thread.run.cancelled"]),
    ("expire", ["thread.run.step.expired", "thread.run.expired"]),
])  # fmt: skip
def test_whoever_follows_a_run_hears_of_the_step_that_ends_with_it(how: str, events: list[str]) -> None:
    """A stream has ended by then; the core tells every follower."""

    async def scene(api: Api) -> None:
        run = api.core.threads[(await api.begin())[-2][1]["thread_id"]].runs
        heard: list[str] = []
        (followed,) = run.values()
        followed.followers.append(lambda name, thing: heard.append(name))
        if how == "cancel":
            api.core.cancel(followed)
            api.core.cancelled(followed, "cancelled")
        else:
            api.core.expire(followed, "made to expire")
        assert heard == events
        followed.followers.clear()

    play(scene)


def test_expiry_ends_a_stream_that_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A serving layer that never answers: the stream itself notices that the time is over."""
    monkeypatch.setattr("fakes.assistants.runs.LIFETIME", 0.02)

    async def scene(api: Api) -> None:
        api.hold = asyncio.Event()
        reading = asyncio.create_task(api.begin())
        while not any(t.status == "in_progress" for t in api.told()):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)
        assert not reading.done()
        api.now += 0.1
        assert names(await reading)[-2:] == ["thread.run.expired", "done"]

    play(scene)


def test_faults_of_a_submit_keep_their_meaning() -> None:
    """A lost reply cuts before a byte, an error is an error, a stale reply opens with the old state and ends there."""

    async def lost(api: Api) -> None:
        api.when("submit_accepted", "lose_submit_reply")
        run = (await api.begin())[-2][1]
        with pytest.raises(Cut):
            await api.submit(run)

    async def error(api: Api) -> None:
        api.when("submit_accepted", "error_after_submit")
        run = (await api.begin())[-2][1]
        body = {**api.outputs(run), "stream": True}
        reply = await api.send("POST", f"/threads/{api.thread}/runs/{run['id']}/submit_tool_outputs", body)
        assert (reply.status, reply.stream) == (500, None)

    async def stale(api: Api) -> None:
        api.when("submit_accepted", "stale_submit_reply")
        run = (await api.begin())[-2][1]
        assert await api.submit(run) == [("thread.run.requires_action", run), ("done", "[DONE]")]

    async def stale_status(api: Api) -> None:
        api.when("submit_accepted", "stale_status", n=2)
        run = (await api.begin())[-2][1]
        assert await api.submit(run) == [("thread.run.requires_action", run), ("done", "[DONE]")]
        path = f"/threads/{api.thread}/runs/{run['id']}"
        assert await api.call("GET", path) == run
        assert (await api.call("GET", path))["status"] != "requires_action"

    for scene, stales in ((lost, 0), (error, 0), (stale, 1), (stale_status, 2)):
        api = play(scene)
        assert len(list(of_kind(api.history.events, SubmitAccepted))) == 1
        assert len(api.injected) == 1
        assert sum(t.stale for t in api.told()) == stales


def test_a_submit_that_was_delivered_twice_streams_the_second_answer() -> None:
    """Refused by default; where repeats are idempotent, the stream opens with the state of that moment, and goes on."""

    async def refused(api: Api) -> None:
        api.when("submit_received", "duplicate_delivery")
        run = (await api.begin())[-2][1]
        body = {**api.outputs(run), "stream": True}
        reply = await api.send("POST", f"/threads/{api.thread}/runs/{run['id']}/submit_tool_outputs", body)
        assert (reply.status, reply.stream) == (400, None)

    async def idempotent(api: Api) -> None:
        run = (await api.begin())[-2][1]
        await api.submit(run)
        told = await api.submit(run)
        assert names(told) == ["thread.run.completed", "done"]

    play(refused)
    play(idempotent, repeat_submit="200")


def test_cut_stream() -> None:
    """The connection ends right after the event that the rule is about, or an `error` event comes; the run goes on."""

    async def cut(api: Api) -> None:
        api.when("run_told", "cut_stream", {"via": "stream", "status": "in_progress"})
        assert names(await api.begin()) == [*TO_ACTION[:3], "cut"]
        assert len(api.injected) == 1
        assert "after thread.run.in_progress" in (api.injected[0] or "")
        await api.waiting()

    async def error(api: Api) -> None:
        api.when("run_told", "cut_stream", {"via": "stream", "status": "in_progress"}, how="error")
        told = await api.begin()
        assert names(told) == [*TO_ACTION[:3], "error", "done"]
        assert told[-2][1]["error"]["type"] == "server_error"

    async def no_stream(api: Api) -> None:
        api.when("run_told", "cut_stream")
        assistant = await api.call("POST", "/assistants", SETTINGS)
        await api.call("POST", "/threads/runs", {"assistant_id": assistant["id"]})
        assert api.injected == []

    for scene in (cut, error, no_stream):
        play(scene)


def test_a_step_that_is_lost_when_a_stream_tells_it() -> None:
    """regenerate_step at requires_action: the stream told the old calls, the submit for them is refused, a new run state waits."""

    async def scene(api: Api) -> None:
        api.when("run_told", "regenerate_step", {"status": "requires_action"}, ids="new")
        told = await api.begin()
        assert names(told) == TO_ACTION
        run = told[-2][1]
        assert api.outputs(await api.waiting()) != api.outputs(run)

    play(scene)


def test_a_barrier_holds_what_a_stream_tells() -> None:
    """The stream's requires_action and another instance's poll of the same leave together."""

    async def scene(api: Api) -> None:
        api.when("run_told", "barrier", {"via": "stream", "status": "requires_action"}, n=2, seconds=5)
        reading = asyncio.create_task(api.begin())
        while not any(t.status == "requires_action" for t in api.told()):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert not reading.done()
        run_id = api.told()[-1].run_id
        await api.send("GET", f"/threads/{api.thread}/runs/{run_id}", instance="coordinator-2")
        assert names(await reading) == TO_ACTION
        assert "2 instances" in (api.injected[0] or "")

    play(scene)


def test_who_is_gone_is_told_nothing() -> None:
    """With the process its streams end, and no RunTold claims that it knows; another instance's stream stays."""

    async def scene(api: Api) -> None:
        api.hold = asyncio.Event()
        reading = asyncio.create_task(api.begin())
        while not any(t.status == "in_progress" for t in api.told()):
            await asyncio.sleep(0.001)
        api.history.record(InstanceExited, instance="coordinator-2", life=1, code=-9, expected=True)
        await asyncio.sleep(0.01)
        assert not reading.done()
        api.history.record(InstanceExited, instance="coordinator-1", life=1, code=-9, expected=True)
        assert names(await reading)[-1] == "cut"
        api.hold.set()
        await asyncio.sleep(0.01)

    assert [t.status for t in play(scene).told()] == ["queued", "queued", "in_progress"]


def test_a_reset_ends_streams() -> None:
    """Held streams end without a last word when the fake forgets everything."""

    async def scene(api: Api) -> None:
        api.hold = asyncio.Event()
        reading = asyncio.create_task(api.begin())
        while not any(t.status == "in_progress" for t in api.told()):
            await asyncio.sleep(0.001)
        api.endpoint.reset()
        assert names(await reading)[-1] == "cut"

    play(scene)


@pytest.mark.parametrize("path", ["/threads/runs", "/threads/{thread}/runs"])
def test_a_wrong_stream_is_refused(path: str) -> None:
    """`stream` is a boolean: anything else is a 400 that names it."""

    async def scene(api: Api) -> None:
        assistant = await api.call("POST", "/assistants", SETTINGS)
        thread = await api.call("POST", "/threads")
        reply = await api.send("POST", path.format(thread=thread["id"]), {"assistant_id": assistant["id"], "stream": "yes"})
        assert (reply.status, json.loads(reply.body)["error"]["param"]) == (400, "stream")

    play(scene)
