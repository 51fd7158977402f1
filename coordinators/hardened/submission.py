"""The submission handler: takes results as the gateway posts them, and submits the outputs of a step as one batch."""

from __future__ import annotations

import json

from coordinators.common.assistants import Assistants
from coordinators.common.gateway import ToolResult
from coordinators.common.http import NoAnswer
from coordinators.common.log import Log
from coordinators.hardened.dispatch import Conduct, Dispatcher
from coordinators.hardened.patience import until_stored
from coordinators.hardened.records import Asked
from coordinators.hardened.store import Store

UNKNOWN_OUTCOME = json.dumps(
    {
        "status": "unknown",
        "message": "It is not known whether this was done. A person will look into it. "
        "Do not try it again, and promise the customer neither that it was done nor that it was not.",
    },
    separators=(",", ":"),
)
"""What the model is told of a call in doubt: neither success nor failure."""


class Receiver:
    """Takes posted results: at least once, in any order, late, by any instance."""

    def __init__(self, store: Store, dispatcher: Dispatcher, log: Log) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.log = log

    async def receive(self, result: ToolResult) -> str:
        """Store a result before it is acknowledged; what became of it. Raises StoreUnavailable: it is to be posted again."""
        if not result.definite:
            return "ignored: it says nothing about the effect"
        slot = await self.store.settle_call(result.run_id, result.tool_call_id, result.thread_id, result.output)
        if slot is None:
            self.log.coordinator("WARN", f"result of unknown call {result.tool_call_id} of run {result.run_id}")
            return "ignored: no such call"
        self.dispatcher.arrived(slot)
        return "stored"


class Submission:
    """Submits the outputs of a step, under the lease of the turn's owner."""

    def __init__(self, assistants: Assistants, store: Store, log: Log) -> None:
        self.assistants = assistants
        self.store = store
        self.log = log

    async def submit(self, conduct: Conduct, asked: list[Asked], outcomes: dict[str, str | None]) -> bool:
        """Submit one output for each call that was asked for; whether it was accepted.

        What is submitted is stored first, so that every repeat says the same. The step is done only after it was
        accepted; otherwise the next look at the run and its steps tells whether it was. Raises TurnLost.
        """
        texts = {a.slot: self.text_of(outcomes[a.slot]) for a in asked}
        frozen, seen = await self.store.freeze(conduct.turn, texts)
        pairs = self.pairs(asked, frozen)
        ids = tuple(a.call.id for a in asked)
        run_id, ordinal = asked[0].run_id, asked[0].ordinal
        try:
            answer = await self.assistants.submit(asked[0].thread_id, run_id, pairs)
        except NoAnswer:
            self._log(asked, seen, "WARN", None, None)
            conduct.steps.pop(ids, None)
            return False
        self._log(asked, seen, "INFO" if answer.ok else "WARN", answer.status, answer.headers.get("x-request-id"))
        if not answer.ok:
            conduct.steps.pop(ids, None)  # to be looked up again: it may be over, or have come back under other ids
            return False
        conduct.steps[ids] = None
        await self.note_accepted(run_id, ordinal)
        return True

    async def note_accepted(self, run_id: str, ordinal: int) -> None:
        """Store that the step is done."""
        await until_stored(lambda: self.store.accept_step(run_id, ordinal))

    def text_of(self, outcome: str | None) -> str:
        """The output that stands for an outcome; None is a call in doubt."""
        return UNKNOWN_OUTCOME if outcome is None else outcome

    def pairs(self, asked: list[Asked], outputs: dict[str, str]) -> list[tuple[str, str]]:
        """The batch: the outputs under the ids that the step asks for now."""
        return [(a.call.id, outputs[a.slot]) for a in asked]

    def _log(self, asked: list[Asked], seen: bool, level: str, http_status: int | None, request_id: str | None) -> None:
        for a in asked:
            self.log.submission(
                level,
                thread_id=a.thread_id,
                run_id=a.run_id,
                step_id=a.step_id,
                tool_call_id=a.call.id,
                dedup_key=f"{a.run_id}:{a.ordinal}:{a.position}",
                dedup_result="HIT" if seen else "MISS",
                submit_tool_outputs={"tool_outputs_count": len(asked), "http_status": http_status, "request_id": request_id},
            )
