"""One request for a tool, as the gateway understood it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What was sent, and what follows from it. Fields that were not sent are None.

    `nonce` is arguments.reference; `conversation` is arguments.conversation_id, or what the nonce was made for;
    `arrived` is the clock's time in seconds.
    """

    request_id: str
    tool: str
    arguments: Mapping[str, Any]
    payload_hash: str
    arrived: float
    nonce: str | None = None
    conversation: str | None = None
    tool_call_id: str | None = None
    run_id: str | None = None
    thread_id: str | None = None
    step_id: str | None = None
    key: str | None = None
    fence: int | None = None
    callback_url: str | None = None
    instance: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """Which call this is, as far as it was said: by tool_call_id, else by nonce and tool, else by tool and payload."""
        if self.tool_call_id is not None:
            return ("id", self.tool_call_id)
        if self.nonce is not None:
            return ("nonce", self.tool, self.nonce)
        return ("payload", self.tool, self.payload_hash)

    @property
    def names(self) -> tuple[str, ...]:
        """What a look-up or a fence may call it: its tool_call_id, and its key (which may be a tool_call_id)."""
        if self.key is None or self.key == self.tool_call_id:
            return () if self.tool_call_id is None else (self.tool_call_id,)
        return (self.key,) if self.tool_call_id is None else (self.tool_call_id, self.key)
