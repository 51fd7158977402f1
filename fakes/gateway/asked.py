"""The faults that a nemesis asked for at one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fakes.faults import FAKE_FAULTS, Fault


def parameter(fault: Fault, name: str) -> Any:
    """A parameter of a fault, or the default that the vocabulary gives."""
    return fault.args[name] if name in fault.args else FAKE_FAULTS[fault.name].params[name].default


class Asked:
    """The faults asked for at one request, found by name."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults: Sequence[Fault] = faults

    def add(self, faults: Sequence[Fault]) -> None:
        """Further faults, asked for at a later point of the same request."""
        self._faults = (*self._faults, *faults)

    def all(self, name: str) -> list[Fault]:
        """Every fault of that name, in the order asked for."""
        return [fault for fault in self._faults if fault.name == name] if self._faults else []

    def has(self, *names: str) -> bool:
        """Whether a fault of one of these names is asked for."""
        return any(fault.name in names for fault in self._faults) if self._faults else False

    def first(self, name: str, of: str) -> Any:
        """Parameter `of` of the first fault of that name. Raises IndexError when none was asked for."""
        return parameter(self.all(name)[0], of)

    def injected(self, name: str, detail: str | None = None) -> None:
        """Tell that every fault of that name took effect."""
        for fault in self.all(name):
            fault.injected(detail)
