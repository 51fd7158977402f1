"""The shared store: turns with owners, claims with results, accepted steps. Every change of a turn is fenced by its epoch.

Two implementations: an SQLite file, and a Redis server.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from coordinators.common import stores
from coordinators.hardened.records import Asked, Claim, Turn

IMPLEMENTATIONS = {
    "sqlite": "coordinators.hardened.sqlite_store:SqliteStore",
    "redis": "coordinators.hardened.redis_store:RedisStore",
}

S = TypeVar("S", bound="Store")


class Store(abc.ABC):
    """The store behind one instance.

    Every method raises StoreUnavailable when the store does not answer, and can be called again then: what it asks for may
    have been done already, and may still be done late.
    """

    @property
    @abc.abstractmethod
    def healthy(self) -> bool:
        """False from a failure until the next change that succeeds."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close every connection."""

    # --- owners -------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def register(self, instance_id: str) -> str:
        """A new owner's name: the instance and which of its lives this is."""

    @abc.abstractmethod
    async def beat(self, owner: str) -> None:
        """Show that the owner is alive."""

    @abc.abstractmethod
    async def beats(self) -> dict[str | None, int | None]:
        """The beat of each owner of a running turn; the owner None stands for turns that nobody owns."""

    @abc.abstractmethod
    async def release(self, owner: str) -> None:
        """Give up every turn of this owner, and its name."""

    # --- turns --------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def accept(self, turn: Turn, owner: str) -> Turn | None:
        """Take a turn that is new, or that nobody owns; None when it is somebody's already, or over."""

    @abc.abstractmethod
    async def take_over(self, former: str | None, owner: str) -> list[Turn]:
        """Take every running turn of an owner that is gone, or (None) those that nobody owns."""

    @abc.abstractmethod
    async def owned_by(self, owner: str) -> frozenset[str]:
        """The running turns of an owner, those that it was given without hearing of it included."""

    @abc.abstractmethod
    async def retake(self, turn_id: str, owner: str) -> Turn | None:
        """Take a turn anew that is this owner's already; None when it is not (any more), or over."""

    @abc.abstractmethod
    async def turn(self, turn_id: str) -> Turn | None:
        """One turn."""

    @abc.abstractmethod
    async def check_owner(self, turn: Turn) -> None:
        """Raises TurnLost unless the turn is still run by who took it under this epoch."""

    @abc.abstractmethod
    async def change(self, turn: Turn, **fields: str | None) -> None:
        """Note fields of the turn; with a status other than running it is over. Raises TurnLost."""

    async def set_thread(self, turn: Turn, thread_id: str) -> Turn:
        """Note the turn's thread. Raises TurnLost."""
        await self.change(turn, thread_id=thread_id)
        return dataclasses.replace(turn, thread_id=thread_id)

    async def set_run(self, turn: Turn, run_id: str) -> Turn:
        """Note the turn's run. Raises TurnLost."""
        await self.change(turn, run_id=run_id)
        return dataclasses.replace(turn, run_id=run_id)

    async def finish(self, turn: Turn, status: str, detail: str | None) -> None:
        """The turn is over. Raises TurnLost."""
        await self.change(turn, status=status, detail=detail)

    # --- claims -------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def claim(self, turn: Turn, asked: Asked, now: float, claimant: str) -> tuple[Claim, bool]:
        """The claim on a call, and whether it is new to this claimant: made by it, with the intent to send. Raises TurnLost.

        A claimant is one who has not sent the call yet, and has a name of its own: asking again after a lost answer it is
        told the same.
        """

    @abc.abstractmethod
    async def find_claim(self, slot: str) -> Claim | None:
        """The claim of that name."""

    @abc.abstractmethod
    async def log_intent(self, turn: Turn, slot: str) -> int:
        """Log the intent to send the call once more; which attempt it is. Raises TurnLost.

        Attempts only ever grow. An answer that is lost leaves a number that nobody sends under.
        """

    @abc.abstractmethod
    async def add_wait(self, turn: Turn, claim: Claim, seconds: float) -> None:
        """Note that so much time has passed since the intent of this attempt; whoever comes next need not wait for it again.

        Only the owner's time counts, so what different owners add never overlaps, and no clocks are compared.
        """

    @abc.abstractmethod
    async def settle(self, slot: str, output: str) -> None:
        """Store the result of a claimed call; a result that is there already stays."""

    @abc.abstractmethod
    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        """Store a result that was posted for a call; the slot of its claim, None when there is no such claim."""

    @abc.abstractmethod
    async def put_in_doubt(self, slot: str) -> None:
        """Nobody can tell whether the call had its effect: report it from now on. Not when a result has come after all."""

    @abc.abstractmethod
    async def is_settled(self, slot: str) -> bool:
        """Whether the call has its result."""

    @abc.abstractmethod
    async def outcomes(self, slots: Sequence[str]) -> dict[str, str | None]:
        """The result of each of these calls that is decided: its output, or None where it is in doubt."""

    @abc.abstractmethod
    async def freeze(self, turn: Turn, outputs: dict[str, str]) -> tuple[dict[str, str], bool]:
        """Store what is about to be submitted; what was stored first stays. Also: whether it was there. Raises TurnLost."""

    @abc.abstractmethod
    async def in_doubt(self) -> list[dict[str, str]]:
        """Every call that could not be decided."""

    # --- steps --------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def accept_step(self, run_id: str, ordinal: int) -> None:
        """The step's outputs were accepted."""

    @abc.abstractmethod
    async def is_accepted(self, run_id: str, ordinal: int) -> bool:
        """Whether the step's outputs were accepted."""


def open_store(wanted: type[S], address: stores.Address) -> S:
    """The store at that address: `wanted` is Store, or a change to it. Raises StoreUnsupported."""
    return stores.open_store(wanted, address, IMPLEMENTATIONS)
