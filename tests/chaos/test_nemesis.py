"""The nemesis: what fires when, what is recorded, and that everything is healed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from chaos.nemesis import Heal, Moot, PlanNemesis
from chaos.plan import PlanError, parse
from fakes.history import Event, FaultFailed, FaultHealed, FaultInjected, FaultIntended, History, ToolRequested


class World:
    """A world that only notes what is done to it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[str] = []
        self.broken: set[str] = set()
        self.error = error

    async def carry_out(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> tuple[str, float, Heal | None]:
        if self.error is not None:
            raise self.error
        self.done.append(fault)
        self.broken.add(fault)

        async def heal() -> str:
            self.broken.discard(fault)
            return "whole"

        return "done", float(args.get("seconds", 0)), heal


def plan(when: dict[str, Any], do: Any) -> Any:
    return parse({"name": "p", "rules": [{"when": when, "do": do}]})


class Setup:
    def __init__(self, error: Exception | None = None, seed: int = 1) -> None:
        self.history = History()
        self.world = World(error)
        self.nemesis = PlanNemesis(self.history, self.world, seed=seed, clock=time.monotonic)

    async def request(self, conversation: str = "C1", tool: str = "t", call: str = "c") -> list[str]:
        event = self.history.record(
            ToolRequested, conversation=conversation, request_id="r", tool=tool, payload_hash="h", tool_call_id=call
        )
        return [f.name for f in await self.nemesis.at(event)]

    def kinds(self) -> list[str]:
        return [e.kind for e in self.history.events if e.kind.startswith("fault")]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"nth": 2}, [False, True, False, False]),
        ({"nth": "every"}, [True, True, True, True]),
        ({"nth": [1, 3]}, [True, False, True, False]),
        ({"nth": "every", "times": 2}, [True, True, False, False]),
        ({"tool": "other"}, [False, False, False, False]),
        ({"nth": "every", "conversation": "C2"}, [False, False, False, False]),
        ({"nth": "every", "from": 1000}, [False, False, False, False]),
        ({"nth": "every", "until": 1000}, [True, True, True, True]),
    ],
)
def test_which_occurrence_fires(when: dict[str, Any], expected: list[bool]) -> None:
    """nth, times, filters and windows choose the occurrence."""

    async def main() -> list[bool]:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested", **when}, {"fault": "slow"}))
        return [await s.request() == ["slow"] for _ in range(4)]

    assert asyncio.run(main()) == expected


def test_occurrences_are_counted_per_conversation_call_or_all() -> None:
    """The first of each conversation is another thing than the first of all."""

    async def main(per: str) -> list[bool]:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested", "per": per}, {"fault": "slow"}))
        return [bool(await s.request(c, call=call)) for c, call in (("A", "1"), ("B", "2"), ("A", "3"), ("A", "3"))]

    assert asyncio.run(main("conversation")) == [True, True, False, False]
    assert asyncio.run(main("call")) == [True, True, True, False]
    assert asyncio.run(main("all")) == [True, False, False, False]


def test_a_plan_bound_to_conversations_leaves_others_alone() -> None:
    """Arming again for another conversation widens the rule instead of doubling it."""

    async def main() -> list[list[str]]:
        s = Setup()
        p = plan({"event": "tool_requested"}, {"fault": "slow"})
        s.nemesis.arm(p, {"A"})
        s.nemesis.arm(p, {"B"})
        return [await s.request("A"), await s.request("B"), await s.request("C")]

    assert asyncio.run(main()) == [["slow"], ["slow"], []]


def test_chance_is_seeded() -> None:
    """The same seed draws the same fates, another seed others, and about the share that was asked for fires."""

    async def main(seed: int) -> list[bool]:
        s = Setup(seed=seed)
        s.nemesis.arm(plan({"event": "tool_requested", "chance": 0.3}, {"fault": "slow"}))
        return [bool(await s.request(f"C{i}")) for i in range(300)]

    first = asyncio.run(main(1))
    assert first == asyncio.run(main(1))
    assert first != asyncio.run(main(2))
    assert 50 < sum(first) < 130


def test_intent_comes_first_and_healing_last() -> None:
    """Intended, injected, healed: in this order, and the world is whole afterwards."""

    async def main() -> Setup:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested"}, {"fault": "kill", "seconds": 60}))
        assert await s.request() == []
        assert s.world.broken == {"kill"}
        await s.nemesis.heal()
        await s.nemesis.heal()
        assert await s.request("C2") == []
        return s

    s = asyncio.run(main())
    assert s.kinds() == ["fault_intended", "fault_injected", "fault_healed"]
    assert s.world.broken == set()
    intended = next(e for e in s.history.events if isinstance(e, FaultIntended))
    assert (intended.cause, intended.fault, intended.rule) == (1, "kill", "p/1")


