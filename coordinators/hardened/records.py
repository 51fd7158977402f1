"""What the shared store holds: turns, claims, and what is asked for under a claim."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json

from coordinators.common.assistants import ToolCall


class TurnLost(Exception):
    """The turn belongs to another owner now, or is over: this instance must not act for it any more."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn. `epoch` counts its owners: whoever acts for the turn shows the epoch under which it took it."""

    turn_id: str
    conversation_id: str
    user_id: str
    message: str
    thread_id: str | None = None
    run_id: str | None = None
    status: str = "running"
    detail: str | None = None
    owner: str | None = None
    epoch: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call as a step asks for it. `ordinal` is the step's place in the run, `position` the call's in the step."""

    thread_id: str
    run_id: str
    step_id: str
    ordinal: int
    position: int
    call: ToolCall

    @property
    def slot(self) -> str:
        """The name of the claim: the same when the step is generated again under new ids.

        It holds what is asked for too, so that a step that comes back asking for something else gets claims of its own.
        """
        return f"{self.run_id}/{self.ordinal}/{self.position}/{_digest(self.call)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One call that was claimed. Its ids are those under which it was claimed first; they are what the gateway is told.

    `attempt` counts the intents to send, from 1. `first_sent` is the time of the first in unix seconds, by the gateway's
    clock. `output` is the result, once there is one; `in_doubt` says that none was waited for any longer. `waited` are the
    seconds that its owners have waited since the last intent. `claimant` is who made it.
    """

    slot: str
    thread_id: str
    run_id: str
    step_id: str
    ordinal: int
    position: int
    tool_call_id: str
    tool: str
    arguments: str
    attempt: int
    first_sent: float
    output: str | None
    in_doubt: bool
    waited: float
    claimant: str = ""

    def is_new_to(self, claimant: str) -> bool:
        """Whether this claimant made it, and may send the call: nobody else has logged an intent since."""
        return self.claimant == claimant and self.attempt == 1


@functools.lru_cache(maxsize=1024)
def _digest(call: ToolCall) -> str:
    try:
        arguments = json.dumps(json.loads(call.arguments), sort_keys=True, separators=(",", ":"))
    except ValueError:
        arguments = call.arguments
    return hashlib.blake2b(f"{call.name} {arguments}".encode("utf-8", "replace"), digest_size=8).hexdigest()
