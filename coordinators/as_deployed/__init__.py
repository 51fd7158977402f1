"""The design of the incident, faithfully: dedup guards the submission, and nothing guards the dispatch.

The coordinator polls runs with a short backoff, sends the tool calls of a requires_action in parallel to the gateway,
and retries a request that timed out. Results come back to the submission handler, which queues them in the shared
store, writes a dedup record (run_id, tool_call_id) *before* it submits a complete batch, and fails open when the store
does not answer. Without faults every call has one effect.
"""

from coordinators.as_deployed.service import create_app

__all__ = ["create_app"]
