"""Fresh, unguessable-looking, seeded ids. A fixed `call_1` would hide the very bugs that are looked for."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TABLE = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class Ids:
    """A seeded source of ids; two sources with the same seed and label give the same ids in the same order."""

    def __init__(self, seed: int, label: str = "") -> None:
        self._random = random.Random(f"{seed}/{label}")

    def new(self, prefix: str, length: int = 24) -> str:
        """`prefix` + "_" + `length` characters, for example thread_7QpK..."""
        return f"{prefix}_{self._random.randbytes(length).translate(_TABLE).decode()}"

    def number(self, low: int, high: int) -> int:
        """A whole number between `low` and `high`, both included."""
        return self._random.randint(low, high)

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return self._random.uniform(low, high)


def derived(prefix: str, *parts: object, length: int = 24) -> str:
    """An id that is a function of `parts`: the same parts give the same id, and nothing can be read out of it."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=32).digest()
    return f"{prefix}_{digest[:length].translate(_TABLE).decode()}"


def payload_hash(arguments: Mapping[str, Any]) -> str:
    """SHA-256 over the arguments in canonical JSON, as the audit log shows it."""
    return hashlib.sha256(_canonical(arguments).encode()).hexdigest()
