"""Each fault of the gateway: what it breaks, what it leaves whole, and what the history says about it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fakes.exchange import Cut, Reply, Request
from fakes.faults import Fault
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.gateway.profile import PROFILES
from fakes.history import CallbackDue, CallbackPosted, EffectCommitted, Event, History, ToolReplied, of_kind
from fakes.ids import Ids

ARGUMENTS = {"user_id": "U1", "conversation_id": "C1", "amount_cents": 1999, "reference": "C1_abc"}
CALLBACK = "http://127.0.0.1:9/tool-results"


class Script:
    """A nemesis that hands out prepared faults, once each, and remembers where it was asked."""

    def __init__(self) -> None:
        self.faults: defaultdict[str, list[list[Fault]]] = defaultdict(list)
        self.injected: list[tuple[str, str | None]] = []
        self.asked: list[str] = []
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}

    def plan(self, event: str, fault: str, **args: Any) -> None:
        """The next time `event` is asked about, ask for `fault`."""
        self.faults[event].append([Fault(fault, args, lambda detail: self.injected.append((fault, detail)))])

    async def at(self, event: Event) -> Sequence[Fault]:
        self.asked.append(event.kind)
        hook = self.hooks.get(event.kind)
        if hook is not None:
            await hook()
        return self.faults[event.kind].pop(0) if self.faults[event.kind] else ()

    @property
    def made(self) -> list[str]:
        return [name for name, _ in self.injected]


class World:
    """A gateway endpoint, a nemesis that can be told what to do, and a receiver of callbacks."""

    def __init__(self, profile: str, latency: float) -> None:
        loop = asyncio.get_running_loop()
        self.nemesis = Script()
        self.history = History(clock=loop.time)
        self.posted: list[dict[str, Any]] = []
        self.answers: list[int | OSError] = []
        self.endpoint = GatewayEndpoint(
            GatewayCore(PROFILES[profile], clock=loop.time, ids=Ids(1, "gateway")), self.history, self.nemesis,
            post=self.post, log=lambda line: None, admin_token="secret", clock=loop.time, seed=1, latency=(latency, latency),
        )

    async def post(self, url: str, body: dict[str, Any]) -> int:
        assert url == CALLBACK
        self.posted.append(body)
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def call(self, call_id: str | None = "call_1", tool: str = "refund_payment", *, key: str | None = None,
                   later: bool = False, arguments: Any = None, **fields: Any) -> Reply:
        body = {"arguments": ARGUMENTS if arguments is None else arguments, "tool_call_id": call_id, **fields}
        if later:
            body |= {"thread_id": "thread_1", "run_id": "run_1", "step_id": "step_1", "callback_url": CALLBACK}
        headers = {} if key is None else {"idempotency-key": key}
        return await self.endpoint.handle(Request("POST", f"/tools/{tool}", headers=headers, body=json.dumps(body).encode()))

    def events(self, cls: type[Any]) -> list[Any]:
        return list(of_kind(self.history.events, cls))

    @property
    def effects(self) -> list[str]:
        return [effect.external_id for effect in self.endpoint.core.ledger.effects]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)


def run(scenario: Callable[[World], Awaitable[None]], profile: str = "keyless", latency: float = 0.0) -> World:
    """Play a scenario in a fresh world and close it."""

    async def play() -> World:
        world = World(profile, latency)
        try:
            await scenario(world)
        finally:
            await world.endpoint.aclose()
        return world

    return asyncio.run(play())


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["error"]["code"]


def output(reply: Reply) -> str:
    return str(json.loads(reply.body)["output"])


# --- synchronous ---


def test_every_protocol_point_is_asked() -> None:
    """Requested, committed, replied; asynchronously also due and posted."""

    async def scenario(world: World) -> None:
        await world.call()
        assert world.nemesis.asked == ["tool_requested", "effect_committed", "tool_replied"]
        await world.call(later=True)
        await world.until(lambda: bool(world.posted) and "callback_posted" in world.nemesis.asked)
        assert world.nemesis.asked[3:] == [
            "tool_requested", "tool_replied", "effect_committed", "callback_due", "callback_posted"]

    run(scenario)


def test_the_answer_waits_for_what_happens_at_its_point() -> None:
    """A fault at tool_replied (the sender is killed, say) is carried out before the answer leaves."""

    async def scenario(world: World) -> None:
        held = asyncio.Event()

        async def hold() -> None:
            await held.wait()

        world.nemesis.hooks["tool_replied"] = hold
        task = asyncio.create_task(world.call())
        await world.until(lambda: bool(world.events(ToolReplied)))
        assert not task.done()
        held.set()
        assert (await task).status == 200

    run(scenario)


def test_a_lost_request_leaves_no_effect() -> None:
    """Cut, nothing committed, no answer on record: it never arrived."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "lose_request")
        with pytest.raises(Cut):
            await world.call()
        assert (world.effects, world.events(ToolReplied)) == ([], [])
        assert world.nemesis.made == ["lose_request"]
        assert world.endpoint.metrics()["requests"] == 0

    run(scenario)


