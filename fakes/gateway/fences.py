"""Fences: tokens below which a gateway takes no more requests for a call."""

from __future__ import annotations

from fakes.gateway.call import ToolCall


class Fences:
    """The highest fence raised for each call; a fence never goes down."""

    def __init__(self) -> None:
        self._raised: dict[str, int] = {}

    def raise_to(self, tool_call_id: str, fence: int) -> int:
        """Raise the fence of a call to at least `fence`; returns the one in force, which may be higher."""
        self._raised[tool_call_id] = raised = max(fence, self._raised.get(tool_call_id, fence))
        return raised

    def blocking(self, call: ToolCall) -> int | None:
        """The fence that shuts this request out: it carries a lower token, or none. None when it may pass."""
        if not self._raised:
            return None
        for name in call.names:
            raised = self._raised.get(name)
            if raised is not None and (call.fence is None or call.fence < raised):
                return raised
        return None
