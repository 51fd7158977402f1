"""The faults that live in the fake Assistants API, each through the endpoint: what the client sees, and what is recorded."""

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
from fakes.history import (
    ActionRequired,
    Event,
    History,
    MessageAdded,
    RunCreated,
    RunEnded,
    RunTold,
    SubmitAccepted,
    SubmitReceived,
    SubmitRefused,
    of_kind,
)
from fakes.ids import Ids

CALLS = ("create_ticket", "send_email")


class Plan:
    """A nemesis with a list of rules; a rule fires `times` times at events of its kind that have these fields."""

    def __init__(self) -> None:
        self.injected: list[str] = []
        self._rules: list[tuple[str, dict[str, Any], str, dict[str, Any], int]] = []

    def when(self, point: str, fault: str, times: int = 1, where: dict[str, Any] | None = None, **args: Any) -> None:
        """Add a rule."""
        assert point in FAKE_FAULTS[fault].points
        self._rules.append((point, where or {}, fault, args, times))

    async def at(self, event: Event) -> Sequence[Fault]:
        """The faults for this event."""
        await asyncio.sleep(0)
        found = []
        for number, (point, where, name, args, times) in enumerate(self._rules):
            if event.kind == point and times > 0 and all(getattr(event, k) == v for k, v in where.items()):
                self._rules[number] = (point, where, name, args, times - 1)
                found.append(Fault(name, args, lambda detail, name=name: self.injected.append(name)))  # type: ignore[misc]
        return found


class Api:
    """An endpoint under a plan, with a serving layer that asks for two calls in each of two steps, then closes."""

    def __init__(self, **settings: Any) -> None:
        self.plan = Plan()
        self.history = History()
        self.generations = 0
        self.hold: asyncio.Event | None = None
        self.core = Core(lambda: 1_800_000_000.0, Ids(5))
        self.endpoint = AssistantsEndpoint(self.core, self.history, self.plan, self.generate, **settings)

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """The serving layer: ids from the seed, the nonce from the step and the position."""
        self.generations += 1
        if self.hold is not None:
            await self.hold.wait()
        step = sum(1 for message in body["messages"] if message.get("tool_calls"))
        if step == 2:
            return {"choices": [{"message": {"content": "bye"}}]}
        calls = [
            {
                "id": f"call_{body['seed']}_{name}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps({"reference": f"C1_{step}{position}"})},
            }
            for position, name in enumerate(CALLS)
        ]
        return {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}

    async def send(self, method: str, path: str, body: Any = None, instance: str = "coordinator-1") -> Reply:
        """One request of an instance."""
        data = b"" if body is None else json.dumps(body).encode()
        return await self.endpoint.handle(Request(method, "/v1" + path, body=data, instance=instance))

    async def call(self, method: str, path: str, body: Any = None, instance: str = "coordinator-1") -> dict[str, Any]:
        """One request that must be answered with 200."""
        reply = await self.send(method, path, body, instance)
        assert reply.status == 200, reply.body
        data: dict[str, Any] = json.loads(reply.body)
        return data

    async def start(self) -> str:
        """A run on a new thread; returns its path."""
        self.assistant = (await self.call("POST", "/assistants", {"model": "gpt-4o"}))["id"]
        thread = await self.call("POST", "/threads", {"messages": [{"role": "user", "content": "help"}]})
        run = await self.call("POST", f"/threads/{thread['id']}/runs", {"assistant_id": self.assistant})
        return f"/threads/{thread['id']}/runs/{run['id']}"

    async def until(self, path: str, status: str, seconds: float = 5.0) -> None:
        """Wait, without polling, until the run has this status."""
        run_id = path.rsplit("/", 1)[1]
        thread = self.core.threads[path.split("/")[2]]
        async with asyncio.timeout(seconds):
            while thread.runs[run_id].status != status:
                await asyncio.sleep(0.001)

    async def waiting(self) -> tuple[str, dict[str, Any]]:
        """The path of a run that waits for outputs, and what its first poll showed."""
        path = await self.start()
        await self.until(path, "requires_action")
        return path, await self.call("GET", path)

    async def submit(self, path: str, run: dict[str, Any], instance: str = "coordinator-1") -> Reply:
        """Submit an output for each call that `run` shows."""
        outputs = [{"tool_call_id": call_id, "output": "done"} for call_id in ids_of(run)]
        return await self.send("POST", path + "/submit_tool_outputs", {"tool_outputs": outputs}, instance)

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one kind."""
        return list(of_kind(self.history.events, kind))


def ids_of(run: dict[str, Any]) -> list[str]:
    """The ids of the calls that a run shows."""
    return [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]


def play(scene: Callable[[Api], Awaitable[None]], **settings: Any) -> Api:
    """Run a scene against a fresh endpoint, and close it."""

    async def main() -> Api:
        api = Api(**settings)
        await scene(api)
        await api.endpoint.aclose()
        return api

    return asyncio.run(main())


def test_stale_status_shows_the_old_state_n_times() -> None:
    """n polls after an accepted submit show the old requires_action; /steps and submits stay truthful."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_accepted", "stale_status", n=3)
        path, before = await api.waiting()
        assert (await api.submit(path, before)).status == 200
        assert api.plan.injected == []
        await api.until(path, "requires_action")
        for instance in ("coordinator-1", "coordinator-2"):
            assert await api.call("GET", path, instance=instance) == before
        assert api.plan.injected == ["stale_status"]
        steps = (await api.call("GET", path + "/steps"))["data"]
        assert [s["status"] for s in steps] == ["in_progress", "completed"]
        assert (await api.submit(path, before)).status == 400
        assert await api.call("GET", path) == before
        after = await api.call("GET", path)
        assert set(ids_of(after)).isdisjoint(ids_of(before))

    told = [t for t in play(scene).of(RunTold) if t.via == "poll"]
    assert [t.stale for t in told] == [False, True, True, True, False]
    assert told[1].waiting_for == told[0].waiting_for != told[4].waiting_for
    assert {t.status for t in told} == {"requires_action"}


