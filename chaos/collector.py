"""Python's garbage collector, paused while it would only get in the way."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage is collected here; also a decorator, after which everything that the function made is garbage already.

    When it is collected depends on the whole process, which a simulation must not; and walking again and again what lives
    to the end anyhow takes much of the time that a short piece of work has.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
