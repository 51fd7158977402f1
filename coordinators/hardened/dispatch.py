"""Dispatch: from a call that a step asks for to a result in the store, sent at most as often as the gateway allows."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable

from coordinators.common.assistants import Run
from coordinators.common.gateway import (
    Capabilities,
    Gateway,
    GatewaySilent,
    ToolRequest,
    as_text,
    error_output,
    is_definite,
)
from coordinators.common.http import Answer, NoAnswer, NotSent
from coordinators.common.log import Log
from coordinators.common.stores import StoreUnavailable
from coordinators.hardened.gateway_time import GatewayTime
from coordinators.hardened.patience import backoff, until_stored
from coordinators.hardened.records import Asked, Claim, Turn
from coordinators.hardened.recovery import MOST_ATTEMPTS, Keyless, Outcome, Recovery, recovery_for
from coordinators.hardened.store import Store

LOOK_AGAIN = 0.1
"""Seconds between two looks into the store for a result that another instance took."""
WAIT_NOTED = 0.5
"""Seconds of waiting after which they are noted in the store."""
REDELIVERY = 1.5
"""Seconds within which a gateway posts a result again that was refused because the store was away."""


class NotWanted(Exception):
    """The run does not wait for tool outputs any more, as far as this instance was told."""


@dataclasses.dataclass(slots=True, eq=False)
class Conduct:
    """What this instance knows of a turn that it conducts. `told` is the latest state of the run that it was told."""

    turn: Turn
    told: Run | None = None
    steps: dict[tuple[str, ...], tuple[str, int] | None] = dataclasses.field(default_factory=dict)
    """by the ids of its calls: a step's id and ordinal, or None when the step takes no outputs any more"""
    tasks: dict[str, asyncio.Task[None]] = dataclasses.field(default_factory=dict)
    """what works on a call now, by slot"""
    news: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Dispatcher:
    """Sends calls to the gateway.

    Args:
        patience: seconds that a result which may never come is waited for.
        tool_timeout: seconds that a request to the gateway may take.
        clock: unix seconds, by this instance's clock.
    """

    def __init__(
        self, gateway: Gateway, store: Store, log: Log, clock: Callable[[], float], *, patience: float, tool_timeout: float
    ) -> None:
        self.gateway = gateway
        self.store = store
        self.patience = patience
        self.tool_timeout = tool_timeout
        self.capabilities: Capabilities | None = None
        self.stopping = False
        self._log = log
        self._clock = clock
        self._gateway_time = GatewayTime(gateway, clock)
        self._arrivals: dict[str, asyncio.Event] = {}

    async def learn(self) -> None:
        """Ask the gateway what it offers, until it says so."""
        attempt = 0
        while self.capabilities is None:
            try:
                capabilities = await self.gateway.capabilities()
                self._gateway_time.learn(capabilities.time)
                self.capabilities = capabilities
            except GatewaySilent as error:
                self._log.coordinator("WARN", f"gateway capabilities: {error}")
                await asyncio.sleep(backoff(attempt, 1.0))
                attempt += 1

    def arrived(self, slot: str) -> None:
        """A result for this claim has just been stored."""
        if slot in self._arrivals:
            self._arrivals[slot].set()

    async def perform(self, conduct: Conduct, asked: Asked) -> None:
        """Take a call to its result, or to being in doubt. Can be left and begun again at any point.

        Raises TurnLost, or NotWanted when the run does not wait any more.
        """
        claim, fresh = await self.claim(conduct, asked)
        bench = Bench(self, conduct, claim)
        try:
            if fresh:
                outcome = await self.send(conduct, claim)
            else:
                outcome = Outcome.SETTLED if claim.output is not None or claim.in_doubt else Outcome.UNKNOWN
            attempt = 0
            while outcome is not Outcome.SETTLED:
                if outcome is Outcome.IN_DOUBT or attempt >= MOST_ATTEMPTS:
                    await self.give_up(claim)
                    return
                outcome = await self.recover(bench, outcome, attempt)
                attempt += outcome is not Outcome.NOT_SENT
        finally:
            self._arrivals.pop(claim.slot, None)

    def is_wanted(self, conduct: Conduct) -> bool:
        """Whether the run waits for outputs, as far as this instance was told, and this instance still takes work."""
        return self.still_waits(conduct) and not self.stopping

    def still_waits(self, conduct: Conduct) -> bool:
        """Whether the run waits for outputs, as far as this instance was told."""
        return conduct.told is not None and conduct.told.waits

    async def claim(self, conduct: Conduct, asked: Asked) -> tuple[Claim, bool]:
        """The claim on the call, and whether it is new: then, and only then, the call is to be sent without a look."""
        claimant = secrets.token_hex(8)
        claim, fresh = await until_stored(lambda: self.claim_now(conduct, asked, claimant))
        if fresh and not self.still_waits(conduct):
            raise NotWanted(asked.slot)
        return claim, fresh

    async def claim_now(self, conduct: Conduct, asked: Asked, claimant: str) -> tuple[Claim, bool]:
        """The same, if the store is there. Raises StoreUnavailable, TurnLost or NotWanted."""
        now = await self._gateway_time.at_the_earliest()
        if not self.is_wanted(conduct):
            raise NotWanted(asked.slot)
        return await self.store.claim(conduct.turn, asked, now, claimant)

    async def send(self, conduct: Conduct, claim: Claim) -> Outcome:
        """Send the call once, right after its intent was logged."""
        try:
            arguments = json.loads(claim.arguments)
            if not isinstance(arguments, dict):
                raise ValueError("expected an object")
        except ValueError as error:
            await self.settle(claim, error_output(f"the arguments are not a JSON object: {error}"))
            return Outcome.SETTLED
        try:
            answer = await self.gateway.request(self.tool_request(claim, arguments))
        except NotSent:
            return Outcome.NOT_SENT
        except NoAnswer as error:
            where = f"{claim.thread_id}/{claim.run_id} step={claim.step_id} tool_call={claim.tool_call_id}"
            self._log.coordinator("WARN", f"tool_unanswered {where} attempt={claim.attempt}: {error}")
            return Outcome.UNKNOWN
        return await self.understand(claim, answer)

    async def send_again(self, conduct: Conduct, claim: Claim) -> Outcome:
        """Log a new intent, and send the call once more."""
        return await self.send(conduct, await self.log_intent(conduct, claim))

    async def log_intent(self, conduct: Conduct, claim: Claim) -> Claim:
        """The claim with the number of its next attempt. Raises TurnLost or NotWanted."""

        async def attempt() -> int:
            if not self.is_wanted(conduct):
                raise NotWanted(claim.slot)
            return await self.store.log_intent(conduct.turn, claim.slot)

        number = await until_stored(attempt)
        if not self.still_waits(conduct):
            raise NotWanted(claim.slot)
        return dataclasses.replace(claim, attempt=number, waited=0.0)

    async def must_own(self, conduct: Conduct, claim: Claim) -> None:
        """Raises TurnLost or NotWanted when this instance may not send the call (any more)."""
        await until_stored(lambda: self.store.check_owner(conduct.turn))
        if not self.is_wanted(conduct):
            raise NotWanted(claim.slot)

    def tool_request(self, claim: Claim, arguments: dict[str, object]) -> ToolRequest:
        """The request for a claimed call: every repeat is the same, but for its fence."""
        fences = self.capabilities is not None and self.capabilities.fence
        return ToolRequest(
            tool=claim.tool,
            arguments=arguments,
            thread_id=claim.thread_id,
            run_id=claim.run_id,
            step_id=claim.step_id,
            tool_call_id=claim.tool_call_id,
            idempotency_key=self.idempotency_key(claim),
            fence=claim.attempt if fences else None,
        )

    def idempotency_key(self, claim: Claim) -> str:
        """The same for every repeat, by any instance, under any ids; different for every other call."""
        return f"{claim.run_id}:{claim.ordinal}:{claim.position}:{claim.tool_call_id}"

    async def understand(self, claim: Claim, answer: Answer) -> Outcome:
        """What the gateway's answer means."""
        if answer.status == 202:
            return Outcome.ACCEPTED
        if answer.ok:
            await self.settle(claim, self.output_of(answer))
            return Outcome.SETTLED
        if is_definite(answer.status) and answer.error.get("code") != "idempotency_mismatch":
            await self.settle(claim, error_output(answer.message))
            return Outcome.SETTLED
        return Outcome.UNKNOWN

    def output_of(self, answer: Answer) -> str:
        """The result in an answer, exactly as the gateway gave it."""
        data = answer.json()
        return as_text(data["output"]) if "output" in data else answer.body.decode("utf-8", "replace")

    async def recover(self, bench: Bench, outcome: Outcome, attempt: int) -> Outcome:
        """The next move after an attempt without a result, by what the gateway offers."""
        if outcome is Outcome.NOT_SENT:
            return Outcome.SETTLED if await bench.settled_within(backoff(attempt, 1.0)) else await bench.send_again()
        policy = self.policy()
        outcome = await policy.resolve(bench, outcome, attempt)
        if outcome is Outcome.IN_DOUBT and type(self.policy()) is not type(policy):
            return Outcome.UNKNOWN  # meanwhile the gateway has said that there is a way to know
        return outcome

    def policy(self) -> Recovery:
        """How to go on when it is not known whether a call had its effect. A gateway that has not said is taken for keyless."""
        return Keyless() if self.capabilities is None else recovery_for(self.capabilities)

    async def note_wait(self, conduct: Conduct, claim: Claim, seconds: float) -> None:
        """Note time spent waiting, so that the next owner need not wait again. Not noted while the store is away."""
        with contextlib.suppress(StoreUnavailable):
            await self.store.add_wait(conduct.turn, claim, seconds)

    async def settle(self, claim: Claim, output: str) -> None:
        """Store the result; it is not lost while the store is away."""
        await until_stored(lambda: self.store.settle(claim.slot, output))

    async def give_up(self, claim: Claim) -> None:
        """Report the call: nobody can tell whether it had its effect."""
        self._log.coordinator("ERROR", f"in_doubt run={claim.run_id} tool_call={claim.tool_call_id} tool={claim.tool}")
        await until_stored(lambda: self.store.put_in_doubt(claim.slot))

    def now(self) -> float:
        """Unix seconds, by this instance's clock."""
        return self._clock()

    async def age(self, claim: Claim) -> float:
        """Seconds since the call was first sent, by the gateway's clock. Raises GatewaySilent."""
        return await self._gateway_time.now() - claim.first_sent

    async def settled_within(self, conduct: Conduct, claim: Claim, seconds: float) -> bool:
        """Wait for the result of a claim; whether it came. Raises NotWanted when the run stops waiting meanwhile.

        While the store is away no result can come in, so that time does not count.
        """
        arrival = self._arrivals.setdefault(claim.slot, asyncio.Event())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            arrival.clear()
            try:
                if await self.store.is_settled(claim.slot):
                    return True
                away = not self.store.healthy
            except StoreUnavailable:
                away = True
            if away:
                deadline = max(deadline, loop.time() + REDELIVERY)
            left = deadline - loop.time()
            if left <= 0:
                return False
            if not self.is_wanted(conduct) and not self.stopping:
                raise NotWanted(claim.slot)
            try:
                async with asyncio.timeout(min(left, LOOK_AGAIN)):
                    await arrival.wait()
            except TimeoutError:
                continue


