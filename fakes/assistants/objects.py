"""Assistants, threads and messages, with every field that the OpenAI SDKs' models have."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakes.assistants.runs import Run


@dataclasses.dataclass(slots=True, eq=False)
class Assistant:
    """An assistant: a model with instructions and tools. Times are whole unix seconds."""

    id: str
    created_at: int
    model: str
    name: str | None = None
    description: str | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_resources: dict[str, Any] | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    response_format: Any = "auto"

    def json(self) -> dict[str, Any]:
        """The assistant as the API shows it."""
        return {
            "id": self.id,
            "object": "assistant",
            "created_at": self.created_at,
            "name": self.name,
            "description": self.description,
            "model": self.model,
            "instructions": self.instructions,
            "tools": self.tools or [],
            "tool_resources": self.tool_resources or {},
            "metadata": self.metadata,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "response_format": self.response_format,
        }


@dataclasses.dataclass(slots=True, eq=False)
class Message:
    """A message of a thread. `run_id` and `assistant_id` are set on what a run wrote, `cut_off` says why its end is missing."""

    id: str
    created_at: int
    thread_id: str
    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    assistant_id: str | None = None
    run_id: str | None = None
    cut_off: str | None = None

    @property
    def status(self) -> str:
        """The status: completed, or incomplete."""
        return "completed" if self.cut_off is None else "incomplete"

    @property
    def text(self) -> str:
        """The words of the message, without its images."""
        return "\n".join(part["text"]["value"] for part in self.content if part["type"] == "text")

    def opening(self) -> dict[str, Any]:
        """The message as a stream shows it first, before what its deltas bring."""
        nothing: dict[str, Any] = {"incomplete_details": None, "completed_at": None, "incomplete_at": None, "content": []}
        return {**self.json(), "status": "in_progress", **nothing}

    def json(self) -> dict[str, Any]:
        """The message as the API shows it, whole as far as it goes."""
        return {
            "id": self.id,
            "object": "thread.message",
            "created_at": self.created_at,
            "thread_id": self.thread_id,
            "status": self.status,
            "incomplete_details": {"reason": self.cut_off} if self.cut_off is not None else None,
            "completed_at": self.created_at if self.cut_off is None else None,
            "incomplete_at": self.created_at if self.cut_off is not None else None,
            "role": self.role,
            "content": self.content,
            "assistant_id": self.assistant_id,
            "run_id": self.run_id,
            "attachments": self.attachments,
            "metadata": self.metadata,
        }


@dataclasses.dataclass(slots=True, eq=False)
class Thread:
    """A thread: its messages and its runs, oldest first. Nothing of one thread is reachable from another."""

    id: str
    created_at: int
    tool_resources: dict[str, Any] | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    messages: dict[str, Message] = dataclasses.field(default_factory=dict)
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The thread as the API shows it."""
        return {
            "id": self.id,
            "object": "thread",
            "created_at": self.created_at,
            "tool_resources": self.tool_resources or {},
            "metadata": self.metadata,
        }


def deleted(what: str, gone: str) -> dict[str, Any]:
    """The answer to a delete; `what` is assistant, thread or thread.message."""
    return {"id": gone, "object": f"{what}.deleted", "deleted": True}
