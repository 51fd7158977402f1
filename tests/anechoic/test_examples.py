"""The published SDKs, as their users run them: a calm day passes, three stale polls cause every effect twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES = Path(__file__).parents[2] / "coordinators" / "examples"
NODE = EXAMPLES / "openai_node"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules").is_dir(),
    reason="!! Node or node_modules is missing: npm ci --prefix coordinators/examples/openai_node",
)
COMMANDS = [
    pytest.param(f"{sys.executable} {EXAMPLES / 'openai_python' / 'coordinator.py'}", id="python"),
    pytest.param(f"{sys.executable} {EXAMPLES / 'openai_python_streaming' / 'coordinator.py'}", id="python-streaming"),
    pytest.param(f"node {NODE / 'coordinator.mjs'}", id="node", marks=needs_node),
]


def gate(anechoic: Run, tmp_path: Path, command: str, plan: str) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    done = anechoic("gate", "--command", command, "--plan", plan, "--turns", "6", "--seed", "4", "--report-dir", "report")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    events = [json.loads(line) for line in (tmp_path / "report" / "history.jsonl").read_text().splitlines()[1:]]
    return done.returncode, json.loads((tmp_path / "report" / "verdict.json").read_text()), events


@pytest.mark.parametrize("command", COMMANDS)
def test_a_calm_day_passes(anechoic: Run, tmp_path: Path, command: str) -> None:
    """Without faults the SDKs' helpers do everything exactly once."""
    code, data, _ = gate(anechoic, tmp_path, command, "none")
    assert code == 0
    assert data["counts"]["effects"] == data["counts"]["tool_calls"] > 6


@pytest.mark.parametrize("command", COMMANDS)
def test_stale_polls_cause_every_effect_twice(anechoic: Run, tmp_path: Path, command: str) -> None:
    """Each call that was asked for has two effects, although none of them names its call: the nonce attributes them."""
    code, data, events = gate(anechoic, tmp_path, command, "stale-polls")
    assert code == 1
    assert data["safe"] == "fail"
    effects = [e["nonce"] for e in events if e["kind"] == "effect_committed"]
    assert effects
    assert all(effects.count(nonce) == 2 for nonce in effects)
    assert not any("tool_call_id" in e for e in events if e["kind"] == "tool_requested")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/coordinator.*")), ids=lambda p: p.parent.name)
def test_each_is_short(path: Path) -> None:
    """Under 60 lines: the protocol is small."""
    assert len(path.read_text().splitlines()) < 60
