"""The builder of hand-written histories, for the tests of contracts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load() -> ModuleType:
    name = "contract_histories"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "histories.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def past() -> Any:
    """An empty history to be written by hand."""
    return _load().Past()


@pytest.fixture
def good() -> Callable[..., Any]:
    """Writes a turn that goes well."""
    return _load().good
