"""Lives: one run of one instance, from its start to its crash, and everything that the loop runs on its behalf.

Which life a callback belongs to is told by a context variable, which tasks inherit. A life that is frozen has its callbacks
put aside instead of run: a pause gives them back later, a crash never does.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any


class Life:
    """One life of one instance.

    `frozen` is None while it runs; else the callbacks that were due meanwhile. What a crash leaves behind is kept here
    until the simulation is over: if it were let go, Python would run its `finally` blocks.
    """

    __slots__ = ("clock_offset", "crashed", "environ", "frozen", "instance", "number", "wreck")

    def __init__(self, instance: str, number: int, environ: Mapping[str, str], clock_offset: float = 0.0) -> None:
        self.instance = instance
        self.number = number
        self.environ = environ
        self.clock_offset = clock_offset
        self.frozen: list[Any] | None = None
        self.crashed = False
        self.wreck: list[object] = []

    def __repr__(self) -> str:
        state = "crashed" if self.crashed else "paused" if self.frozen is not None else "running"
        return f"<Life {self.number} of {self.instance}, {state}>"

    def context(self) -> contextvars.Context:
        """A new context in which everything belongs to this life."""
        context = contextvars.Context()
        context.run(LIFE.set, self)
        return context


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("anechoic_life", default=None)
"""The life that the running code belongs to; None in the harness."""