def test_stale_submit_reply_shows_the_old_state_once() -> None:
    """The submit's own answer is old, the next poll is true."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_accepted", "stale_submit_reply")
        path, before = await api.waiting()
        assert json.loads((await api.submit(path, before)).body) == before
        assert api.plan.injected == ["stale_submit_reply"]
        assert await api.call("GET", path) != before

    api = play(scene)
    (told,) = [t for t in api.of(RunTold) if t.via == "submit"]
    assert (told.stale, told.status) == (True, "requires_action")
    assert len(api.of(SubmitAccepted)) == 1


def test_lose_submit_reply_commits_then_cuts() -> None:
    """The outputs are in, nobody was told, and the connection ends."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_accepted", "lose_submit_reply")
        path, before = await api.waiting()
        with pytest.raises(Cut):
            await api.submit(path, before)
        assert api.plan.injected == ["lose_submit_reply"]
        await api.until(path, "requires_action")
        assert ids_of(await api.call("GET", path)) != ids_of(before)

    api = play(scene)
    assert len(api.of(SubmitAccepted)) == 1
    assert not [t for t in api.of(RunTold) if t.via == "submit"]


def test_error_after_submit_commits_then_errs() -> None:
    """The outputs are in, and the answer is the error that was asked for."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_accepted", "error_after_submit", status=502)
        path, before = await api.waiting()
        reply = await api.submit(path, before)
        assert (reply.status, json.loads(reply.body)["error"]["type"]) == (502, "server_error")
        repeat = await api.submit(path, before)
        assert repeat.status == 400

    api = play(scene)
    assert api.plan.injected == ["error_after_submit"]
    assert (len(api.of(SubmitAccepted)), len(api.of(SubmitRefused))) == (1, 1)


@pytest.mark.parametrize(("status", "kind"), [(503, "server_error"), (429, "invalid_request_error")])
def test_refuse_submit_commits_nothing(status: int, kind: str) -> None:
    """The submit is refused, and the run goes on waiting."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_received", "refuse_submit", status=status)
        path, before = await api.waiting()
        reply = await api.submit(path, before)
        assert (reply.status, json.loads(reply.body)["error"]["type"]) == (status, kind)
        assert await api.call("GET", path) == before
        assert (await api.submit(path, before)).status == 200

    api = play(scene)
    assert [r.http_status for r in api.of(SubmitRefused)] == [status]
    assert api.plan.injected == ["refuse_submit"]


