"""JSON as bytes, quickly, and back: every answer of a fake and every line of a history goes through here."""

from __future__ import annotations

import json
from typing import Any

import orjson


def encode(data: Any) -> bytes:
    """Compact JSON. Whole numbers beyond 64 bits, which the fast encoder refuses, go through the standard one."""
    try:
        return orjson.dumps(data)
    except TypeError:
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: str | bytes) -> Any:
    """What JSON says. What the fast decoder refuses gets its answer, or its ValueError, from the standard one."""
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data)
