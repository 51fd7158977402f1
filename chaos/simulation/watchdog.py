"""The watchdog: ends a step of the simulation that does not come back, in real time."""

from __future__ import annotations

import ctypes
import linecache
import signal
import sys
import threading
from types import FrameType
from typing import Any, Protocol

from chaos.simulation.errors import WAY_OUT, Blocked, Interrupt, SimulationError, where
from chaos.simulation.lives import Life


class Watched(Protocol):
    """What moves on in steps: a virtual loop. `current` is whose step it is, `doom` takes what ended it."""

    @property
    def steps(self) -> int: ...
    @property
    def current(self) -> Life | None: ...

    doom: SimulationError | None


class Watchdog:
    """Looks twice in `seconds` whether the loop has made a step; if it has not, it throws `Interrupt` into what runs.

    In the main thread that is an alarm (SIGALRM), which ends waits too; in any other one a thread that lives as long as
    the simulation runs, and which can end what executes Python code, and no wait within C code.
    """

    def __init__(self, loop: Watched, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._seen = -1
        self._handler: Any = None
        self._timer: tuple[float, float] = (0.0, 0.0)
        self._thread: threading.Thread | None = None
        self._done = threading.Event()

    def __enter__(self) -> None:
        self._seen = -1
        half = self._seconds / 2
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGALRM, self._alarm)
            self._timer = signal.setitimer(signal.ITIMER_REAL, half, half)
            return
        self._done.clear()
        watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(watched, half), daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None
            return
        signal.setitimer(signal.ITIMER_REAL, *self._timer)
        signal.signal(signal.SIGALRM, self._handler)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        if self._stands_still():
            self._blame(frame)
            raise Interrupt

    def _watch(self, watched: int, half: float) -> None:
        while not self._done.wait(half):
            if self._stands_still():
                self._blame(sys._current_frames().get(watched))
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watched), ctypes.py_object(Interrupt))

    def _stands_still(self) -> bool:
        before, self._seen = self._seen, self._loop.steps
        return before == self._loop.steps

    def _blame(self, frame: FrameType | None) -> None:
        life = self._loop.current
        who = life.instance if life is not None else "the simulation"
        place = where(frame) or "an unknown place"
        file, _, rest = place.partition(":")
        line = linecache.getline(file, int(rest.split(" ")[0])).strip() if rest else ""
        self._loop.doom = self._loop.doom or Blocked(
            f"{who} did not come back within {self._seconds:g} s from `{line}` at {place}: a coordinator in the simulation "
            f"must await, never block; {WAY_OUT}"
        )
