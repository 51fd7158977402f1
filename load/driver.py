"""The deliveries of a load: Locust processes deliver the turns and tell about it; here it becomes history.

What is told arrives up to a tenth of a second late, so the moment of a turn's delivery is only as exact as that; latencies are
measured where the turns are delivered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import aiohttp

from chaos.nemesis import Moot, PlanNemesis
from fakes.history import Event, History, TurnAnswered, TurnEnded, TurnPlanned, TurnSent


@dataclasses.dataclass(slots=True)
class _Open:
    """A turn that has not ended."""

    conversation: str
    body: dict[str, str]
    due: float
    home: str | None = None
    attempts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Lifecycle:
    """One turn that has ended. Times are seconds of the epoch; `due` is when it ought to have been delivered."""

    due: float
    ended: float
    ok: bool
    attempts: int

    @property
    def seconds(self) -> float:
        """Its latency, from the intended start."""
        return self.ended - self.due


class LoadDriver:
    """Stands in the place of the driver of a gate.

    Args:
        instances: address -> name of each instance.
        ended: told of every turn that has ended.
        due: told when a turn is delivered for the first time, with the time at which it was due.
        dropped: told of every turn that was due and was not delivered.
    """

    def __init__(
        self, history: History, nemesis: PlanNemesis, http: aiohttp.ClientSession, instances: Mapping[str, str], *,
        due: Callable[[float], None], ended: Callable[[Lifecycle], None], dropped: Callable[[float], None],
    ) -> None:
        self._history = history
        self._nemesis = nemesis
        self._http = http
        self._instances = dict(instances)
        self._on_due, self._on_ended, self._on_dropped = due, ended, dropped
        self._kinds: dict[str, Callable[..., Event | None]] = {
            "planned": self._planned, "sent": self._sent, "answered": self._answered, "ended": self._ended,
            "dropped": dropped,
        }
        self._next = itertools.count()
        self._turns: dict[str, _Open] = {}
        self._of_conversation: dict[str, str] = {}
        self._extra: set[asyncio.Task[None]] = set()
        self.plans: tuple[str, ...] = ()
        """names of the plans in force, which turns that begin now are bound to"""
        self.hit: Container[str | None] | None = None
        """the conversations that they are bound to; None means all"""
        self.unanswered = 0

    @property
    def open(self) -> int:
        """How many turns have not ended."""
        return len(self._turns)

    async def told(self, batch: Sequence[Sequence[Any]]) -> None:
        """Take a batch of records from Locust."""
        for kind, *fields in batch:
            made = self._kinds[kind](*fields)
            if made is not None:
                await self._nemesis.at(made)

    async def close(self, waited: float) -> None:
        """Every turn that is still open is unanswered."""
        for task in self._extra:
            task.cancel()
        await asyncio.gather(*self._extra, return_exceptions=True)
        for turn_id, turn in self._turns.items():
            self.unanswered += 1
            self._history.record(
                TurnEnded, conversation=turn.conversation, turn_id=turn_id, status="unanswered",
                detail=f"not done {waited:g} s after everything was healed",
            )
        self._turns.clear()
        self._of_conversation.clear()

    def resend(self, conversation: str | None, to: str, after: float) -> str:
        """Deliver the turn of a conversation once more. Raises Moot when it has ended, or was not accepted yet."""
        turn_id = self._of_conversation.get(conversation or "")
        turn = self._turns.get(turn_id or "")
        if turn_id is None or turn is None:
            raise Moot(f"conversation {conversation} has no open turn")
        everyone = list(self._instances)
        others = [url for url in everyone if url != turn.home] or everyone
        url = turn.home if to == "same" and turn.home else others[next(self._next) % len(others)]
        task = asyncio.get_running_loop().create_task(self._again(turn_id, turn, url, after))
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)
        return f"turn {turn_id} once more to {self._instances[url]}"

    async def _again(self, turn_id: str, turn: _Open, url: str, after: float) -> None:
        await asyncio.sleep(after)
        attempt = turn.attempts + 1
        await self._nemesis.at(self._sent(turn_id, turn.conversation, url, attempt))
        status: int | None = None
        reason: str | None = None
        try:
            async with self._http.post(f"{url}/turns", json=turn.body, timeout=aiohttp.ClientTimeout(total=10)) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
        await self._nemesis.at(self._answered(turn_id, turn.conversation, url, attempt, status, reason))

    # --- what is told, by kind ---

    def _planned(self, turn_id: str, conversation: str, due: float, calls: Any, body: dict[str, str]) -> Event:
        self._turns[turn_id] = _Open(conversation, body, due)
        self._of_conversation[conversation] = turn_id
        bound = self.plans if self.hit is None or conversation in self.hit else ()
        self._on_due(due)
        return self._history.record(
            TurnPlanned, conversation=conversation, turn_id=turn_id, plans=bound, calls=tuple(tuple(step) for step in calls)
        )

    def _sent(self, turn_id: str, conversation: str, url: str, attempt: int) -> Event:
        if (turn := self._turns.get(turn_id)) is not None:
            turn.attempts = max(attempt, turn.attempts)
        return self._history.record(
            TurnSent, conversation=conversation, turn_id=turn_id, instance=self._instances.get(url, url), attempt=attempt
        )

    def _answered(
        self, turn_id: str, conversation: str, url: str, attempt: int, status: int | None, reason: str | None
    ) -> Event:
        turn = self._turns.get(turn_id)
        if turn is not None and status is not None and status < 300:
            turn.home = url
        return self._history.record(
            TurnAnswered, conversation=conversation, turn_id=turn_id, instance=self._instances.get(url, url), attempt=attempt,
            http_status=status, reason=reason,
        )

    def _ended(self, turn_id: str, conversation: str, status: str, detail: str | None, due: float, end: float) -> Event:
        turn = self._turns.pop(turn_id, None)
        self._of_conversation.pop(conversation, None)
        self._on_ended(Lifecycle(due, end, status == "done", turn.attempts if turn is not None else 1))
        return self._history.record(TurnEnded, conversation=conversation, turn_id=turn_id, status=status, detail=detail)