class Bench:
    """What a recovery works with: one claim, and the moves that can be made about it."""

    def __init__(self, dispatcher: Dispatcher, conduct: Conduct, claim: Claim) -> None:
        self._dispatcher = dispatcher
        self._conduct = conduct
        self.claim = claim

    @property
    def patience(self) -> float:
        """Seconds that a result which may never come is waited for."""
        return self._dispatcher.patience

    @property
    def tool_timeout(self) -> float:
        """Seconds that a request to the gateway may take."""
        return self._dispatcher.tool_timeout

    async def age(self) -> float:
        """Seconds since the call was first sent, by the gateway's clock. Raises GatewaySilent."""
        return await self._dispatcher.age(self.claim)

    async def settled_within(self, seconds: float) -> bool:
        """Wait for the result; whether it came."""
        return await self._dispatcher.settled_within(self._conduct, self.claim, seconds)

    async def settled_before(self, waited: float) -> bool:
        """Wait for the result until so much time has passed since the last intent, by all owners together; whether it came."""
        while self.claim.waited < waited:
            slice_ = min(WAIT_NOTED, waited - self.claim.waited)
            if await self.settled_within(slice_):
                return True
            self.claim = dataclasses.replace(self.claim, waited=self.claim.waited + slice_)
            await self._dispatcher.note_wait(self._conduct, self.claim, slice_)
        return await self.settled_within(0)

    async def found(self) -> bool:
        """Look the call up in the gateway's ledger; whether its effect is there, and now settled. Raises GatewaySilent."""
        output = await self._dispatcher.gateway.effect_of(self.claim.tool_call_id)
        if output is None:
            return False
        await self._dispatcher.settle(self.claim, output)
        return True

    async def send_again(self) -> Outcome:
        """Send the call once more, after logging the intent."""
        self.claim = await self._dispatcher.log_intent(self._conduct, self.claim)
        return await self._dispatcher.send(self._conduct, self.claim)

    async def raise_fence(self) -> None:
        """Log the intent of the next attempt, and shut out every one before it. Raises GatewaySilent."""
        self.claim = await self._dispatcher.log_intent(self._conduct, self.claim)
        await self._dispatcher.gateway.raise_fence(self.claim.tool_call_id, self.claim.attempt)

    async def send_fenced(self) -> Outcome:
        """Send the attempt for which the fence was raised, if this instance may still do so."""
        await self._dispatcher.must_own(self._conduct, self.claim)
        return await self._dispatcher.send(self._conduct, self.claim)
