"""The delivery of one POST, which a router between client and service may make a second time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fakes.assistants.errors import ApiError
from fakes.exchange import Cut
from fakes.faults import Fault

A = TypeVar("A")


class Delivery:
    """One processing of a POST. `again` is the fault that has it delivered a second time."""

    def __init__(self, second: bool = False) -> None:
        self.again: Fault | None = None
        self._second = second

    def note(self, faults: Sequence[Fault]) -> None:
        """Look for duplicate_delivery among the faults of one event; there is never a third delivery."""
        if not self._second and self.again is None:
            self.again = one(faults, "duplicate_delivery")


async def deliver(process: Callable[[Delivery], Awaitable[A]]) -> A:
    """Process a POST, twice where a fault asks for it; then the answer is the second one, whatever the first was.

    So does a router that lost the first answer and tried again: the second of two submits, or of two runs on one thread,
    is refused with a 400, and that is what the client gets. The two follow each other without a pause.
    """
    delivery = Delivery()
    try:
        answer = await process(delivery)
    except (ApiError, Cut):
        if delivery.again is None:
            raise
    else:
        if delivery.again is None:
            return answer
    delivery.again.injected("the POST was processed twice")
    return await process(Delivery(second=True))


def one(faults: Sequence[Fault], name: str) -> Fault | None:
    """The first fault of this name."""
    for fault in faults:
        if fault.name == name:
            return fault
    return None
