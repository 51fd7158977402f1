"""Attribution: which call a gateway request or an effect was for.

A request names its call by `tool_call_id` or by a key that is one; else by the nonce in its arguments; else by the hash of its
arguments within its conversation (production logs). An id that the API never issued is looked through: the nonce and the
arguments decide then, since a coordinator may give ids of its own; where they say nothing either, the effect is invented.
What names nothing at all stays unattributed, and that makes a verdict unknown, never a failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.records import Family, IssuedCall, Target
from fakes.history import EffectCommitted, ToolReplied, ToolRequested

Families = dict[tuple[str, str], dict[str | None, Family | None]]
"""Families by (tool, nonce or payload hash) and conversation; None where several would fit."""
NOTHING = Target("nothing")
INVENTED = Target("invented")


class Attribution:
    """Finds targets over the calls that were issued.

    Args:
        calls: every issued call by its tool_call_id.
        by_nonce: families by (tool, nonce) and conversation.
        by_payload: families by (tool, payload hash) and conversation.
    """

    def __init__(
        self,
        calls: Mapping[str, IssuedCall],
        by_nonce: Families,
        by_payload: Families,
    ) -> None:
        self._calls = calls
        self._by_nonce = by_nonce
        self._by_payload = by_payload

    def target(self, event: ToolRequested | EffectCommitted | ToolReplied) -> Target:
        """The target of one event of the gateway."""
        call_id = event.tool_call_id
        if call_id is not None:
            call = self._calls.get(call_id)
            if call is not None:
                return Target("id", call.intent.family, call.intent, call)
        key = None if isinstance(event, ToolReplied) else event.key
        if key is not None:
            call = self._calls.get(key)
            if call is not None:
                return Target("key", call.intent.family, call.intent, call)
        if event.nonce is not None:
            family = _one(self._by_nonce.get((event.tool, event.nonce), {}), event.conversation)
            if family is not None:
                return _narrow("nonce", family, event)
        if not isinstance(event, ToolReplied):
            found = self._by_payload.get((event.tool, event.payload_hash), {})
            family = (found.get(event.conversation) or found.get(None)) if event.conversation else _one(found, None)
            if family is not None:
                return _narrow("payload", family, event)
        return NOTHING if call_id is None else INVENTED


def _one(found: Mapping[str | None, Family | None], conversation: str | None) -> Family | None:
    """The family of that conversation, or the only one that there is."""
    if conversation in found:
        return found[conversation]
    return next(iter(found.values())) if len(found) == 1 else None


def _narrow(by: str, family: Family, event: ToolRequested | EffectCommitted | ToolReplied) -> Target:
    """As closely as run_id and time allow: a request cannot be for a call that was asked for only after it."""
    calls: Sequence[IssuedCall] = family.calls
    if len(calls) > 1:
        run_id = None if isinstance(event, ToolReplied) else event.run_id
        for narrower in (
            [call for call in calls if call.asked[0].seq < event.seq],
            [call for call in calls if call.run.run_id == run_id and call.asked[0].seq < event.seq],
        ):
            calls = narrower or calls
    if len(calls) == 1:
        return Target(by, family, calls[0].intent, calls[0])
    intent = calls[0].intent
    return Target(by, family, intent if all(call.intent is intent for call in calls) else None)
