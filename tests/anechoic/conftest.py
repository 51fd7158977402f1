"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from anechoic.cli import app

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def anechoic(tmp_path: Path) -> Run:
    """`anechoic(*words)` runs the command in an empty folder and returns what came out; 100 seconds at most."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "anechoic", *words], cwd=tmp_path, env={**os.environ, **environ}, text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=100, check=False,
        )

    return run


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`inside(*words)` runs the command in this process, which is quicker; for what ends before anything is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOXIPROXY_URL", raising=False)
    return lambda *words: CliRunner().invoke(app, words)


@pytest.fixture
def past() -> Any:
    """An empty history to be written by hand, as the tests of contracts have it."""
    path = Path(__file__).parents[1] / "contracts" / "histories.py"
    name = "contract_histories"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name].Past()