def test_lose_submit_cuts_before_the_commit() -> None:
    """The submit is received and lost: neither accepted nor refused, and the run goes on waiting."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_received", "lose_submit")
        path, before = await api.waiting()
        with pytest.raises(Cut):
            await api.submit(path, before)
        assert await api.call("GET", path) == before

    api = play(scene)
    assert len(api.of(SubmitReceived)) == 1
    assert not api.of(SubmitAccepted) + api.of(SubmitRefused)
    assert api.plan.injected == ["lose_submit"]


@pytest.mark.parametrize("ids", ["same", "new"])
@pytest.mark.parametrize("after", [0.0, 0.02])
def test_regenerate_step(ids: str, after: float) -> None:
    """The instance acts on the lost step; it comes back with the same nonces, under the same or under new ids."""

    async def scene(api: Api) -> None:
        where = {"status": "requires_action"}
        api.plan.when("run_told", "regenerate_step", where=where, ids=ids, after=after)
        path, before = await api.waiting()
        if after:
            assert api.plan.injected == []
            assert (await api.call("GET", path + "/steps"))["data"] != []
            await asyncio.sleep(after)
        while api.generations < 2:
            await asyncio.sleep(0.001)
        assert api.plan.injected == ["regenerate_step"]
        await api.until(path, "requires_action")
        again = await api.call("GET", path)
        (step,) = (await api.call("GET", path + "/steps"))["data"]
        assert [c["id"] for c in step["step_details"]["tool_calls"]] == ids_of(again)
        if ids == "same":
            assert again["required_action"] == before["required_action"]
        else:
            refused = await api.submit(path, before)
            expected = f"Expected tool outputs for call_ids {ids_of(again)}, got {ids_of(before)}"
            assert (refused.status, json.loads(refused.body)["error"]["message"]) == (400, expected)
        assert (await api.submit(path, again)).status == 200

    api = play(scene)
    first, second = api.of(ActionRequired)[:2]
    assert [(a.ordinal, a.generation) for a in (first, second)] == [(0, 1), (0, 2)]
    assert (first.step_id == second.step_id) == (ids == "same")
    assert (first.calls == second.calls) == (ids == "same")
    assert [c.nonce for c in first.calls] == [c.nonce for c in second.calls]


def test_a_lost_step_waits_for_nothing_meanwhile() -> None:
    """While a step is generated again, the run is not in requires_action and takes no outputs."""

    async def scene(api: Api) -> None:
        path, before = await api.waiting()
        api.hold = asyncio.Event()
        api.plan.when("run_told", "regenerate_step")
        assert await api.call("GET", path) == before
        await api.until(path, "in_progress")
        refused = await api.submit(path, before)
        assert json.loads(refused.body)["error"]["message"] == 'Runs in status "in_progress" do not accept tool outputs.'
        assert (await api.call("GET", path + "/steps"))["data"] == []
        api.hold.set()
        await api.until(path, "requires_action")

    play(scene)


def test_regeneration_leaves_an_accepted_step_alone() -> None:
    """When the outputs were accepted before the step could be lost, nothing happens and nothing was injected."""

    async def scene(api: Api) -> None:
        api.plan.when("action_required", "regenerate_step", ids="new", after=0.02)
        path, before = await api.waiting()
        assert (await api.submit(path, before)).status == 200
        await asyncio.sleep(0.05)
        assert (await api.call("GET", path))["status"] == "requires_action"

    api = play(scene)
    assert [(a.ordinal, a.generation) for a in api.of(ActionRequired)] == [(0, 1), (1, 1)]
    assert api.plan.injected == []


@pytest.mark.parametrize("by", ["run", "conversation"])
def test_a_run_can_be_disturbed_from_elsewhere(by: str) -> None:
    """An event of the gateway names the run, or only the conversation: the step that waits is generated again."""

    async def scene(api: Api) -> None:
        path, before = await api.waiting()
        done: list[str | None] = []
        fault = Fault("regenerate_step", {"ids": "new", "after": 0.0}, done.append)
        run = before["id"] if by == "run" else None
        await api.endpoint.befall(fault, "run_unknown", "another conversation")
        assert done == []
        api.endpoint._driver.watches[before["id"]].conversation = "C1"
        await api.endpoint.befall(fault, run, "C1")
        assert len(done) == 1
        await api.until(path, "requires_action")
        assert ids_of(await api.call("GET", path)) != ids_of(before)

    play(scene)


def test_regenerated_at_once() -> None:
    """At action_required the step can be lost before anybody saw it."""

    async def scene(api: Api) -> None:
        api.plan.when("action_required", "regenerate_step", ids="new")
        path = await api.start()
        while api.generations < 2:
            await asyncio.sleep(0.001)
        await api.until(path, "requires_action")
        first, second = api.of(ActionRequired)
        assert ids_of(await api.call("GET", path)) == [c.tool_call_id for c in second.calls]
        assert first.step_id != second.step_id

    assert play(scene).plan.injected == ["regenerate_step"]


def test_barrier_releases_instances_together() -> None:
    """The first answer is held, repeats of one instance do not count, the second instance opens the gate for all."""

    async def scene(api: Api) -> None:
        path = await api.start()
        await api.until(path, "requires_action")
        api.plan.when("run_told", "barrier", n=2, seconds=30.0)
        first = asyncio.create_task(api.call("GET", path, instance="coordinator-1"))
        again = asyncio.create_task(api.call("GET", path, instance="coordinator-1"))
        done, _ = await asyncio.wait([first, again], timeout=0.03)
        assert not done
        assert api.plan.injected == []
        second = await api.call("GET", path, instance="coordinator-2")
        assert await first == await again == second
        assert api.plan.injected == ["barrier"]
        await api.call("GET", path, instance="coordinator-1")

    play(scene)


def test_barrier_holds_old_knowledge() -> None:
    """What was held was made before: a submit that is accepted meanwhile does not change it."""

    async def scene(api: Api) -> None:
        path, before = await api.waiting()
        api.plan.when("run_told", "barrier", n=2, seconds=0.05)
        held = asyncio.create_task(api.call("GET", path, instance="coordinator-2"))
        await asyncio.sleep(0.005)
        assert (await api.submit(path, before)).status == 200
        assert await held == before

    play(scene)


def test_barrier_gives_up_after_its_seconds() -> None:
    """When too few instances come, the answers leave after the longest hold, and the fault's detail says so."""

    async def scene(api: Api) -> None:
        path = await api.start()
        await api.until(path, "requires_action")
        api.plan.when("run_told", "barrier", n=3, seconds=0.03)
        answers = [api.call("GET", path, instance=f"coordinator-{n}") for n in (1, 2)]
        first, second = await asyncio.gather(*answers)
        assert first == second

    assert play(scene).plan.injected == ["barrier"]


