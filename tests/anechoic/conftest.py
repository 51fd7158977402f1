"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from anechoic.cli import app
from chaos.wire import ports

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
def real_toxiproxy() -> Iterator[str]:
    """The admin address of a real Toxiproxy that is up, without a proxy on it; skips where there is none."""
    found = os.environ.get("TOXIPROXY_BIN") or shutil.which("toxiproxy-server")
    program = Path(found) if found else Path(__file__).parents[2] / ".tools" / "bin" / "toxiproxy-server"
    if not program.exists():
        pytest.skip("!! no real Toxiproxy: scripts/toxiproxy builds one where there is Go")
    url = f"http://127.0.0.1:{(port := ports.free_port(set()))}"
    server = subprocess.Popen([str(program), "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(url)
        yield url
    finally:
        server.kill()
        server.wait()


def _wait_until_up(url: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{url}/version"):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


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
