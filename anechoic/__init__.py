"""anechoic: a chaos and contract test harness, with fake backends, for orchestration layers that run tool calls for an LLM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anechoic.live import LiveChamber, plan_of
    from anechoic.testing import Undecided, contract_test, explain
    from contracts.machine import CoordinatorMachine
    from contracts.property import BrokenContract

__all__ = ["BrokenContract", "CoordinatorMachine", "LiveChamber", "Undecided", "contract_test", "explain", "plan_of"]

_HOMES = {
    "BrokenContract": "contracts.property",
    "CoordinatorMachine": "contracts.machine",
    "LiveChamber": "anechoic.live",
    "Undecided": "anechoic.testing",
    "contract_test": "anechoic.testing",
    "explain": "anechoic.testing",
    "plan_of": "anechoic.live",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: the command line starts without them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
