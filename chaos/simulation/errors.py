"""What can go wrong with a simulation itself, as opposed to what goes wrong in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

WAY_OUT = "run it on the wire: anechoic gate --world wire"


class SimulationError(Exception):
    """The simulation cannot be run, or cannot go on; the message says why and what to do."""


class BadCoordinator(SimulationError):
    """What was given as the coordinator is none, or cannot be started here."""


class Refused(SimulationError):
    """Something real (a thread, a socket, a wait) was asked for inside the simulation; it ends the run."""

    def __init__(self, call: str, where: str | None = None) -> None:
        at = f" at {where}" if where else ""
        why = "a simulation is one thread in virtual time, and nothing real is in it"
        super().__init__(f"{call}{at} is refused: {why}; {WAY_OUT}")
        self.call = call
        self.where = where


class Deadlock(SimulationError):
    """Nothing is ready to run and no timer is set, yet the work is not done."""


class Exhausted(SimulationError):
    """The simulation took more steps, or more virtual time, than it was given."""


class Blocked(SimulationError):
    """One step did not come back within some seconds of real time; the watchdog ended it."""


class Interrupt(BaseException):
    """Thrown into code that does not come back, past its `except Exception`. Never leaves the simulation."""


_LIBRARIES = (os.path.dirname(os.__file__), sys.base_prefix, sys.prefix, str(Path(__file__).parent))


def where(frame: FrameType | None) -> str | None:
    """The innermost place outside the standard library, installed packages and the simulation, as file:line in function."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(("<", *_LIBRARIES)):
            return f"{file}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return None