def test_unavailable_commits_and_stores_nothing() -> None:
    """503; a repeat with the same key does the work."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "unavailable")
        world.nemesis.plan("tool_requested", "unavailable", status=429)
        assert code(await world.call(key="k")) == (503, "unavailable")
        assert code(await world.call(key="k")) == (429, "unavailable")
        assert world.effects == []
        assert "idempotent-replayed" not in (await world.call(key="k")).headers
        assert world.endpoint.metrics()["tool_gw.http_5xx_rate"] == pytest.approx(1 / 3)
        assert [e.definite for e in world.events(ToolReplied)] == [False, False, False]

    run(scenario, "keyed")


def test_commit_then_lose_reply_leaves_the_effect() -> None:
    """Cut after the commit; the history has the answer as not delivered, and a repeat with the key gets it."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "commit_then_lose_reply")
        with pytest.raises(Cut):
            await world.call(key="k")
        (replied,) = world.events(ToolReplied)
        assert (replied.delivered, replied.http_status, [replied.external_id]) == (False, 200, world.effects)
        assert world.effects[0] in output(await world.call(key="k"))
        assert len(world.effects) == 1
        assert world.nemesis.made == ["commit_then_lose_reply"]
        assert world.endpoint.metrics()["tool_gw.http_5xx_rate"] == 0

    run(scenario, "keyed")


def test_commit_then_500_is_made_at_the_edge() -> None:
    """The answer is a 500 although the true one was stored: a repeat with the key gets the true one."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "commit_then_500", status=502)
        assert code(await world.call(key="k")) == (502, "internal_error")
        again = await world.call(key="k")
        assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
        assert world.effects[0] in output(again)
        first, second = world.events(ToolReplied)
        assert (first.external_id, first.definite, [second.external_id]) == (None, False, world.effects)
        assert "failed after" in first.error

    run(scenario, "keyed")


def test_the_answer_can_also_be_lost_at_the_commit_itself() -> None:
    """Faults asked for at effect_committed act on the answer that follows."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("effect_committed", "commit_then_lose_reply")
        with pytest.raises(Cut):
            await world.call()
        assert len(world.effects) == 1

    run(scenario)


def test_an_answer_without_an_effect_is_not_taken_for_one() -> None:
    """commit_then_500 does nothing to a refusal, and does not claim that it did."""

    async def scenario(world: World) -> None:
        await world.call(key="k")
        world.nemesis.plan("tool_requested", "commit_then_500")
        assert code(await world.call(key="k", arguments={})) == (400, "idempotency_mismatch")
        assert world.nemesis.made == []

    run(scenario, "keyed")


@pytest.mark.parametrize(("where", "committed_early"), [("before", False), ("after", True)])
def test_slow_before_and_after_the_commit(where: str, committed_early: bool) -> None:
    """The effect is there while the sender still waits, or it comes after the sender may have gone away."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "slow", seconds=0.3, where=where)
        task = asyncio.create_task(world.call(key="k"))
        await asyncio.sleep(0.02)
        assert bool(world.effects) is committed_early
        assert code(await world.call(key="k")) == (409, "in_progress")
        task.cancel()
        await world.until(lambda: len(world.events(ToolReplied)) == 2)
        assert len(world.effects) == 1
        assert world.nemesis.injected == [("slow", f"0.3 s {where} commit")]
        assert world.events(ToolReplied)[-1].latency_ms >= 300

    run(scenario, "keyed")


def test_slow_before_under_a_fence_raised_meanwhile_commits_nothing() -> None:
    """A taker-over that raised the fence can trust its look-up, although an older request is still on its way."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "slow", seconds=0.3, where="before")
        task = asyncio.create_task(world.call(fence=1))
        await world.until(lambda: "tool_requested" in world.nemesis.asked)
        fence = Request("PUT", "/fences/call_1", body=b'{"fence": 2}')
        assert (await world.endpoint.handle(fence)).status == 200
        assert code(await task) == (409, "fenced")
        assert (await world.call(fence=2)).status == 200
        assert len(world.effects) == 1

    run(scenario, "fenced")


