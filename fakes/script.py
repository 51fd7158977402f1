"""A turn's script: what the fake LLM is to ask for, carried inside the customer's message.

The script travels as one marked word, so that any replica finds it again even when a coordinator adds words around it:
`[[anechoic:1:<base64url of JSON>]]`. The words before it are for people.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
from typing import Any

from fakes.ids import derived

_MARK = re.compile(r"\[\[anechoic:1:([A-Za-z0-9_=-]+)\]\]")


@dataclasses.dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One call of a step. `arguments` lack `reference`, unless the case is about identical calls and names it itself."""

    tool: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """One turn: the steps in order, each with its parallel calls, and the model's final words."""

    turn_id: str
    conversation_id: str
    user_id: str
    steps: tuple[tuple[ScriptedCall, ...], ...]
    final: str = "All done. Is there anything else that I can do for you?"

    def message(self, words: str = "I need help with my order.") -> str:
        """The user message that carries this script."""
        data = {
            "turn_id": self.turn_id,
            "conversation_id": self.conversation_id,
            "user_id": self.user_id,
            "final": self.final,
            "steps": [[{"tool": c.tool, "arguments": c.arguments} for c in step] for step in self.steps],
        }
        text = json.dumps(data, separators=(",", ":"), sort_keys=True).encode()
        return f"{words}\n[[anechoic:1:{base64.urlsafe_b64encode(text).decode()}]]"

    def arguments(self, ordinal: int, position: int) -> dict[str, Any]:
        """The full arguments of one call, its nonce (`reference`) included."""
        call = self.steps[ordinal][position]
        return {**call.arguments, "reference": call.arguments.get("reference", self.nonce(ordinal, position))}

    def nonce(self, ordinal: int, position: int) -> str:
        """The nonce of an intent: a function of turn, step and position, so regeneration and a second run keep it."""
        return derived(self.conversation_id, self.turn_id, ordinal, position, length=12)


@functools.lru_cache(maxsize=1024)
def find(text: str) -> Script | None:
    """The script in a message, None when there is none or it was damaged on its way."""
    found = _MARK.search(text)
    if found is None:
        return None
    try:
        data = json.loads(base64.urlsafe_b64decode(found[1]))
        return Script(
            turn_id=_word(data["turn_id"]),
            conversation_id=_word(data["conversation_id"]),
            user_id=_word(data["user_id"]),
            final=_word(data["final"]),
            steps=tuple(tuple(ScriptedCall(_word(c["tool"]), {**c["arguments"]}) for c in step) for step in data["steps"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # half surrogates cannot be written anywhere
    return value


def conversation_of(nonce: str) -> str:
    """The conversation_id that a nonce was made for."""
    return nonce.rsplit("_", 1)[0]


def default(turn_id: str, conversation_id: str, user_id: str) -> Script:
    """The customer-support script: one step with one call for each of the default tools, then a closing message."""
    common = {"user_id": user_id, "conversation_id": conversation_id}
    return Script(
        turn_id,
        conversation_id,
        user_id,
        (
            (
                ScriptedCall("create_ticket", {**common, "subject": "Order arrived damaged"}),
                ScriptedCall("send_email", {**common, "template": "ticket_confirmation"}),
                ScriptedCall("refund_payment", {**common, "amount_cents": 1999}),
            ),
        ),
    )


def _tool(name: str, about: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


TOOLS: tuple[dict[str, Any], ...] = (
    _tool("create_ticket", "Open a support ticket for the customer.",
          user_id="string", conversation_id="string", subject="string", reference="string"),
    _tool("send_email", "Send the customer an email made from a template.",
          user_id="string", conversation_id="string", template="string", reference="string"),
    _tool("refund_payment", "Refund a payment of the customer.",
          user_id="string", conversation_id="string", amount_cents="integer", reference="string"),
)

ASSISTANT: dict[str, Any] = {
    "model": "anechoic", "name": "Customer support", "instructions": "Help the customer. Use the tools.", "tools": list(TOOLS),
}
"""The default assistant, as POST /v1/assistants takes it."""
ASSISTANT_ID = "asst_anechoic"
"""Its id on the wire, the same in every run: a coordinator that runs already can know it."""
"""The default assistant's function tools, as the Assistants API takes them."""
