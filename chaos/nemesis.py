"""The nemesis carries out fault plans: it is asked at every protocol point, and does what the rules say.

Intent is recorded before anything is broken, the effect after it happened. What lasts (a toxic, a process that is down) is
healed when its time is over, and whatever is still broken at the end is healed in `heal`, verified and recorded.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any, Protocol

from chaos.plan import Do, Plan, Rule, parse
from fakes.faults import FAKE_FAULTS, RUN_FAULTS, Fault, Runs
from fakes.history import Event, FaultFailed, FaultHealed, FaultInjected, FaultIntended, History

Heal = Callable[[], Awaitable[str | None]]
"""Makes whole what a fault broke, checks it, and says in a few words what it did."""


class Moot(Exception):
    """There is nothing to break: the process is down already from an earlier fault, the turn is over."""


class World(Protocol):
    """What can be broken outside the fakes."""

    async def carry_out(self, fault: str, args: Mapping[str, Any], cause: Event | None) -> tuple[str, float, Heal | None]:
        """Break it now. Returns what was done, after how many seconds it heals, and how (None: it heals by itself).

        Raises Moot when there is nothing to break, any other exception when it could not be done.
        """
        ...


class _Armed:
    """One rule in force, and how often its event occurred and it fired."""

    def __init__(self, rule: Rule, conversations: Container[str | None] | None, dice: str) -> None:
        self.rule = rule
        self.conversations = conversations
        self._dice = dice
        self._seen: dict[object, int] = {}
        self.occurred = 0
        self.fired = 0

    def widen(self, conversations: Container[str | None] | None) -> None:
        """These conversations too."""
        before = self.conversations
        self.conversations = None if before is None or conversations is None else _Either(before, conversations)

    def takes(self, event: Event, now: float, busy: bool) -> bool:
        """Whether this occurrence fires the rule; counts it either way. `busy`: something that lasts is broken now."""
        when = self.rule.when
        if self.conversations is not None and event.conversation not in self.conversations:
            return False
        if not when.matches(event):
            return False
        start, end = when.window
        if now < start or (end is not None and now >= end):
            return False
        if when.spaced and self.fired and busy:
            return False
        self.occurred += 1
        scope = when.scope(event)
        count = self._seen[scope] = self._seen.get(scope, 0) + 1
        if when.nth and count not in when.nth:
            return False
        if when.chance < 1 and random.Random(f"{self._dice}/{self.rule.id}/{scope}/{count}").random() >= when.chance:
            return False
        if when.times is not None and self.fired >= when.times:
            return False
        self.fired += 1
        return True


class _Either:
    """Whatever is in one or in the other."""

    def __init__(self, *parts: Container[str | None]) -> None:
        self._parts = parts

    def __contains__(self, conversation: object) -> bool:
        return any(conversation in part for part in self._parts)


class PlanNemesis:
    """Evaluates rules inline, at the protocol points of the fakes and of the driver of turns."""

    def __init__(self, history: History, world: World, *, seed: int, clock: Callable[[], float]) -> None:
        self._history = history
        self._world = world
        self.runs: Runs | None = None
        """the fake Assistants API, set when it is there"""
        self._seed = seed
        self._clock = clock
        self._start = clock()
        self._armed: dict[str, _Armed] = {}
        self._by_event: dict[str, list[_Armed]] = {}
        self._timers: list[asyncio.Task[None]] = []
        self._open: dict[asyncio.Task[None], Callable[[], Awaitable[None]] | None] = {}
        self._ended = False

    def arm(self, plan: Plan, conversations: Container[str | None] | None = None) -> None:
        """Put a plan in force, for the given conversations or for all. Arming a rule again widens its conversations."""
        for rule in plan.rules:
            known = self._armed.get(rule.id)
            if known is not None:
                known.widen(conversations)
                continue
            armed = self._armed[rule.id] = _Armed(rule, conversations, str(self._seed))
            if rule.when.event is not None:
                self._by_event.setdefault(rule.when.event, []).append(armed)
            else:
                self._timers.append(asyncio.get_running_loop().create_task(self._later(armed)))

    def load(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Replace the rules in force by a plan given as data (PlanError is a ValueError)."""
        parsed = parse(plan, "plan")
        self.disarm()
        self._start = self._clock()
        self.arm(parsed)
        return {"loaded": parsed.name, "rules": [str(rule) for rule in parsed.rules]}

    def disarm(self) -> None:
        """Nothing fires any more; what is broken stays so until its time is over or `heal` is called."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._armed.clear()
        self._by_event.clear()

    @property
    def pending(self) -> bool:
        """Whether a rule with a time of its own (`at`) has yet to fire."""
        return any(not timer.done() for timer in self._timers)

    @property
    def lasting(self) -> bool:
        """Whether something that lasts is broken now."""
        return bool(self._open)

    def restart_clock(self) -> None:
        """Seconds of `at`, `from` and `until` count from now."""
        self._start = self._clock()

    async def at(self, event: Event) -> Sequence[Fault]:
        """Carry out what the rules say about this event; returns the faults that only the fake can make."""
        rules = self._by_event.get(event.kind)
        if not rules or self._ended:
            return ()
        now = self._clock() - self._start
        fired = [armed for armed in rules if armed.takes(event, now, bool(self._open))]
        if not fired:
            return ()
        mine: list[Fault] = []
        for armed in fired:
            for do in armed.rule.do:
                if do.fault in RUN_FAULTS and event.kind in ("tool_requested", "effect_committed"):
                    await self._befall(armed, do, event)
                elif do.fault in FAKE_FAULTS:
                    mine.append(self._hand_over(armed, do, event))
                else:
                    await self._carry_out(armed, do, event)
        return mine

    async def heal(self) -> None:
        """Stop firing for good, and make whole everything that is still broken. Safe to call again."""
        self._ended = True
        await self.relieve()

    async def relieve(self) -> None:
        """Put every plan out of force, and make whole everything that is still broken; further plans may be armed."""
        self.disarm()
        for task, mend in list(self._open.items()):
            if mend is None:
                await asyncio.wait([task])
            else:
                task.cancel()
                self._open.pop(task, None)
                await mend()

    def _hand_over(self, armed: _Armed, do: Do, event: Event) -> Fault:
        self._intend(armed, do, event)

        def injected(detail: str | None) -> None:
            self._history.record(
                FaultInjected, rule=armed.rule.id, fault=do.fault, detail=detail, conversation=event.conversation
            )

        return Fault(do.fault, do.args, injected)

    async def _befall(self, armed: _Armed, do: Do, event: Event) -> None:
        if self.runs is None:
            raise RuntimeError("this world has no fake Assistants API to carry out a fault on a run")
        fault = self._hand_over(armed, do, event)
        await self.runs.befall(fault, getattr(event, "run_id", None), event.conversation)

    async def _carry_out(self, armed: _Armed, do: Do, event: Event | None) -> None:
        self._intend(armed, do, event)
        try:
            detail, seconds, mend = await self._world.carry_out(do.fault, do.args, event)
        except Moot as moot:
            armed.fired -= 1
            self._history.record(FaultHealed, rule=armed.rule.id, fault=do.fault, detail=f"moot: {moot}")
            return
        except Exception as error:
            self._history.record(FaultFailed, rule=armed.rule.id, fault=do.fault, reason=f"{type(error).__name__}: {error}")
            return
        self._history.record(FaultInjected, rule=armed.rule.id, fault=do.fault, detail=detail)
        if mend is not None:
            self._heal_after(armed, do, seconds, mend)

    def _heal_after(self, armed: _Armed, do: Do, seconds: float, mend: Heal) -> None:
        async def mended() -> None:
            try:
                how = await mend()
            except Exception as error:
                reason = f"not healed: {type(error).__name__}: {error}"
                self._history.record(FaultFailed, rule=armed.rule.id, fault=do.fault, reason=reason)
            else:
                self._history.record(FaultHealed, rule=armed.rule.id, fault=do.fault, detail=how)

        async def later() -> None:
            await asyncio.sleep(seconds)
            self._open[task] = None  # it heals from here on, and `heal` only waits for it
            await mended()
            self._open.pop(task, None)

        task = asyncio.get_running_loop().create_task(later())
        self._open[task] = mended

    def _intend(self, armed: _Armed, do: Do, event: Event | None) -> None:
        self._history.record(
            FaultIntended, rule=armed.rule.id, fault=do.fault, cause=event.seq if event else None, args=dict(do.args),
            conversation=event.conversation if event and do.fault in FAKE_FAULTS else None,
        )
        self._history.flush()

    async def _later(self, armed: _Armed) -> None:
        wait = (armed.rule.when.at or 0.0) - (self._clock() - self._start)
        await asyncio.sleep(max(0.0, wait))
        armed.occurred += 1
        armed.fired += 1
        for do in armed.rule.do:
            await self._carry_out(armed, do, None)
