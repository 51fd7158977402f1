"""What a request comes to: an effect in the external world, or a failure."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from fakes.gateway.call import ToolCall

FIRST_TICKET = 55102
_NOT_DEFINITE = (408, 409, 425, 429)


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """One committed effect. `output` is the tool's result text, which contains `external_id`; `at` is in seconds."""

    effect_id: str
    external_id: str
    output: str
    at: float
    call: ToolCall

    def summary(self) -> dict[str, Any]:
        """The effect as GET /effects shows it."""
        return {
            "effect_id": self.effect_id,
            "external_id": self.external_id,
            "tool": self.call.tool,
            "tool_call_id": self.call.tool_call_id,
            "run_id": self.call.run_id,
            "output": self.output,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is not 2xx."""

    status: int
    code: str
    message: str

    @property
    def definite(self) -> bool:
        """Whether the status says for good that there is no effect and that there will be none."""
        return 400 <= self.status < 500 and self.status not in _NOT_DEFINITE

    @property
    def from_tool(self) -> bool:
        """Whether the tool itself said so. Such an answer is kept for repeats; the gateway's own refusals are not."""
        return self.code == "tool_failed"

    @property
    def dropped(self) -> bool:
        """Whether accepted work was given up: somebody raised a fence, or its time was over. No result is ever posted."""
        return self.code in ("fenced", "expired")

    def body(self) -> dict[str, Any]:
        """The error object of the answer, and of an asynchronous result."""
        refused = "api_error" if self.status >= 500 else "invalid_request_error"
        return {"message": self.message, "type": "tool_error" if self.from_tool else refused, "code": self.code}


Result = Effect | Failure


class EffectMaker:
    """Makes the effects of the external world: tickets, emails, refunds, and one sort for every other tool.

    A request has one effect at most, so that the effect's ids can end like the request's.
    """

    def __init__(self) -> None:
        self._ticket = FIRST_TICKET

    def make(self, call: ToolCall, at: float, *, poison: bool) -> Effect:
        """A new effect; `poison` makes its output a text that is no JSON, and still contains the external id."""
        ending = call.request_id.rpartition("_")[2]
        effect_id = f"eff_{ending}"
        if call.tool == "create_ticket":
            external_id = f"INC-{self._ticket}"
            self._ticket += 1
            output = f'{{"ticket_id":"{external_id}","status":"created"}}'
        elif call.tool == "send_email":
            external_id = f"msg_{ending}"
            output = f'{{"message_id":"{external_id}","status":"sent"}}'
        elif call.tool == "refund_payment":
            external_id = f"re_{ending}"
            cents = json.dumps(call.arguments.get("amount_cents"))
            output = f'{{"refund_id":"{external_id}","status":"refunded","amount_cents":{cents}}}'
        else:
            external_id = effect_id
            output = f'{{"effect_id":"{effect_id}","status":"done"}}'
        if poison:
            output = f'{external_id} \x00{{"unterminated'
        return Effect(effect_id, external_id, output, at, call)