def test_a_permanent_failure_sticks() -> None:
    """The call fails alike at every repeat, with an error id; other calls do not."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "permanent_failure")
        replies = [await world.call(key=key) for key in ("a", "b", "a")]
        assert {code(reply) for reply in replies} == {(422, "tool_failed")}
        assert len({reply.body for reply in replies}) == 1
        assert "ERR-" in json.loads(replies[0].body)["error"]["message"]
        assert (await world.call("call_2")).status == 200
        failed = world.events(ToolReplied)[:3]
        assert all(e.definite and "ERR-" in e.error and e.external_id is None for e in failed)
        assert world.nemesis.made == ["permanent_failure"]

    run(scenario)


def test_a_permanent_failure_is_not_told_about_what_was_done() -> None:
    """The call has an effect: the fault does not take, and does not claim to."""

    async def scenario(world: World) -> None:
        await world.call()
        world.nemesis.plan("tool_requested", "permanent_failure")
        assert (await world.call()).status == 200
        assert world.nemesis.made == []

    run(scenario)


def test_a_poisoned_result_is_an_effect_with_no_json() -> None:
    """200, and an output that cannot be parsed but names its effect."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "poison_result")
        text = output(await world.call(tool="create_ticket"))
        assert text == 'INC-55102 \x00{"unterminated'
        assert (world.effects, world.nemesis.made) == (["INC-55102"], ["poison_result"])

    run(scenario)


def test_pruned_keys_count_as_new() -> None:
    """The gateway forgets before it looks: the very request that triggers it is new."""

    async def scenario(world: World) -> None:
        await world.call(key="k")
        world.nemesis.plan("tool_requested", "prune_keys")
        assert "idempotent-replayed" not in (await world.call(key="k")).headers
        assert len(world.effects) == 2
        assert world.nemesis.injected == [("prune_keys", "1 keys forgotten")]

    run(scenario, "keyed")


# --- asynchronous ---


def test_an_asynchronous_result_is_posted_with_the_ids_as_sent() -> None:
    """202 at once, the effect later, then the result in the shape of the submission handler's input."""

    async def scenario(world: World) -> None:
        reply = await world.call(later=True)
        assert (reply.status, world.effects) == (202, [])
        accepted = json.loads(reply.body)
        await world.until(lambda: bool(world.events(CallbackPosted)))
        (body,) = world.posted
        text = body.pop("output")
        assert world.effects[0] in text
        assert body == {"thread_id": "thread_1", "run_id": "run_1", "step_id": "step_1", "tool_call_id": "call_1"}
        (due,), (posted,), (replied,) = (world.events(cls) for cls in (CallbackDue, CallbackPosted, ToolReplied))
        assert accepted == {"status": "accepted", "request_id": due.request_id}
        assert (posted.attempt, posted.copy, posted.http_status, [posted.external_id]) == (1, 1, 204, world.effects)
        assert (replied.http_status, replied.external_id, replied.error) == (202, None, None)

    run(scenario, latency=0.02)


def test_what_was_not_sent_is_null_in_the_callback() -> None:
    """Ids are echoed, never invented."""

    async def scenario(world: World) -> None:
        await world.call(None, callback_url=CALLBACK)
        await world.until(lambda: bool(world.posted))
        assert {world.posted[0][name] for name in ("thread_id", "run_id", "step_id", "tool_call_id")} == {None}

    run(scenario)


