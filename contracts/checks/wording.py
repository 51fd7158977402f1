"""What a text tells the model: an error, or that nobody knows; lenient, since every coordinator has words of its own."""

from __future__ import annotations

import json
import re
from typing import Any

_ERROR_ID = re.compile(r"\bERR-\w+")
_FAILING = re.compile(
    r"\b(errors?|fail(?:s|ed|ure|ures|ing)?|unable|could(?: not|n.t)|can(?:not|.t| not)|not (?:possible|done|completed)|"
    r"unsuccessful(?:ly)?|declined|rejected|refused|denied|exception|impossible|unavailable|problem|aborted)\b",
    re.IGNORECASE,
)
_NO_FAILING = re.compile(r"\b(?:no|without|0|zero)\s+(?:any\s+)?(?:errors?|problems?|failures?|exceptions?)\b", re.IGNORECASE)
_UNSURE = re.compile(
    r"\b(unknown|not known|unclear|uncertain\w*|undetermined|unconfirmed|unverified|in doubt|may have|might have|"
    r"may or may not|whether|not (?:sure|certain|clear|confirmed)|"
    r"can(?:not|.t| not) (?:tell|say|know|be (?:known|told|determined|confirmed)))\b",
    re.IGNORECASE,
)
_ERROR_KEYS = ("error", "errors", "exception", "err", "failure")
_SUCCESS_KEYS = ("ok", "success", "succeeded", "successful")
_STATUS_KEYS = ("status", "state", "result", "outcome", "type")
_BAD_FLAGS = ("is_error", "iserror", "failed")


def tells_error(text: str) -> bool:
    """Whether an output says that the call failed.

    That is: it quotes the tool's error id (ERR-...); or it is JSON with a truthy error, a failing status, or a false success;
    or it says so in words. JSON that says neither is judged by the words of its texts.
    """
    if _ERROR_ID.search(text):
        return True
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _words(text)
    return _value(data)


def tells_doubt(text: str) -> bool:
    """Whether an output says that it is not known what became of the call."""
    return _UNSURE.search(text) is not None


def _value(data: Any) -> bool:
    if isinstance(data, str):
        nested = data.strip()
        return tells_error(nested) if nested[:1] in ("{", "[", '"') else _words(data)
    if isinstance(data, list):
        return any(_value(item) for item in data)
    if isinstance(data, dict):
        return any(_entry(str(key).lower(), value) for key, value in data.items())
    return False


def _entry(key: str, value: Any) -> bool:
    if key in _ERROR_KEYS or key in _BAD_FLAGS:
        return bool(value)
    if key in _SUCCESS_KEYS and isinstance(value, bool):
        return not value
    if key in ("http_status", "status_code", "code", *_STATUS_KEYS) and isinstance(value, int) and not isinstance(value, bool):
        return value >= 400
    return _value(value)


def _words(text: str) -> bool:
    return _FAILING.search(_NO_FAILING.sub(" ", text)) is not None
