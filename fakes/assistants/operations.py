"""The operations that no fault is about: they only read or change an object, and answer with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes.assistants.core import Core
from fakes.exchange import Request, json_object

Plain = tuple[str, str, str, bool, Callable[..., dict[str, Any]]]
"""Method, path, summary, whether it is hot, and what answers it."""

ASSISTANTS = "/v1/assistants"
ASSISTANT = ASSISTANTS + "/{assistant_id}"
THREADS = "/v1/threads"
THREAD = THREADS + "/{thread_id}"
MESSAGES = THREAD + "/messages"
MESSAGE = MESSAGES + "/{message_id}"
RUNS = THREAD + "/runs"
RUN = RUNS + "/{run_id}"
NEW_THREAD_RUNS = THREADS + "/runs"
SUBMIT = RUN + "/submit_tool_outputs"
CANCEL = RUN + "/cancel"
STEPS = RUN + "/steps"
STEP = STEPS + "/{step_id}"


def plain(core: Core) -> list[Plain]:
    """The 14 plain operations over a core. Each takes the request and the path's parameters by name."""

    def body(sent: Request) -> dict[str, Any]:
        return json_object(sent.body)

    return [
        ("GET", ASSISTANTS, "List assistants", False, lambda r: core.list_assistants(r.query).json()),
        ("POST", ASSISTANTS, "Create assistant", False, lambda r: core.create_assistant(body(r)).json()),
        ("GET", ASSISTANT, "Retrieve assistant", False, lambda r, **at: core.assistant(**at).json()),
        ("POST", ASSISTANT, "Modify assistant", False, lambda r, **at: core.modify_assistant(body=body(r), **at).json()),
        ("DELETE", ASSISTANT, "Delete assistant", False, lambda r, **at: core.delete_assistant(**at)),
        ("GET", THREAD, "Retrieve thread", False, lambda r, **at: core.thread(**at).json()),
        ("POST", THREAD, "Modify thread", False, lambda r, **at: core.modify_thread(**at, body=body(r)).json()),
        ("DELETE", THREAD, "Delete thread", False, lambda r, **at: core.delete_thread(**at)),
        ("GET", MESSAGES, "List messages", True, lambda r, **at: core.list_messages(**at, query=r.query).json()),
        ("GET", MESSAGE, "Retrieve message", False, lambda r, **at: core.message(**at).json()),
        ("POST", MESSAGE, "Modify message", False, lambda r, **at: core.modify_message(**at, body=body(r)).json()),
        ("DELETE", MESSAGE, "Delete message", False, lambda r, **at: core.delete_message(**at)),
        ("GET", STEPS, "List run steps", True, lambda r, **at: core.list_steps(**at, query=r.query).json()),
        ("GET", STEP, "Retrieve run step", False, lambda r, **at: core.step(**at).json()),
    ]
