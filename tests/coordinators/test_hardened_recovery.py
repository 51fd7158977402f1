"""Which recovery goes with which gateway, and the key that repeats carry."""

from __future__ import annotations

from typing import Any

import pytest

from coordinators.common.assistants import ToolCall
from coordinators.common.gateway import Capabilities
from coordinators.hardened import create_app
from coordinators.hardened.records import Asked
from coordinators.hardened.recovery import Fenced, Keyed, Keyless, LookUp, recovery_for
from fakes.gateway.profile import PROFILES
from fakes.history import ToolRequested


@pytest.mark.parametrize(
    ("profile", "recovery"),
    [
        ("keyless", Keyless), ("keyed", Keyed), ("lookup", LookUp), ("fenced", Fenced),
        ("keyed-short-ttl", Keyless), ("lookup-unbounded", Keyless), ("fence-only", Keyless),
    ],
)
def test_recovery_for(profile: str, recovery: type[Any]) -> None:
    """A repeat is allowed only where the gateway makes it safe; a promise that is too weak counts as none."""
    offered = PROFILES[profile].capabilities()
    del offered["profile"]
    assert type(recovery_for(Capabilities(**offered))) is recovery


@pytest.mark.parametrize("profile", ["keyed-short-ttl", "lookup-unbounded", "fence-only"])
def test_weak_promises_never_lead_to_a_second_effect(chamber: Any, rule: Any, asking: Any, profile: str) -> None:
    """Where both cannot be had, at most once wins, and what got lost is in doubt."""
    lost = rule("tool_requested", "lose_request")
    c = chamber(create_app, profile, lost, rule("tool_requested", "commit_then_lose_reply", nth=2))
    assert c.run(asking(("create_ticket", "send_email", "refund_payment"))) == {"turn_1": "done"}
    assert c.effects() == [1, 1]
    assert len(c.doubts) == 1


def test_slot_survives_new_ids_and_tells_calls_apart() -> None:
    """A claim's name depends on place and content, not on the call's id or the layout of its JSON."""

    def slot(position: int = 0, call_id: str = "call_a", arguments: str = '{"a": 1, "b": 2}') -> str:
        call = ToolCall(call_id, "send_email", arguments)
        return Asked(thread_id="t", run_id="r", step_id="s", ordinal=0, position=position, call=call).slot

    assert slot() == slot(call_id="call_b") == slot(arguments='{"b":2,"a":1}')
    assert len({slot(), slot(position=1), slot(arguments='{"a": 2}'), slot(arguments="no JSON")}) == 4


def test_repeats_carry_the_same_key_and_ids(chamber: Any, rule: Any, asking: Any) -> None:
    """Every repeat of a call has the same idempotency key; different calls have different ones."""
    c = chamber(create_app, "keyed", rule("tool_requested", "unavailable", nth=1), rule("tool_requested", "lose_request", nth=2))
    c.run(asking(("create_ticket", "send_email")))
    sent = [(e.key, e.tool_call_id, e.run_id) for e in c.events(ToolRequested)]
    assert len(sent) == 4
    assert len(set(sent)) == 2


def test_unknown_capabilities_are_asked_for_until_they_are_told(chamber: Any, rule: Any, asking: Any) -> None:
    """A gateway that cannot be asked at first is taken for keyless, and believed as soon as it answers."""
    c = chamber(create_app, "keyed", rule("tool_requested", "lose_request"))
    ask = c.gateway.handle

    async def deaf(request: Any) -> Any:
        if request.path == "/capabilities" and c.loop.now < 1.5:
            raise ConnectionError
        return await ask(request)

    async def later(request: Any) -> Any:
        try:
            return await deaf(request)
        except ConnectionError:
            from fakes.exchange import Cut

            raise Cut from None

    c.gateway.handle = later
    assert c.run(asking(("create_ticket",))) == {"turn_1": "done"}
    assert c.effects() == [1]
    assert c.doubts == []
