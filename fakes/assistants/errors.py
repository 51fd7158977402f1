"""What the fake Assistants API refuses, in the shape and the words that clients already know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ApiError(Exception):
    """A refusal: an HTTP status and the `error` object that OpenAI's SDKs read.

    `param` names the parameter at fault and `code` the kind of mistake; both are None for refusals about state.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind or ("server_error" if status >= 500 else "invalid_request_error")

    def json(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def not_found(what: str, wanted: str) -> ApiError:
    """404: `what` is assistant, thread, message, run or run step."""
    return ApiError(404, f"No {what} found with id '{wanted}'.")


def wrong_type(param: str, expected: str, value: object) -> ApiError:
    """400: a parameter of another JSON type than the operation takes."""
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {expected}, but got {_json_type(value)} instead.",
        param=param,
        code="invalid_type",
    )


def wrong_value(param: str, expected: str, value: object) -> ApiError:
    """400: a parameter of the right type that holds something else than `expected`."""
    seen = repr(value)
    shown = seen if len(seen) <= 80 else f"{seen[:80]}..."
    message = f"Invalid value for '{param}': expected {expected}, but got {shown}."
    return ApiError(400, message, param=param, code="invalid_value")


def missing(param: str) -> ApiError:
    """400: a required parameter is not there."""
    return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def thread_locked(thread_id: str, run_id: str) -> ApiError:
    """400: messages cannot be added while a run is active."""
    return ApiError(400, f"Can't add messages to {thread_id} while a run {run_id} is active.")


def run_active(thread_id: str, run_id: str) -> ApiError:
    """400: one thread has one active run."""
    return ApiError(400, f"Thread {thread_id} already has an active run {run_id}.")


def takes_no_outputs(run_status: str, http_status: int = 400) -> ApiError:
    """400, or 409 where a repeated submit is a conflict: the run waits for nothing."""
    return ApiError(http_status, f'Runs in status "{run_status}" do not accept tool outputs.')


def other_outputs(expected: Sequence[str], given: Sequence[str], http_status: int = 400) -> ApiError:
    """400, or 409 for a repeat: the submit does not carry exactly one output for each call of the step."""
    return ApiError(http_status, f"Expected tool outputs for call_ids {list(expected)}, got {list(given)}")


def not_cancellable(run_status: str) -> ApiError:
    """400: the run is over, or on its way there."""
    return ApiError(400, f"Cannot cancel run with status '{run_status}'.")


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (str, "a string"), (int, "an integer"), (float, "a number"), (list, "an array")):
        if isinstance(value, kind):
            return name
    return "an object"
