"""The driver delivers turns, each at least once, and watches them until they end. It knows no world: a door leads there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from chaos.nemesis import Moot, PlanNemesis
from chaos.turns import Turn
from fakes.history import History, TurnAnswered, TurnEnded, TurnPlanned, TurnSent

POLL = 0.1
"""Seconds between two GET /turns/{turn_id}."""
SLOT_SECONDS = 10.0
"""A turn that takes longer gives its place in the in-flight limit back; it is watched on."""
GIVE_UP = 48
"""With so many turns open beyond their budget no further one is delivered: the run has failed, and is not to last for ever."""


class Reachable(Protocol):
    """An instance, as far as the driver cares."""

    @property
    def name(self) -> str:
        """Its name in the history."""
        ...

    @property
    def life(self) -> int:
        """How often it was started."""
        ...

    @property
    def ready(self) -> asyncio.Event:
        """Set while it takes turns."""
        ...


I = TypeVar("I", bound=Reachable)  # noqa: E741 - an instance


class Door(Protocol[I]):
    """The way to the instances of one world. Neither question raises; no answer is a status of None."""

    @property
    def all(self) -> Sequence[I]:
        """Every instance, in order."""
        ...

    async def deliver(self, instance: I, turn: Turn) -> tuple[int | None, str | None]:
        """POST /turns: the HTTP status, and the reason where it is no success."""
        ...

    async def status(self, instance: I, turn_id: str) -> tuple[int | None, Mapping[str, object]]:
        """GET /turns/{turn_id}: the HTTP status, and the JSON object ({} where there is none)."""
        ...


class Deliveries(Protocol):
    """Whoever delivers turns, as far as quiesce and the nemesis care."""

    unanswered: int

    @property
    def open(self) -> int:
        """How many turns have not ended."""
        ...

    async def close(self, waited: float) -> None:
        """Record every turn that is still open as unanswered, `waited` seconds after everything was healed."""
        ...

    def resend(self, conversation: str | None, to: str, after: float) -> str:
        """Deliver the turn of a conversation once more, soon; what was done. Raises Moot."""
        ...


class Driver(Generic[I]):
    """Delivers turns to instances in turn, again after a failure or when the instance lost them, and watches them.

    Args:
        in_flight: how many conversations run at once.
        budget: seconds after which an open turn counts as overdue. Nothing is judged then: a turn has until the end of
            quiesce, when the faults are healed, before it is unanswered.
    """

    def __init__(
        self, history: History, nemesis: PlanNemesis, door: Door[I], *, in_flight: int, budget: float
    ) -> None:
        self._history = history
        self._nemesis = nemesis
        self._door = door
        self._places = asyncio.Semaphore(in_flight)
        self._budget = budget
        self._next = itertools.count()
        self._attempts: dict[str, int] = {}
        self._turns: dict[str, Turn] = {}
        self._home: dict[str, I] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._began: dict[str, float] = {}
        self._last: dict[str, tuple[int | None, Mapping[str, object]]] = {}
        self._extra: dict[asyncio.Task[None], None] = {}
        self.unanswered = 0
        self.given_up = False

    @property
    def open(self) -> int:
        """How many turns have not ended."""
        return len(self._watching)

    async def deliver(self, turns: Iterable[Turn], every: float = 0.0) -> None:
        """Deliver all turns, one each `every` seconds where given; returns when the last is on its way."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for turn in turns:
            await self._places.acquire()
            if sum(loop.time() - began > self._budget for began in self._began.values()) >= GIVE_UP:
                self.given_up = True
                self._places.release()
                break
            self._began[turn.turn_id] = loop.time()
            self._watching[turn.turn_id] = loop.create_task(self._turn(turn))
            due += every
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def settle(self, seconds: float) -> bool:
        """Wait until every turn has ended, `seconds` at most; whether they have."""
        if self._watching:
            await asyncio.wait(list(self._watching.values()), timeout=seconds)
        return not self._watching

    async def close(self, waited: float) -> None:
        """Stop watching: every turn that is still open is recorded as unanswered after `waited` seconds of quiesce."""
        left = list(self._watching)
        for task in [*self._watching.values(), *self._extra]:
            task.cancel()
        await asyncio.gather(*self._watching.values(), *self._extra, return_exceptions=True)
        self._watching.clear()
        for turn in self._turns.values():
            if turn.turn_id in left:
                self.unanswered += 1
                status, data = self._last.get(turn.turn_id, (None, {}))
                last = f"{status} {dict(data)}"[:120] if status is not None else "nothing"
                detail = f"not done {waited:g} s after everything was healed; GET /turns/{turn.turn_id} answered {last}"
                self._history.record(
                    TurnEnded, conversation=turn.conversation_id, turn_id=turn.turn_id, status="unanswered", detail=detail
                )

    def resend(self, conversation: str | None, to: str, after: float) -> str:
        """Deliver the turn of a conversation once more, soon. Raises Moot when it has none, or there is no other instance."""
        turn = self._turns.get(conversation or "")
        if turn is None:
            raise Moot(f"conversation {conversation} has no turn that was delivered")
        target = self._choose(to, self._home.get(turn.turn_id))

        async def again() -> None:
            await asyncio.sleep(after)
            await self._send(turn, target)

        task = asyncio.get_running_loop().create_task(again())
        self._extra[task] = None
        task.add_done_callback(lambda done: self._extra.pop(done, None))
        return f"turn {turn.turn_id} once more to {target.name}"

    def _choose(self, to: str, home: I | None) -> I:
        everyone = self._door.all
        if home is None or to == "any":
            return everyone[next(self._next) % len(everyone)]
        if to == "same":
            return home
        others = [i for i in everyone if i is not home]
        return others[next(self._next) % len(others)] if others else home

    async def _turn(self, turn: Turn) -> None:
        place = _Place(self._places)
        self._turns[turn.conversation_id] = turn
        self._history.record(
            TurnPlanned, conversation=turn.conversation_id, turn_id=turn.turn_id, plans=turn.plans, calls=turn.calls
        )
        try:
            status, detail = await self._until_ended(turn)
        finally:
            place.give_back()
        del self._watching[turn.turn_id], self._began[turn.turn_id], self._last[turn.turn_id]
        await self._nemesis.at(
            self._history.record(
                TurnEnded, conversation=turn.conversation_id, turn_id=turn.turn_id, status=status, detail=detail
            )
        )

    async def _until_ended(self, turn: Turn) -> tuple[str, str | None]:
        instance = await self._accepted(turn)
        life = instance.life
        while True:
            await asyncio.sleep(POLL)
            status, data = self._last[turn.turn_id] = await self._door.status(instance, turn.turn_id)
            if status == 200 and data.get("status") in ("done", "failed"):
                detail = data.get("detail")
                return str(data["status"]), None if detail is None else str(detail)
            lost = status == 404 or (status is None and instance.life != life)
            if lost and instance.ready.is_set():  # it forgot the turn: deliver it again
                instance = await self._accepted(turn)
                life = instance.life

    async def _accepted(self, turn: Turn) -> I:
        while True:
            instance = self._choose("any", None)
            if not instance.ready.is_set() and any(i.ready.is_set() for i in self._door.all):
                continue
            status = await self._send(turn, instance)
            if status is not None and 200 <= status < 300:
                self._home[turn.turn_id] = instance
                return instance
            await asyncio.sleep(0.2)

    async def _send(self, turn: Turn, instance: I) -> int | None:
        attempt = self._attempts[turn.turn_id] = self._attempts.get(turn.turn_id, 0) + 1
        common = {
            "conversation": turn.conversation_id, "turn_id": turn.turn_id, "instance": instance.name, "attempt": attempt,
        }
        await self._nemesis.at(self._history.record(TurnSent, **common))
        status, reason = await self._door.deliver(instance, turn)
        if status is not None and 200 <= status < 300:
            self._home.setdefault(turn.turn_id, instance)
        await self._nemesis.at(self._history.record(TurnAnswered, **common, http_status=status, reason=reason))
        return status


class _Place:
    """One place within the in-flight limit: given back when the turn ends, or after a while all the same."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = True
        self._timer = asyncio.get_running_loop().call_later(SLOT_SECONDS, self.give_back)

    def give_back(self) -> None:
        """Once, however often it is called."""
        if self._held:
            self._held = False
            self._timer.cancel()
            self._places.release()