def test_a_fault_heals_when_its_time_is_over() -> None:
    """Nobody has to wait for the end of the run."""

    async def main() -> Setup:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested"}, {"fault": "pause", "seconds": 0.01}))
        await s.request()
        async with asyncio.timeout(5):
            while not any(isinstance(e, FaultHealed) for e in s.history.events):
                await asyncio.sleep(0.01)
        return s

    assert asyncio.run(main()).world.broken == set()


def test_a_fault_of_the_fake_is_injected_when_the_fake_says_so() -> None:
    """Matched is not injected: the fake reports when it took effect, and only once counts."""

    async def main() -> Setup:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested"}, {"fault": "slow"}))
        event = s.history.record(ToolRequested, conversation="C1", request_id="r", tool="t", payload_hash="h")
        (fault,) = await s.nemesis.at(event)
        assert s.kinds() == ["fault_intended"]
        fault.injected("yes")
        fault.injected("again")
        return s

    s = asyncio.run(main())
    assert s.kinds() == ["fault_intended", "fault_injected"]
    assert s.history.events[-1].conversation == "C1"


def test_a_fault_that_cannot_be_injected_is_recorded_as_failed() -> None:
    """It makes the run invalid later; it never passes silently."""

    async def main() -> Setup:
        s = Setup(OSError("no such process"))
        s.nemesis.arm(plan({"event": "tool_requested"}, {"fault": "kill"}))
        await s.request()
        return s

    (failed,) = (e for e in asyncio.run(main()).history.events if isinstance(e, FaultFailed))
    assert failed.reason == "OSError: no such process"


def test_a_moot_fault_does_not_count_as_fired() -> None:
    """Killing what is down already is no injection, and leaves the rule its firing."""

    async def main() -> Setup:
        s = Setup(Moot("it is down already"))
        s.nemesis.arm(plan({"event": "tool_requested", "nth": "every", "times": 1}, {"fault": "kill"}))
        await s.request()
        s.world.error = None
        await s.request()
        await s.nemesis.heal()
        return s

    s = asyncio.run(main())
    assert sum(isinstance(e, FaultInjected) for e in s.history.events) == 1


def test_a_timed_rule_fires_at_its_time() -> None:
    """`at` counts from the start of the clock."""

    async def main() -> Setup:
        s = Setup()
        s.nemesis.arm(plan({"at": 0.01}, {"fault": "kill", "seconds": 0}))
        assert s.nemesis.pending
        async with asyncio.timeout(5):
            while s.nemesis.pending or s.world.broken:
                await asyncio.sleep(0.01)
        return s

    assert asyncio.run(main()).kinds() == ["fault_intended", "fault_injected", "fault_healed"]


def test_load_replaces_the_rules_in_force() -> None:
    """What the admin interface of a fake loads is validated like a plan file."""

    async def main() -> None:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested", "nth": "every"}, {"fault": "slow"}))
        said = s.nemesis.load({"name": "n", "rules": [{"when": {"event": "tool_requested"}, "do": {"fault": "unavailable"}}]})
        assert said["loaded"] == "n"
        assert await s.request() == ["unavailable"]
        with pytest.raises(PlanError):
            s.nemesis.load({"rules": [{}]})

    asyncio.run(main())


def test_a_spaced_rule_waits_until_nothing_else_is_broken() -> None:
    """Its first firing is certain; after that it keeps away from what lasts, without using up occurrences."""

    async def main() -> Setup:
        s = Setup()
        s.nemesis.arm(plan({"event": "tool_requested", "spaced": True}, {"fault": "kill", "seconds": 60}))
        await s.request("A")
        await s.request("B")
        assert s.world.done == ["kill"]
        for task in list(s.nemesis._open):
            task.cancel()
        s.nemesis._open.clear()
        await s.request("B")
        assert s.world.done == ["kill", "kill"]
        await s.nemesis.heal()
        return s

    asyncio.run(main())


def test_a_fault_on_a_run_can_be_tied_to_an_event_of_the_gateway() -> None:
    """The fake Assistants API is asked to make it, and the gateway gets nothing to do."""

    async def main() -> tuple[Setup, list[Any]]:
        s = Setup()
        befallen: list[Any] = []

        class Runs:
            async def befall(self, fault: Any, run_id: str | None, conversation: str | None) -> None:
                befallen.append((fault.name, fault.args["ids"], run_id, conversation))
                fault.injected()

        s.nemesis.runs = Runs()
        s.nemesis.arm(plan({"event": "tool_requested"}, {"fault": "regenerate_step", "ids": "new"}))
        assert await s.request() == []
        return s, befallen

    s, befallen = asyncio.run(main())
    assert befallen == [("regenerate_step", "new", None, "C1")]
    assert s.kinds() == ["fault_intended", "fault_injected"]
