"""Whose clock says that a key is old: the gateway's. What the clocks of the instances show changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from chaos.plan import Plan, parse
from chaos.simulation import Settings, simulate
from chaos.turns import Turn
from contracts.verdict import Judgement, judge
from coordinators.common.gateway import Capabilities, GatewaySilent
from coordinators.common.http import Answer
from coordinators.hardened.gateway_time import GatewayTime
from fakes.gateway.profile import PROFILES, Profile
from fakes.history import EffectCommitted, InDoubtReported, of_kind
from fakes.script import Script, ScriptedCall

DAY_AND_MORE = 90_000.0
"""Seconds, longer than the gateway keeps keys."""
NOON = 1_900_000_000.0


class Machine:
    """A gateway with a clock of its own, and the wall clock of an instance, which can be set."""

    def __init__(self) -> None:
        self.asked = 0
        self.silent = False
        self.tells = True
        self.passed = self.off = self.gateway_off = 0.0

    async def capabilities(self) -> Capabilities:
        """What a real one says, if it does."""
        self.asked += 1
        if self.silent:
            raise GatewaySilent("no answer")
        return Capabilities(time=self.gateway if self.tells else None)

    @property
    def gateway(self) -> float:
        """The gateway's clock."""
        return NOON + self.passed + self.gateway_off

    def wall(self) -> float:
        """The instance's clock."""
        return NOON + self.passed + self.off


@pytest.fixture
def machine() -> Machine:
    """A gateway and an instance, which agree."""
    return Machine()


def during(machine: Machine, *, wall: float = 0.0, both: float = 0.0, silent: bool = False, earliest: bool = False) -> float:
    """The gateway's time as an instance has it after it was told once, and clocks jumped meanwhile; less what it really is."""

    async def story() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        time = GatewayTime(machine, lambda: machine.wall() + loop.time() - began)  # type: ignore[arg-type]
        await time.now()
        machine.off += wall + both
        machine.gateway_off += both
        machine.silent = silent
        return (await time.at_the_earliest() if earliest else await time.now()) - machine.gateway

    return asyncio.run(story())


def test_what_was_told_once_goes_on(machine: Machine) -> None:
    """A clock that has always been wrong is right about what has passed."""
    machine.off = DAY_AND_MORE
    assert during(machine) == pytest.approx(0, abs=0.5)
    assert machine.asked == 1


@pytest.mark.parametrize("jump", [{"wall": DAY_AND_MORE}, {"wall": -DAY_AND_MORE}, {"both": DAY_AND_MORE}])
def test_a_clock_that_was_set_has_the_gateway_asked_again(machine: Machine, jump: dict[str, float]) -> None:
    """Whether it was only this instance's, or everybody's."""
    assert during(machine, **jump) == pytest.approx(0, abs=0.5)
    assert machine.asked == 2


@pytest.mark.parametrize(("wall", "earliest"), [(DAY_AND_MORE, 0.0), (-DAY_AND_MORE, -DAY_AND_MORE)])
def test_a_silent_gateway_leaves_the_earliest_time(machine: Machine, wall: float, earliest: float) -> None:
    """By which a call that is sent now is taken for older than it is, never for younger."""
    with pytest.raises(GatewaySilent):
        during(machine, wall=wall, silent=True)
    assert during(Machine(), wall=wall, silent=True, earliest=True) == pytest.approx(earliest, abs=0.5)


def test_a_gateway_without_a_clock_leaves_that_of_the_instance(machine: Machine) -> None:
    """The time that it does not tell is the wall clock's, also after that was set."""
    machine.tells = False
    assert during(machine, wall=DAY_AND_MORE) == pytest.approx(DAY_AND_MORE, abs=0.5)


@pytest.mark.parametrize(
    ("headers", "date"),
    [({"date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 784_111_777.0), ({}, None), ({"date": "yesterday"}, None)],
)
def test_an_answer_tells_its_time(headers: dict[str, str], date: float | None) -> None:
    """In the form of RFC 9110, or not at all."""
    assert Answer(200, b"", headers).date == date


def played(*rules: dict[str, Any], gateway: Profile = PROFILES["keyed"]) -> tuple[Judgement, list[Any]]:
    """One create_ticket of the hardened coordinator at a keyed gateway, under these rules; all of them have to fire."""
    plan: Plan = parse({"name": "clocks", "rules": list(rules)})
    turn = Turn(Script("turn_1", "C1", "U1", ((ScriptedCall("create_ticket", {"user_id": "U1", "conversation_id": "C1"}),),)))
    settings = Settings(coordinator="hardened", gateway=gateway, seed=1, quiesce_budget=20.0)
    events = simulate(settings, [turn], [plan]).events
    return judge(events, gateway, expected_rules=[(rule.id, False) for rule in plan.rules]), list(events)


def when(event: str, *faults: dict[str, Any]) -> dict[str, Any]:
    """A rule about the first such event."""
    return {"when": {"event": event, "nth": 1}, "do": list(faults)}


def jump(which: str, back: str = "no", seconds: float = DAY_AND_MORE) -> dict[str, Any]:
    """A clock is set."""
    return {"fault": "clock_jump", "which": which, "seconds": seconds, "back": back}


KILL = {"fault": "kill", "which": "sender"}


@pytest.mark.parametrize("back", ["no", "yes"])
@pytest.mark.parametrize(
    "rules",
    [
        lambda back: [when("tool_requested", jump("sender", back), {"fault": "lose_request"})],
        lambda back: [when("run_told", jump("sender", back)), when("tool_requested", {"fault": "lose_request"})],
        lambda back: [when("tool_requested", jump("other", back), {"fault": "lose_request"}, KILL)],
        lambda back: [when("run_told", jump("other", back)), when("tool_requested", {"fault": "commit_then_lose_reply"}, KILL)],
        lambda back: [when("run_told", jump("sender", back)), when("tool_requested", {"fault": "commit_then_lose_reply"}, KILL)],
    ],
    ids=["its own, when it has sent", "its own, before", "another's, which takes over", "another's, before", "its own, and dies"],
)
def test_the_clock_of_one_instance_changes_nothing(rules: Any, back: str) -> None:
    """The request is repeated under its key, which the gateway still keeps."""
    judgement, events = played(*rules(back))
    assert str(judgement.verdict) == "pass", (judgement.violations, judgement.reasons)
    assert len(list(of_kind(events, EffectCommitted))) == 1
    assert not list(of_kind(events, InDoubtReported))


def test_a_key_that_is_old_by_everybody_s_clock_is_not_used_again() -> None:
    """The gateway has forgotten it, and what it committed, before the run expires: the call is in doubt, and not done twice."""
    _, events = played(
        when("tool_requested", {"fault": "commit_then_lose_reply"}), when("effect_committed", jump("all", seconds=200.0)),
        when("callback_due", {"fault": "late_callback", "seconds": 10.0}),
        gateway=dataclasses.replace(PROFILES["keyed"], key_ttl=100.0),
    )
    assert len(list(of_kind(events, EffectCommitted))) == 1
    assert list(of_kind(events, InDoubtReported))
