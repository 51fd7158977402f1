"""The one error of the admin API: a message and an HTTP status."""

from __future__ import annotations


class ApiError(Exception):
    """A request that is refused; the admin API answers `{"error": message, "status": status}` with that status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad_body(reason: str) -> ApiError:
    """400: the body is no JSON, or a field has a wrong type or value."""
    return ApiError(400, f"bad request body: {reason}")


def missing(field: str) -> ApiError:
    """400: a field without which nothing can be made."""
    return ApiError(400, f"missing required field: {field}")