def test_a_callback_is_resent_until_it_is_accepted() -> None:
    """Refused, unanswered, accepted: three attempts on record, and none after that."""

    async def scenario(world: World) -> None:
        world.answers = [503, ConnectionRefusedError("no one there"), 204]
        await world.call(later=True)
        await world.until(lambda: len(world.events(CallbackPosted)) == 3)
        posts = world.events(CallbackPosted)
        assert [(e.attempt, e.http_status) for e in posts] == [(1, 503), (2, None), (3, 204)]
        assert posts[1].t - posts[0].t >= 0.09
        assert posts[2].t - posts[1].t >= 0.19
        assert world.posted[0] == world.posted[2]
        assert len(world.effects) == 1

    run(scenario)


def test_closing_ends_callbacks_and_work() -> None:
    """A receiver that never accepts is given up when the gateway is stopped, and later requests are cut off."""

    async def scenario(world: World) -> None:
        world.answers = [500] * 100
        await world.call(later=True)
        await world.until(lambda: bool(world.posted))
        await world.endpoint.aclose()
        count = len(world.posted)
        await asyncio.sleep(0.15)
        assert len(world.posted) == count
        with pytest.raises(Cut):
            await world.call()

    run(scenario)


def test_reset_cuts_off_who_still_waits() -> None:
    """The work under way is dropped, its sender gets no answer."""

    async def scenario(world: World) -> None:
        task = asyncio.create_task(world.call())
        await asyncio.sleep(0.01)
        world.endpoint.reset()
        with pytest.raises(Cut):
            await task
        assert world.effects == []

    run(scenario, latency=5.0)


def test_an_asynchronous_repeat_is_accepted_and_posted_again() -> None:
    """In flight or answered: the repeat gets its 202, and the one result is posted for it too."""

    async def scenario(world: World) -> None:
        await world.call(later=True, key="k")
        in_flight = await world.call(later=True, key="k")
        await world.until(lambda: len(world.posted) == 2)
        answered = await world.call(later=True, key="k")
        await world.until(lambda: len(world.posted) == 3)
        assert (in_flight.status, answered.status, answered.headers["idempotent-replayed"]) == (202, 202, "true")
        assert len({json.dumps(body) for body in world.posted}) == 1
        assert len(world.effects) == 1
        assert len({e.request_id for e in world.events(CallbackDue)}) == 3

    run(scenario, "keyed", latency=0.2)


def test_repeats_do_the_work_when_the_key_in_flight_was_pruned() -> None:
    """Nothing was stored for the one who waited: its request is new, as after any evicted key."""

    async def scenario(world: World) -> None:
        await world.call(later=True, key="k")
        await world.call(later=True, key="k")
        world.endpoint.core.prune_keys()
        await world.until(lambda: len(world.posted) == 2)
        assert len(world.effects) == 2

    run(scenario, "keyed", latency=0.3)


@pytest.mark.parametrize(("fault", "status"), [("commit_then_lose_reply", None), ("commit_then_500", 500)])
def test_an_asynchronous_answer_is_lost_after_the_commit_and_the_result_still_comes(fault: str, status: int | None) -> None:
    """The commit comes first, the 202 is lost or broken, and the result is posted: the tool did its work."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", fault)
        if status is None:
            with pytest.raises(Cut):
                await world.call(later=True)
        else:
            assert code(await world.call(later=True)) == (500, "internal_error")
        assert len(world.effects) == 1
        (replied,) = world.events(ToolReplied)
        assert (replied.delivered, replied.http_status) == (status is not None, status or 202)
        await world.until(lambda: bool(world.posted))
        kinds = [e.kind for e in world.history.events]
        assert kinds.index("effect_committed") < kinds.index("tool_replied") < kinds.index("callback_due")
        assert world.nemesis.made == [fault]

    run(scenario, latency=0.02)


def test_a_permanent_failure_is_posted_as_an_error() -> None:
    """202, then an error in the place of the output, at every repeat; it is definite."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "permanent_failure")
        for count in (1, 2):
            assert (await world.call(later=True)).status == 202
            await world.until(lambda count=count: len(world.posted) == count)  # type: ignore[misc]
        assert world.posted[0] == world.posted[1]
        assert "output" not in world.posted[0]
        told = world.posted[0]["error"]
        assert (told["code"], told["status"]) == ("tool_failed", 422)
        assert "ERR-" in told["message"]
        await world.until(lambda: len(world.events(CallbackPosted)) == 2)
        assert all(e.definite and e.error == told["message"] for e in world.events(CallbackPosted))
        assert world.effects == []

    run(scenario)


