"""The gateway's audit log: one line for each effect."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fakes.gateway.result import Effect

CREATED = 201
"""What the external world answered to the gateway when it made the effect."""


def audit_line(effect: Effect) -> str:
    """The line of one effect, in the shape of a production tool gateway's log.

    The payload is told by its hash only (first 4 and last 3 digits). `latency_ms` is the time from the request's
    arrival to the effect; the time stamp reads the clock's seconds as unix time. What is missing shows as "-".
    """
    call = effect.call
    seconds, ms = divmod(round(effect.at * 1000), 1000)
    return (
        f"{_second(seconds)}.{ms:03d}Z tool-gw AUDIT action={call.tool} user_id={_word(call.arguments.get('user_id'))} "
        f"conversation_id={_word(call.conversation)} payload_hash={call.payload_hash[:4]}...{call.payload_hash[-3:]} "
        f"external_ticket_id={effect.external_id} http_status={CREATED} latency_ms={round((effect.at - call.arrived) * 1000)}"
    )


@lru_cache(maxsize=8)
def _second(unix_time: int) -> str:
    return datetime.fromtimestamp(unix_time, UTC).isoformat()[:19]


def _word(value: Any) -> str:
    """A value as one word: whatever could break the line or its fields becomes an underscore."""
    text = str(value) if isinstance(value, (str, int)) and value != "" else "-"
    if text.isalnum():
        return text
    return "".join(c if c.isprintable() and c not in " =" else "_" for c in text[:80])
