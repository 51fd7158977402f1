"""A live chamber: the fakes, the proxies and the instances of a coordinator, run in the background of plain test code.

    with LiveChamber(settings) as chamber:
        chamber.inject("stale-polls")
        assert chamber.run(turns=20).verdict == "pass"
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from anechoic.gate import expected_rules
from chaos import builtin
from chaos.plan import Plan, load, parse
from chaos.turns import Turn, make
from chaos.wire.chamber import Chamber
from chaos.wire.settings import Settings
from contracts.verdict import Judgement, judge
from fakes.history import EffectCommitted, Event
from fakes.loop import new_loop

T = TypeVar("T")


def plan_of(given: object, name: str = "injected") -> Plan:
    """The plan that `given` means: a built-in name (several joined by +), a file, data, or a plan already.

    Data is a whole plan, or one rule `{"when": {...}, "do": {...}}`, which is called `name`. Raises PlanError.
    """
    if isinstance(given, Plan):
        return given
    if isinstance(given, Path):
        return load(given)
    if isinstance(given, str):
        return builtin.find(given)
    if isinstance(given, Mapping):
        whole = {"rules": [dict(given)]} if "when" in given or "do" in given else dict(given)
        return parse({"name": name, **whole}, name)
    raise TypeError(f"a plan is a name, a path, a dict or a Plan, not {type(given).__name__}")


class LiveChamber:
    """A chamber whose event loop runs in a thread of its own. Every method may be called from plain, blocking code.

    Enter it, or call `start` and `close`. Ports are free ones and the state is in a temporary folder, so that any number of
    chambers stand side by side, also in several processes.

    Args:
        alone: fakes and proxies only, for tests of one's own client code; no coordinator is started.
    """

    def __init__(self, settings: Settings, *, alone: bool = False) -> None:
        self.settings = settings
        self.alone = alone
        self._plans: list[Plan] = []
        self._ran = False
        self._chamber: Chamber | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        state = "closed" if self._chamber is None else "alone" if self.alone else "ran" if self._ran else "up"
        return f"<LiveChamber {self.settings.coordinator.label} at gateway {self.settings.gateway.name}, {state}>"

    def __enter__(self) -> LiveChamber:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it all; returns when every instance is ready. Raises WireError, and leaves nothing behind then."""
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="anechoic-chamber", daemon=True)
        self._thread.start()
        try:
            self._chamber = self._call(self._enter())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop and give back every process, port, file and thread. Safe to call twice."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @property
    def addresses(self) -> dict[str, dict[str, str]]:
        """For each instance the environment that tells it where everything is."""
        return {name: dict(environ) for name, environ in self._up.addresses.items()}

    @property
    def urls(self) -> dict[str, str]:
        """The environment of the first instance: ASSISTANTS_BASE_URL, TOOL_GATEWAY_URL, ASSISTANT_ID and the others."""
        return next(iter(self.addresses.values()))

    @property
    def events(self) -> tuple[Event, ...]:
        """The history so far."""
        return tuple(self._up.history.events)

    @property
    def effects(self) -> tuple[EffectCommitted, ...]:
        """What the gateway's ledger holds so far: everything that happened outside."""
        return tuple(event for event in self.events if isinstance(event, EffectCommitted))

    @property
    def troubles(self) -> tuple[str, ...]:
        """What went amiss with the instances, such as one that ended by itself."""
        return tuple(self._up.troubles)

    def inject(self, plan: object) -> Plan:
        """Put a fault plan in force, for every conversation: what `plan_of` takes. Raises PlanError."""
        made = plan_of(plan, f"injected-{len(self._plans) + 1}")

        async def arm() -> None:
            self._up.nemesis.arm(made)

        self._call(arm())
        self._plans.append(made)
        return made

    def turn(self, number: int = 0) -> Turn:
        """The turn of that number: `turn.body()` is what POST /turns carries, its `message` what a user says."""
        return make(self.settings.seed, number)

    def run(self, turns: int | Iterable[Turn] = 20, *, every: float = 0.0, contracts: Sequence[str] = ()) -> Judgement:
        """Deliver turns, heal everything, wait until the system rests, and judge.

        A chamber can do that once, since its history ends with it. A plan that was injected and never fired makes the run
        vacuous. Raises RuntimeError for a second run and in a chamber that is alone, ImpossibleDemand for `contracts`.

        Args:
            turns: how many, or the turns themselves.
            every: seconds between two deliveries.
            contracts: what is judged, by default everything that the gateway makes possible.
        """
        if self.alone:
            raise RuntimeError("this chamber is alone: there is no coordinator that turns could be delivered to")
        if self._ran:
            raise RuntimeError("this chamber has had its run; ask for another one")
        self._ran = True
        made = [make(self.settings.seed, number) for number in range(turns)] if isinstance(turns, int) else list(turns)
        self._call(self._deliver(made, every))
        events = self._up.history.events
        return judge(
            events, self.settings.gateway, wanted=list(contracts) or None,
            expected_rules=expected_rules(self._plans, events, explicit=True),
        )

    def explain(self, judgement: Judgement) -> str:
        """The judgement in words: each kind of violation with its story, what was amiss, and the seed."""
        from anechoic.testing import explain

        return "\n".join([explain(judgement), *self.troubles, f"seed {self.settings.seed}"])

    @property
    def _up(self) -> Chamber:
        if self._chamber is None:
            raise RuntimeError("this chamber is not running")
        return self._chamber

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop. It is cancelled when this thread is interrupted."""
        if self._loop is None:
            work.close()
            raise RuntimeError("this chamber is not running")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _enter(self) -> Chamber:
        return await Chamber(self.settings, alone=self.alone).__aenter__()

    async def _deliver(self, turns: Sequence[Turn], every: float) -> None:
        await self._up.run(turns, every)
        await self._up.quiesce()

    async def _leave(self) -> None:
        chamber, self._chamber = self._chamber, None
        try:
            if chamber is not None:
                await chamber.__aexit__(None, None, None)
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            loop = asyncio.get_running_loop()
            await loop.shutdown_asyncgens()
            await loop.shutdown_default_executor()
