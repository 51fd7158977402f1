"""The reference coordinators as real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DESIGNS = ("as_deployed", "hardened")


def environ(tmp_path: Path, port: int) -> dict[str, str]:
    """The environment of an instance whose backends are not there."""
    nobody = "http://127.0.0.1:9"
    return {
        **os.environ, "PORT": str(port), "INSTANCE_ID": "coordinator-1", "STATE_DIR": str(tmp_path),
        "ASSISTANTS_BASE_URL": f"{nobody}/v1", "ASSISTANT_ID": "asst_1", "TOOL_GATEWAY_URL": nobody,
        "TOOL_RESULTS_URL": f"http://127.0.0.1:{port}/tool-results", "STORE_URL": f"sqlite:///{tmp_path}/store.db",
    }


def ask(port: int, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """One request over a real connection."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("design", DESIGNS)
def test_life_of_a_process(tmp_path: Path, design: str) -> None:
    """It gets ready, takes a turn whose backends are away, and ends with code 0 at SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", f"coordinators.{design}"], env=environ(tmp_path, port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                status, data = ask(port, "/healthz")
                if status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.02)
        assert data["async_tools"] is True
        turn = {"turn_id": "t1", "conversation_id": "c1", "user_id": "u1", "message": "hello"}
        assert ask(port, "/turns", turn)[0] == 202
        assert ask(port, "/turns/t1")[1]["status"] in ("running", "failed")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, b"")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("design", DESIGNS)
def test_incomplete_environment(tmp_path: Path, design: str) -> None:
    """A missing variable is named on standard error; the exit code is 2."""
    incomplete = {k: v for k, v in environ(tmp_path, 0).items() if k != "ASSISTANT_ID"}
    ended = subprocess.run([sys.executable, "-m", f"coordinators.{design}"], env=incomplete, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "missing in the environment: ASSISTANT_ID" in ended.stderr
