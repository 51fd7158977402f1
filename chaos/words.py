"""The nearest known word, for every error message about a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, seen: object, known: Iterable[str]) -> str:
    """One sentence: what was seen, the nearest known word, and all known ones.

    >>> unknown("fault", "stale_statu", ["barrier", "stale_status"])
    "unknown fault 'stale_statu': did you mean 'stale_status'? Known: barrier, stale_status"
    """
    words = sorted(known)
    near = difflib.get_close_matches(str(seen), words, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {seen!r}{hint} Known: {', '.join(words)}"
