"""Turns: what customers ask for. Made from a seed, so that the same seed asks for the same things."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from fakes.ids import derived
from fakes.script import Script, ScriptedCall, default

IDENTICAL_EVERY = 10
"""Every tenth turn asks twice for exactly the same call, `reference` included: two calls, two effects (C11)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one conversation, with the names of the plans that are bound to it."""

    script: Script
    plans: tuple[str, ...] = ()

    @property
    def turn_id(self) -> str:
        """The turn's id, given with every delivery."""
        return self.script.turn_id

    @property
    def conversation_id(self) -> str:
        """The conversation's id."""
        return self.script.conversation_id

    @property
    def calls(self) -> tuple[tuple[str, ...], ...]:
        """Tool names per step."""
        return tuple(tuple(call.tool for call in step) for step in self.script.steps)

    def body(self) -> dict[str, str]:
        """What POST /turns carries."""
        return {
            "turn_id": self.turn_id,
            "conversation_id": self.conversation_id,
            "user_id": self.script.user_id,
            "message": self.script.message(),
        }


def make(seed: int, number: int, salt: str = "") -> Turn:
    """Turn `number` (from 0) of a run. `salt` keeps the ids of several runs on the same servers apart."""
    if number == 0:
        return Turn(default(*_ids(_dice(seed, number), seed, number, salt)))
    if number % IDENTICAL_EVERY == IDENTICAL_EVERY - 1:
        turn, conversation, user = _ids(_dice(seed, number), seed, number, salt)
        return Turn(Script(turn, conversation, user, (_identical(turn, conversation, user),)))
    return of_sizes(None, seed, number, salt)


def of_sizes(sizes: Sequence[int] | None, seed: int, number: int, salt: str = "") -> Turn:
    """A turn that asks for so many calls in each of its steps; None draws one or two steps of one to three calls."""
    dice = _dice(seed, number)
    turn, conversation, user = _ids(dice, seed, number, salt)
    drawn = sizes or (dice.choices((1, 2, 3), (5, 3, 2))[0] for _ in range(dice.choices((1, 2), (7, 3))[0]))
    steps = tuple(tuple(_call(dice, conversation, user) for _ in range(size)) for size in drawn)
    return Turn(Script(turn, conversation, user, steps))


def _dice(seed: int, number: int) -> random.Random:
    return random.Random(f"turn/{seed}/{number}")


def _ids(dice: random.Random, seed: int, number: int, salt: str) -> tuple[str, str, str]:
    conversation = derived("C", seed, salt, number, length=8).replace("_", "")
    return derived("turn", seed, salt, number, length=12), conversation, f"U{dice.randrange(10_000, 100_000)}"


def _call(dice: random.Random, conversation: str, user: str) -> ScriptedCall:
    common = {"user_id": user, "conversation_id": conversation}
    tool = dice.choice(("create_ticket", "send_email", "refund_payment"))
    if tool == "create_ticket":
        subject = f"{dice.choice(('Damaged', 'Late', 'Lost'))} order {dice.randrange(9999)}"
        return ScriptedCall(tool, {**common, "subject": subject})
    if tool == "send_email":
        template = dice.choice(("ticket_confirmation", "refund_confirmation", "apology"))
        return ScriptedCall(tool, {**common, "template": template})
    return ScriptedCall(tool, {**common, "amount_cents": dice.randrange(100, 20_000)})


def _identical(turn: str, conversation: str, user: str) -> tuple[ScriptedCall, ...]:
    reference = derived(conversation, turn, "identical", length=12)
    call = ScriptedCall(
        "refund_payment",
        {"user_id": user, "conversation_id": conversation, "amount_cents": 500, "reference": reference},
    )
    return (call, call)