@pytest.mark.parametrize(
    ("fault", "ends"), [("cancel_run", "cancelled"), ("expire_run", "expired")], ids=["cancel", "expire"]
)
@pytest.mark.parametrize("point", ["run_created", "action_required", "run_told"])
def test_somebody_ends_the_run(fault: str, ends: str, point: str) -> None:
    """The run ends at that point, while the instance still holds the answer that was made before."""

    async def scene(api: Api) -> None:
        where = {"status": "requires_action"} if point == "run_told" else {}
        api.plan.when(point, fault, where=where)
        path = await api.start()
        if point == "run_told":
            await api.until(path, "requires_action")
            told = await api.call("GET", path)
            assert told["status"] == "requires_action"
            refused = await api.submit(path, told)
            assert refused.status == 400
        await api.until(path, ends)
        assert (await api.call("GET", path))["status"] == ends

    api = play(scene)
    assert api.plan.injected == [fault]
    assert [e.status for e in api.of(RunEnded)] == [ends]
    assert api.of(RunTold)[0].status == "queued"
    assert len(api.of(ActionRequired)) == (0 if point == "run_created" else 1)


def test_a_run_that_is_over_cannot_be_ended_again() -> None:
    """cancel_run and expire_run on a run that is over do nothing and are not injected."""

    async def scene(api: Api) -> None:
        path = await api.start()
        for _ in range(2):
            await api.until(path, "requires_action")
            await api.submit(path, await api.call("GET", path))
        await api.until(path, "completed")
        api.plan.when("run_told", "cancel_run")
        api.plan.when("run_told", "expire_run")
        assert (await api.call("GET", path))["status"] == "completed"

    assert play(scene).plan.injected == []


