"""The gateway's time: it keeps a key for so long by its own clock, so that is the clock by which a key is old."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from coordinators.common.gateway import Gateway, GatewaySilent

AGREE = 5.0
"""Seconds by which an instance's two clocks may differ in what has passed; with more, one of them was set, or stood still."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A time that the gateway told, and what the clocks of this instance showed then."""

    time: float
    wall: float
    steady: float


class GatewayTime:
    """Unix seconds as the gateway has them.

    From what the gateway told last, this instance's clocks go on, as long as they agree how much has passed since. Where the
    wall clock was set, or the machine slept, they do not, and the gateway is asked again. A gateway that tells no time, with no
    Date in its answers, leaves the wall clock.

    Args:
        clock: this instance's wall clock, unix seconds.
    """

    def __init__(self, gateway: Gateway, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._told: Told | None = None

    def learn(self, told: float | None) -> None:
        """The gateway has just told its time, or none."""
        wall = self._clock()
        self._told = Told(wall if told is None else told, wall, asyncio.get_running_loop().time())

    async def now(self) -> float:
        """The time, asked for where it cannot be known otherwise. Raises GatewaySilent."""
        if self._told is None or max(self._estimates()) - min(self._estimates()) > AGREE:
            self.learn((await self._gateway.capabilities()).time)
        return min(self._estimates())

    async def at_the_earliest(self) -> float:
        """The same; while the gateway is silent the earliest time that it can be, so that no key is taken for younger."""
        try:
            return await self.now()
        except GatewaySilent:
            return min(self._estimates())

    def _estimates(self) -> tuple[float, float]:
        """By the wall clock, and by the one that is never set."""
        wall = self._clock()
        if self._told is None:
            return wall, wall
        return self._told.time + wall - self._told.wall, self._told.time + asyncio.get_running_loop().time() - self._told.steady