def test_a_mismatch_and_a_fence_are_told_in_the_answer() -> None:
    """What can be refused on arrival is not accepted first; accepted work that is fenced later posts nothing."""

    async def keyed(world: World) -> None:
        await world.call(later=True, key="k")
        assert code(await world.call(later=True, key="k", arguments={})) == (400, "idempotency_mismatch")

    async def fenced(world: World) -> None:
        assert (await world.call(later=True, fence=1)).status == 202
        world.endpoint.core.raise_fence("call_1", 2)
        assert code(await world.call(later=True, fence=1)) == (409, "fenced")
        assert (await world.call(later=True, fence=2)).status == 202
        await world.until(lambda: bool(world.posted))
        await asyncio.sleep(0.2)
        assert (len(world.effects), len(world.posted)) == (1, 1)

    run(keyed, "keyed")
    run(fenced, "fenced", latency=0.15)


def test_slow_after_commit_delays_the_result_and_not_the_acceptance() -> None:
    """202 at once; the effect is there before the result is due."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("tool_requested", "slow", seconds=0.1, where="after")
        assert (await world.call(later=True)).status == 202
        await world.until(lambda: bool(world.posted))
        (committed,), (due,) = world.events(EffectCommitted), world.events(CallbackDue)
        assert due.t - committed.t >= 0.09
        assert world.endpoint.metrics()["tool_gw.p95_latency_ms"] >= 90

    run(scenario)


# --- faults of callbacks ---


def test_a_foreign_callback_comes_before_the_result() -> None:
    """The same tool_call_id, and everything else of another run; then the result itself."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("callback_due", "foreign_callback")
        await world.call(later=True)
        await world.until(lambda: len(world.posted) == 2)
        foreign, own = world.posted
        assert foreign["tool_call_id"] == own["tool_call_id"]
        assert all(foreign[name] != own[name] for name in ("thread_id", "run_id", "step_id", "output"))
        assert "INC-00000" in foreign["output"]
        assert len(world.events(CallbackPosted)) == len(world.effects) == 1
        assert world.nemesis.made == ["foreign_callback"]

    run(scenario)


def test_a_duplicated_callback_is_posted_n_times() -> None:
    """Copies are told apart in the history and alike on the wire."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("callback_due", "duplicate_callback", n=3, gap=0.02)
        await world.call(later=True)
        await world.until(lambda: len(world.events(CallbackPosted)) == 3)
        assert [e.copy for e in world.events(CallbackPosted)] == [1, 2, 3]
        assert world.posted[0] == world.posted[1] == world.posted[2]
        assert (len(world.effects), world.nemesis.made) == (1, ["duplicate_callback"])

    run(scenario)


def test_a_late_callback_waits() -> None:
    """The result is due, and posted so many seconds later."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("callback_due", "late_callback", seconds=0.1)
        await world.call(later=True)
        await world.until(lambda: bool(world.events(CallbackPosted)))
        assert world.events(CallbackPosted)[0].t - world.events(CallbackDue)[0].t >= 0.09
        assert world.nemesis.injected == [("late_callback", "held for 0.1 s")]

    run(scenario)


def test_reordered_callbacks_of_a_conversation_change_places() -> None:
    """The first result waits until the next one of its conversation was posted; another conversation does not count."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("callback_due", "reorder_callbacks", seconds=5.0)
        await world.call("call_1", later=True)
        await world.until(lambda: bool(world.events(CallbackDue)))
        await world.call("other", later=True, arguments={"conversation_id": "C2"})
        await world.until(lambda: len(world.posted) == 1)
        await world.call("call_2", later=True)
        await world.until(lambda: len(world.posted) == 3)
        assert [body["tool_call_id"] for body in world.posted] == ["other", "call_2", "call_1"]
        assert world.nemesis.injected == [("reorder_callbacks", "overtaken by a later result")]

    run(scenario)


def test_a_held_callback_is_let_go_when_no_other_comes() -> None:
    """The longest wait is bounded."""

    async def scenario(world: World) -> None:
        world.nemesis.plan("callback_due", "reorder_callbacks", seconds=0.05)
        await world.call(later=True)
        await world.until(lambda: bool(world.posted))
        assert world.nemesis.injected == [("reorder_callbacks", "held; no other result came")]

    run(scenario)
