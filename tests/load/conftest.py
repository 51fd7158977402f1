"""A stub coordinator as a process, and Locust in front of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from chaos.wire.ports import free_port

STUB = Path(__file__).with_name("stub_coordinator.py")


@pytest.fixture
def stub() -> Iterator[Callable[[float], str]]:
    """Start a stub coordinator whose turns take so many seconds; its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(seconds: float = 0.05) -> str:
        port = free_port(set())
        started.append(subprocess.Popen([sys.executable, str(STUB), str(port), str(seconds)]))
        url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                assert httpx.get(f"{url}/healthz").status_code == 200
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return url
        raise AssertionError("the stub never answered")

    yield start
    for process in started:
        process.terminate()
        process.wait(10)
