"""The published libraries, as their users run them: a calm day passes, stale polls cause every effect twice, and the table is true."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES = Path(__file__).parents[2] / "coordinators" / "examples"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_verify", EXAMPLES / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verify = loaded()
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (EXAMPLES / "openai_node" / "node_modules").is_dir(),
    reason="!! Node or node_modules is missing: npm ci --prefix coordinators/examples/openai_node",
)
every_example = pytest.mark.parametrize("example", [
    pytest.param(example, id=example["folder"], marks=needs_node if example["file"].endswith(".mjs") else ())
    for example in verify.load()["examples"]
])  # fmt: skip


@every_example
def test_a_calm_day_passes_and_stale_polls_cause_every_effect_twice(
    anechoic: Run, tmp_path: Path, example: dict[str, Any]
) -> None:
    """Side by side in one gate: three turns on which nothing befalls, three whose polls are stale. No effect names its call."""
    done = anechoic(
        "gate", "--command", verify.command(example), "--plan", "none", "--plan", "stale-polls", "--turns", "6", "--seed", "4",
        "--instances", "2", "--report-dir", "report", "--env", "TOOL_TIMEOUT=10", "--env", "CLIENT_TIMEOUT=10",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    data = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert (data["safe"], data["live"], data["honest"]) == ("fail", "pass", "fail")
    events = [json.loads(line) for line in (tmp_path / "report" / "history.jsonl").read_text().splitlines()[1:]]
    plans = {e["conversation"]: e["plans"][0] for e in events if e["kind"] == "turn_planned"}
    ended = Counter((plans[e["conversation"]], e["status"]) for e in events if e["kind"] == "turn_ended")
    assert ended == {("none", "done"): 3, ("stale-polls", "failed"): 3}
    effects = Counter(e["nonce"] for e in events if e["kind"] == "effect_committed")
    asked = {c["nonce"]: plans[e["conversation"]] for e in events if e["kind"] == "action_required" for c in e["calls"]}
    assert effects == {nonce: 1 if plan == "none" else 2 for nonce, plan in asked.items()}
    assert not any("tool_call_id" in e for e in events if e["kind"] == "tool_requested")


@pytest.mark.slow
@every_example
def test_every_verdict_of_the_table_comes_out(example: dict[str, Any]) -> None:
    """All the gates that `verify.py` runs."""
    assert verify.verify([example], list(verify.load()["plans"]))


def test_the_table_is_made_from_the_data() -> None:
    """README.md is what `verify.py --write` writes."""
    assert verify.README.read_text() == verify.page(verify.load()), "run: python coordinators/examples/verify.py --write"


@every_example
def test_every_example_is_declared_for_every_plan(example: dict[str, Any]) -> None:
    """Each plan has its verdict, only those about streams are left out by one that polls; and what it means is said."""
    missing = set(verify.load()["plans"]) - set(example["verdicts"])
    assert missing == (set() if "streaming" in example["folder"] else {"cut-stream"})
    assert len(example["means"].split()) > 15
    assert [word.split()[0] for word in example["seen"].split(", ")] == example["packages"]


def test_no_example_is_forgotten() -> None:
    """Each folder is in the data."""
    assert {path.parent.name for path in EXAMPLES.glob("*/coordinator.*")} == {e["folder"] for e in verify.load()["examples"]}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/coordinator.*")), ids=lambda p: p.parent.name)
def test_each_is_short(path: Path) -> None:
    """Under 60 lines: the protocol is small."""
    assert len(path.read_text().splitlines()) < 60


def test_verify_tells_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What came and what is declared, one below the other; and what is installed where that is something else."""
    example = {**verify.load()["examples"][0], "seen": "openai 0.1", "verdicts": {"none": "pass, effects 1, turns done"}}
    monkeypatch.setattr(verify, "gate", lambda example, plan: "fails SAFE, effects 2, turns done")
    assert not verify.verify([example], ["none"])
    said = capsys.readouterr().out
    assert "(declared with openai 0.1)" in said
    assert "fails SAFE, effects 2, turns done\n                       declared: pass, effects 1, turns done" in said
    done = subprocess.run([sys.executable, EXAMPLES / "verify.py", "--only", "nobody"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'nobody'" in done.stderr
