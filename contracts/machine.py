"""The search as a state machine, readable and to be extended: what customers do, what breaks, and how time passes.

    class MyMachine(CoordinatorMachine):
        coordinator = "my_package.main:create_app"
        gateway = "keyed"

        @rule()
        def the_shop_closes(self) -> None:
            ...

    TestMine = MyMachine.TestCase

Hypothesis chooses the steps, runs them in a simulation, and shrinks what breaks a contract to few of them. Each way to break a
contract is a failure of its own.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chaos.nemesis import Moot
from chaos.plan import Plan, parse
from chaos.simulation import Settings, Simulation
from chaos.turns import Turn
from contracts.case import CaseTurn
from contracts.property import broken
from contracts.strategies import PAUSES, turns
from contracts.verdict import Judgement, judge
from fakes.gateway.profile import PROFILES

FAULTS_BY_POINT: dict[str, tuple[str, ...]] = {
    "run_told": ("regenerate_step", "cancel_run", "expire_run"),
    "tool_requested": (
        "lose_request", "slow", "unavailable", "permanent_failure", "poison_result", "commit_then_lose_reply",
        "commit_then_500",
    ),
    "callback_due": ("late_callback", "duplicate_callback", "reorder_callbacks"),
    "submit_received": ("lose_submit", "refuse_submit", "duplicate_delivery"),
    "submit_accepted": ("lose_submit_reply", "error_after_submit", "stale_status", "stale_submit_reply"),
}
"""What may go wrong at which protocol point: what `a_fault_at_a_point` draws from."""
_PAIRS = [(point, fault) for point, faults in FAULTS_BY_POINT.items() for fault in faults]
POINTS = ("run_told", "tool_requested", "effect_committed", "submit_received", "submit_accepted")
"""Where instances crash or stand still."""


class CoordinatorMachine(RuleBasedStateMachine):
    """Set `coordinator` (what `chaos.simulation` takes), `gateway` (a profile's name), and what else differs; add rules.

    `simulation` is the running simulation: rules of one's own deliver turns, arm plans or advance time with it.
    """

    coordinator: ClassVar[object] = "hardened"
    gateway: ClassVar[str] = "keyless"
    instances: ClassVar[int] = 2
    more: ClassVar[dict[str, Any]] = {}
    """further settings of the simulation"""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(
            Settings(
                coordinator=self.coordinator, gateway=PROFILES[self.gateway], instances=self.instances, **self.more
            )
        )
        self.asked: list[Turn] = []
        self._plans = 0
        self._entered = False

    @initialize()
    def everything_starts(self) -> None:
        """The fakes and every instance are up."""
        self.simulation.__enter__()
        self._entered = True

    @rule(steps=turns())
    def a_customer_asks(self, steps: tuple[tuple[str, ...], ...]) -> None:
        """A turn is delivered, and nobody waits for its end."""
        number = len(self.asked) + 1
        turn = Turn(CaseTurn(steps).script(f"C{number}", f"turn_{number}"))
        self.asked.append(turn)
        self.simulation.deliver([turn], wait=False)

    @rule(where=st.sampled_from(_PAIRS), nth=st.integers(1, 3))
    def a_fault_at_a_point(self, where: tuple[str, str], nth: int) -> None:
        """From now on: this fault at the nth occurrence of this event, in each conversation."""
        event, fault = where
        self.arm({"event": event, "nth": nth, **_told(event)}, {"fault": fault})

    @rule(event=st.sampled_from(POINTS), fault=st.sampled_from(("kill", "restart")))
    def a_crash(self, event: str, fault: str) -> None:
        """The instance that this event is about is killed then, or stopped gracefully, and started again."""
        self.arm({"event": event, "times": 1, **_told(event)}, {"fault": fault})

    @rule(event=st.sampled_from(POINTS), seconds=st.sampled_from(PAUSES[:2]))
    def a_pause(self, event: str, seconds: float) -> None:
        """The instance that this event is about stands still for some time."""
        self.arm({"event": event, "times": 1, **_told(event)}, {"fault": "pause", "seconds": seconds})

    @rule(seconds=st.sampled_from((0.5, 0.05, 3.0)))
    def time_passes(self, seconds: float) -> None:
        """Virtual seconds go by."""
        self.simulation.advance(seconds)

    @precondition(lambda self: bool(self.asked))
    @rule(which=st.integers(0, 5), to=st.sampled_from(("other", "same")))
    def a_turn_is_resent(self, which: int, to: str) -> None:
        """One of the turns is delivered once more, as queues and routers do."""
        turn = self.asked[which % len(self.asked)]

        async def resend() -> None:
            with contextlib.suppress(Moot):  # it has not been delivered yet
                self.simulation.driver.resend(turn.conversation_id, to, 0.0)

        self.simulation.call(resend())

    def arm(self, when: dict[str, Any], do: dict[str, Any]) -> Plan:
        """Put a rule in force for every conversation, from now on."""
        self._plans += 1
        plan = parse({"name": f"step-{self._plans}", "rules": [{"when": when, "do": do}]})
        self.simulation.arm(plan)
        return plan

    def judge(self) -> Judgement:
        """Heal everything, let the system come to rest, and judge the history."""
        self.simulation.quiesce()
        return judge(self.simulation.history.events, PROFILES[self.gateway])

    def teardown(self) -> None:
        """Raises BrokenContract when a contract was broken."""
        try:
            if self._entered and self.asked:
                violations = self.judge().violations
                if violations:
                    raise broken(violations[0])
        finally:
            self.simulation.close()


def _told(event: str) -> dict[str, Any]:
    return {"status": "requires_action"} if event == "run_told" else {}