def test_submit_delivered_twice() -> None:
    """Both deliveries are processed, and the client gets the second answer: a 400, although its outputs are in."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_received", "duplicate_delivery", times=5)
        path, before = await api.waiting()
        reply = await api.submit(path, before)
        assert reply.status == 400

    api = play(scene)
    assert api.plan.injected == ["duplicate_delivery"]
    assert (len(api.of(SubmitReceived)), len(api.of(SubmitAccepted)), len(api.of(SubmitRefused))) == (2, 1, 1)
    assert not [t for t in api.of(RunTold) if t.via == "submit"]


def test_submit_delivered_twice_to_an_idempotent_service() -> None:
    """With repeat_submit=200 the second delivery is accepted as a repeat, and only its answer is told."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_received", "duplicate_delivery")
        path, before = await api.waiting()
        assert (await api.submit(path, before)).status == 200

    api = play(scene, repeat_submit="200")
    assert [a.repeat for a in api.of(SubmitAccepted)] == [False, True]
    assert len([t for t in api.of(RunTold) if t.via == "submit"]) == 1


def test_router_saves_a_lost_submit() -> None:
    """A submit that is lost, and delivered again by the router, arrives after all."""

    async def scene(api: Api) -> None:
        api.plan.when("submit_received", "lose_submit")
        api.plan.when("submit_received", "duplicate_delivery")
        path, before = await api.waiting()
        assert (await api.submit(path, before)).status == 200

    assert play(scene).plan.injected == ["lose_submit", "duplicate_delivery"]


def test_message_delivered_twice() -> None:
    """The message is on the thread twice, and the client knows the second."""

    async def scene(api: Api) -> None:
        thread = await api.call("POST", "/threads", {})
        api.plan.when("message_added", "duplicate_delivery")
        made = await api.call("POST", f"/threads/{thread['id']}/messages", {"role": "user", "content": "hi"})
        listed = await api.call("GET", f"/threads/{thread['id']}/messages")
        assert len(listed["data"]) == 2
        assert listed["first_id"] == made["id"]

    assert len(play(scene).of(MessageAdded)) == 2


def test_thread_delivered_twice() -> None:
    """A thread with a message is made twice, and the client knows the second."""

    async def scene(api: Api) -> None:
        api.plan.when("message_added", "duplicate_delivery")
        thread = await api.call("POST", "/threads", {"messages": [{"role": "user", "content": "hi"}]})
        assert list(api.core.threads)[1] == thread["id"]

    assert len(play(scene).of(MessageAdded)) == 2


def test_run_delivered_twice() -> None:
    """The second run is refused since the first is active; on a thread of its own it is made twice."""

    async def scene(api: Api) -> None:
        api.plan.when("run_created", "duplicate_delivery", times=2)
        assistant = (await api.call("POST", "/assistants", {"model": "gpt-4o"}))["id"]
        thread = await api.call("POST", "/threads", {})
        reply = await api.send("POST", f"/threads/{thread['id']}/runs", {"assistant_id": assistant})
        assert reply.status == 400
        assert b"already has an active run" in reply.body
        made = await api.call("POST", "/threads/runs", {"assistant_id": assistant})
        assert len(api.core.threads) == 3
        assert list(api.core.threads)[2] == made["thread_id"]

    api = play(scene)
    assert len(api.of(RunCreated)) == 3
    assert [t.via for t in api.of(RunTold)] == ["create"]


def test_runs_do_not_touch_each_other() -> None:
    """A fault on one run leaves another one, at the same moment, as it is."""

    async def scene(api: Api) -> None:
        (one, before_one), (two, before_two) = await api.waiting(), await api.waiting()
        api.plan.when("submit_accepted", "stale_status", n=2, where={"run_id": before_one["id"]})
        await api.submit(one, before_one)
        await api.submit(two, before_two)
        assert await api.call("GET", one) == before_one
        assert await api.call("GET", two) != before_two
        for path, other in ((one, before_two), (two, before_one)):
            assert (await api.send("GET", f"{path.rsplit('/', 1)[0]}/{other['id']}")).status == 404

    play(scene)
