"""The incident from the command line: it is reproduced, told, and cured; and its measures are right on hand-made histories."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anechoic import incident
from fakes import history as h

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_incident_is_reproduced_and_the_cure_holds(anechoic: Run, tmp_path: Path) -> None:
    """Exit code 0, every signal seen, one duplicate told in the words of the logs, both reports written."""
    done = anechoic("incident", "--seed", "5", "--report-dir", "tuesday")
    assert done.returncode == 0, done.stdout + done.stderr
    for signal in ("S1", "S2", "S3", "S4", "S5", "S6", "S7"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(signal)]
        assert " seen " in line
    assert "The incident was reproduced; the cure held." in done.stdout
    story = done.stdout.split("in the words of its logs", 1)[1]
    audits = [line for line in story.splitlines() if "tool-gw AUDIT action=" in line]
    assert len(audits) == 2
    assert len({line.split("payload_hash=")[1].split()[0] for line in audits}) == 1
    assert len({line.split("external_ticket_id=")[1].split()[0] for line in audits}) == 2
    assert '"dedup_result":"MISS"' in story
    assert story.count("= requires_action") >= 2
    assert "reproduce: anechoic incident --seed 5" in done.stdout
    verdicts = {n: json.loads((tmp_path / "tuesday" / n / "verdict.json").read_text()) for n in ("as_deployed", "hardened")}
    assert verdicts["as_deployed"]["safe"] == "fail"
    assert verdicts["hardened"]["verdict"] == "pass"
    plans = [(tmp_path / "tuesday" / n / "plan.json").read_text() for n in verdicts]
    assert plans[0] == plans[1]


def effect(history: h.History, nonce: str, external: str) -> h.EffectCommitted:
    return history.record(
        h.EffectCommitted, request_id="r", effect_id=external, external_id=external, tool="create_ticket", payload_hash="p", nonce=nonce
    )


def asked(history: h.History, *calls: tuple[str, str]) -> None:
    history.record(
        h.ActionRequired, run_id="run_1", thread_id="t", step_id="s", ordinal=0, generation=1,
        calls=tuple(
            h.Call(tool_call_id=call, tool="create_ticket", position=i, nonce=nonce, payload_hash="p")
            for i, (call, nonce) in enumerate(calls)
        ),
    )


def test_only_effects_beyond_what_was_asked_for_are_repeats() -> None:
    """Two identical calls may have two effects; a third is a repeat, and so is the second of a single call."""
    history = h.History()
    asked(history, ("call_1", "n1"), ("call_2", "same"), ("call_3", "same"))
    effect(history, "n1", "INC-1")
    effect(history, "same", "INC-2")
    effect(history, "same", "INC-3")
    assert incident._repeats(history.events) == []
    effect(history, "same", "INC-4")
    effect(history, "n1", "INC-5")
    assert [[e.external_id for e in group] for group in incident._repeats(history.events)] == [["INC-1", "INC-5"], ["INC-3", "INC-4"]]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("call_1", "MISS"), ("call_1", "HIT")], [False, False]),
        ([("call_1", "MISS"), ("call_1", "MISS")], [False, True]),
        ([("call_1", "MISS"), ("call_9", "MISS")], [False, True]),
    ],
)
def test_a_miss_counts_when_the_same_intent_was_looked_up_before(lines: list[tuple[str, str]], expected: list[bool]) -> None:
    """The first look-up of an intent always misses; a later miss lets a repeat through, also under a regenerated id."""
    history = h.History()
    asked(history, ("call_1", "n1"))
    asked(history, ("call_9", "n1"))
    told: list[dict[str, Any]] = [{"tool_call_id": call, "dedup_result": result} for call, result in lines]
    assert incident._missed_repeats(history.events, told) == expected
