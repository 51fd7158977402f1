"""What a simulation is made of: one record, checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from chaos.simulation.errors import SimulationError
from fakes.assistants.core import REPEAT_SUBMIT
from fakes.gateway.profile import Profile


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. Times are virtual seconds, where nothing else is said."""

    coordinator: object
    """module:attribute, the name of a reference coordinator, or the thing itself; see `chaos.simulation.coordinator`"""
    gateway: Profile
    seed: int = 0
    instances: int = 3
    in_flight: int = 32
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    replicas: int = 3
    latency_profile: str = "ci"
    repeat_submit: str = "400"
    poll_interval: float = 0.05
    tool_timeout: float = 0.5
    client_timeout: float = 2.0
    ready_timeout: float = 60.0
    turn_budget: float = 30.0
    quiesce_budget: float = 20.0
    latency: tuple[float, float] = (0.0002, 0.001)
    """shortest and longest time of one message on its way"""
    clock_skew: float = 0.0
    """the clock of each instance is off by at most so much, either way, drawn from the seed"""
    replica_lag: float | None = None
    """with it, STORE_READ_URL names a copy of the store that is older by so much"""
    max_steps: int = 50_000_000
    """callbacks that the loop may run in all"""
    max_time: float = 30 * 86_400.0
    """virtual time that may pass in all"""
    stall: float = 10.0
    """real seconds after which a step that does not come back is ended"""
    sink: Callable[[str], None] = lambda line: None
    """takes the log lines of the coordinator, where its factory takes a sink"""

    def __post_init__(self) -> None:
        """Raises SimulationError for what makes no sense."""
        for name in ("instances", "in_flight", "replicas", "max_steps"):
            if getattr(self, name) < 1:
                raise SimulationError(f"{name}={getattr(self, name)} must be at least 1")
        for name in (
            "poll_interval", "tool_timeout", "client_timeout", "ready_timeout", "turn_budget", "quiesce_budget", "max_time",
            "stall",
        ):
            if getattr(self, name) <= 0:
                raise SimulationError(f"{name}={getattr(self, name)} must be more than 0 seconds")
        if self.repeat_submit not in REPEAT_SUBMIT:
            raise SimulationError(f"repeat_submit={self.repeat_submit!r} must be one of {', '.join(REPEAT_SUBMIT)}")
        low, high = self.latency
        if not 0 <= low <= high:
            raise SimulationError(f"latency={self.latency!r} must be a shortest and a longest time, 0 or more")
        if self.replica_lag is not None and self.replica_lag <= 0:
            raise SimulationError(f"replica_lag={self.replica_lag} must be more than 0 seconds, or None")
