"""The hardened coordinator when instances die, sleep, stop, and when turns are delivered again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinators.hardened import create_app

PROFILES = ("keyless", "keyed", "lookup", "fenced")
TWO_STEPS = (("create_ticket", "send_email"), ("refund_payment",))
POINTS = (
    ("message_added", 1),
    ("run_created", 1),
    ("run_told", 1),
    ("run_told", 2),
    ("run_told", 3),
    ("tool_requested", 1),
    ("tool_requested", 2),
    ("effect_committed", 2),
    ("callback_due", 1),
    ("callback_posted", 2),
    ("submit_received", 1),
    ("submit_accepted", 1),
    ("submit_accepted", 2),
)


def assert_held(c: Any, profile: str) -> None:
    """No intent has two effects, and where the gateway makes it possible each has one; the rest is in doubt."""
    assert max(c.effects()) == 1
    if profile == "keyless":
        assert len(c.effects()) + len(c.doubts) >= 3
    else:
        assert c.effects() == [1, 1, 1]
        assert c.outputs_hold_effects()
        assert c.doubts == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p[0]}-{p[1]}")
def test_crash(chamber: Any, rule: Any, asking: Any, point: tuple[str, int], profile: str) -> None:
    """The owner dies at any point and comes back later: another instance brings the turn to its end."""

    async def crash(event: object) -> None:
        first = c.instances["coordinator-1"]
        first.crash()

        async def again() -> None:
            await asyncio.sleep(2.0)
            await first.start()

        c.restart = c.loop.create_task(again(), context=c.outside)

    c = chamber(create_app, profile, rule(point[0], nth=point[1], do=crash))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert_held(c, profile)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 12.0])
@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p[0]}-{p[1]}")
def test_pause(chamber: Any, rule: Any, asking: Any, point: tuple[str, int], seconds: float) -> None:
    """The owner sleeps at any point and wakes up in the middle of its work: it finds out, and does nothing twice."""
    profile = PROFILES[(POINTS.index(point) + round(seconds)) % 4]  # each profile with each length, and no more

    async def pause(event: object) -> None:
        c.loop.paused["coordinator-1"] = []
        c.loop.call_later(seconds, c.loop.resume, "coordinator-1")

    c = chamber(create_app, profile, rule(point[0], nth=point[1], do=pause))
    assert c.run(asking(*TWO_STEPS), story=lambda c: asyncio.sleep(seconds + 5)) == {"turn_1": "done"}
    assert_held(c, profile)


def test_resent_turn_is_one_turn(chamber: Any, asking: Any) -> None:
    """A turn that is delivered again, to the same and to other instances, while it runs and afterwards, runs once."""
    turn = asking(*TWO_STEPS)

    async def again(c: Any) -> None:
        for pause in (0.0, 0.1, 1.0):
            await asyncio.sleep(pause)
            for name in c.instances:
                assert await c.deliver(turn, to=name) == 202

    c = chamber(create_app)
    assert c.run(turn, story=again) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.submits() == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_graceful_stop_hands_over(chamber: Any, rule: Any, asking: Any, profile: str) -> None:
    """SIGTERM in the middle of a step: what is in flight comes in, the next owner goes on at once."""

    async def stop(event: object) -> None:
        c.stopping = c.loop.create_task(c.instances["coordinator-1"].stop(), context=c.outside)

    c = chamber(create_app, profile, rule("tool_requested", "slow", {"seconds": 0.3}), rule("effect_committed", do=stop))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.outputs_hold_effects()
    assert c.doubts == []


@pytest.mark.parametrize(("profile", "seconds"), [("keyless", 0.3), ("keyless", 3.0), ("lookup", 3.0)])
@pytest.mark.parametrize("point", ["message_added", "action_required", "tool_requested", "callback_due", "submit_accepted"])
def test_store_outage(chamber: Any, rule: Any, asking: Any, point: str, profile: str, seconds: float) -> None:
    """The store refuses every write for a while: nothing is dispatched without a claim, and no answer is lost."""

    async def outage(event: object) -> None:
        c.outage(seconds)

    c = chamber(create_app, profile, rule(point, do=outage))
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.outputs_hold_effects()
    assert c.doubts == []


def test_turn_is_refused_while_the_store_is_away(chamber: Any, asking: Any) -> None:
    """A turn that cannot be stored is answered 503, so that it is sent again."""
    turn = asking(("send_email",), name="turn_2")

    async def story(c: Any) -> None:
        c.store.refuse()
        assert await c.deliver(turn) == 503
        c.store.take_again()
        assert await c.deliver(turn) == 202
        await asyncio.sleep(1)
        assert await c.status(turn) == "done"

    c = chamber(create_app)
    c.run(asking(("send_email",)), story=story)
    assert c.effects() == [1, 1]


@pytest.mark.parametrize("profile", PROFILES)
def test_unreachable_gateway(chamber: Any, asking: Any, profile: str) -> None:
    """A request that certainly never left is sent again under every profile."""
    c = chamber(create_app, profile)
    c.refuse = lambda instance, host: host == "gateway" and 0.02 < c.loop.now < 1.0
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]
    assert c.doubts == []


def test_unreachable_assistants(chamber: Any, asking: Any) -> None:
    """An Assistants API that cannot be reached for a while delays a turn, and does not fail it."""
    c = chamber(create_app)
    c.refuse = lambda instance, host: host == "assistants" and (c.loop.now < 0.5 or 0.7 < c.loop.now < 2)
    assert c.run(asking(*TWO_STEPS)) == {"turn_1": "done"}
    assert c.effects() == [1, 1, 1]


def test_one_bad_conversation_does_not_hold_up_another(chamber: Any, rule: Any, asking: Any) -> None:
    """A call that never gets an answer delays its own turn only."""
    turns = [asking(("create_ticket",), name=f"turn_{n}") for n in range(6)]
    first = turns[0].conversation_id
    slow = rule("callback_due", "late_callback", {"seconds": 2.0}, when=lambda e: e.conversation == first)
    c = chamber(create_app, "keyless", slow)
    ended: dict[str, float] = {}

    async def story(c: Any) -> None:
        while len(ended) < len(turns):
            await asyncio.sleep(0.05)
            for turn in turns:
                if turn.turn_id not in ended and await c.status(turn) == "done":
                    ended[turn.turn_id] = c.loop.now

    c.run(*turns, story=story)
    assert max(t for turn, t in ended.items() if turn != "turn_0") < 1.0 < ended["turn_0"]
