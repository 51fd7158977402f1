"""Baselines: what is known is accepted, what is new fails, what is fixed is told, and nothing else can be accepted."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from anechoic.baseline import Baseline, Known, settle
from contracts.document import to_json
from contracts.verdict import Judgement, judge
from fakes import history as h
from fakes.gateway.profile import PROFILES

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def past(*conversations: tuple[str, int], fired: bool = True, kind: str = "call") -> list[h.Event]:
    """A history: for each (plan, effects) a conversation under that plan (or several joined by a space)."""
    events: list[h.Event] = []

    def add(cls: type[h.Event], **fields: Any) -> None:
        events.append(cls(seq=len(events) + 1, t=len(events) / 4, **fields))

    for n, (plan, effects) in enumerate(conversations):
        c, t, r, call = f"C{n}", f"turn_{n}", f"run_{n}", f"call_{n}"
        common = {"conversation": c}
        add(h.TurnPlanned, **common, turn_id=t, plans=tuple(plan.split()), calls=(("create_ticket",),))
        add(h.TurnSent, **common, turn_id=t, instance="coordinator-1", attempt=1)
        add(h.RunCreated, **common, run_id=r, thread_id=f"thread_{n}", turn_id=t, instance="coordinator-1")
        asked = h.Call(tool_call_id=call, tool="create_ticket", position=0, nonce=f"n{n}", payload_hash="p")
        add(h.ActionRequired, **common, run_id=r, thread_id=f"thread_{n}", step_id="s", ordinal=0, generation=1, calls=(asked,), turn_id=t)
        for m in range(effects):
            request = {"request_id": f"req_{n}{m}", "tool": "create_ticket"}
            add(h.ToolRequested, **common, **request, payload_hash="p", tool_call_id=call, instance="coordinator-1")
            if fired:
                add(h.FaultIntended, **common, rule=f"{plan}/1", fault="slow")
                add(h.FaultInjected, **common, rule=f"{plan}/1", fault="slow")
            add(h.EffectCommitted, **common, **request, effect_id=f"e{n}{m}", external_id=f"INC-{n}{m}", payload_hash="p", tool_call_id=call)
            add(h.ToolReplied, **common, **request, http_status=201, delivered=True, latency_ms=1.0, tool_call_id=call, external_id=f"INC-{n}{m}")
        add(h.TurnEnded, **common, turn_id=t, status="done")
    add(h.QuiesceEnded, settled=True)
    return events


def judged(*conversations: tuple[str, int], rules: tuple[str, ...] = (), wanted: tuple[str, ...] = ("C1",), **more: Any) -> Judgement:
    return judge(past(*conversations, **more), PROFILES["keyless"], wanted=wanted, expected_rules=[(rule, False) for rule in rules])


def held(baseline: Baseline, judgement: Judgement, **more: Any) -> dict[str, Any]:
    data = to_json(judgement, {}, "")
    settle(baseline, judgement, data, **more)
    return data


def known(tmp_path: Path, *entries: Known) -> Baseline:
    return Baseline(tmp_path / "known.toml", "keyless", entries)


A = Known("C1", "call", frozenset({"a"}), reason="ticket 17")


def test_what_is_known_is_accepted(tmp_path: Path) -> None:
    """Exit code 0, the facts stay, and the violation carries the reason."""
    data = held(known(tmp_path, A), judged(("a", 2), ("b", 1)))
    assert (data["verdict"], data["safe"], data["exit_code"]) == ("fail", "fail", 0)
    assert [v["accepted"] for v in data["violations"]] == ["ticket 17"]
    assert data["baseline"] == {"file": str(tmp_path / "known.toml"), "new": [], "accepted": 1, "fixed": [], "untested": []}


@pytest.mark.parametrize("entry", [
    Known("C1", "call", frozenset({"b"})), Known("C1", "family", frozenset({"a"})), Known("C7", "call", frozenset({"a"})),
    Known("C1", "call", frozenset({"a", "b"})),
])
def test_another_contract_shape_or_plan_is_new(tmp_path: Path, entry: Known) -> None:
    """The identity is all three."""
    data = held(known(tmp_path, entry), judged(("a", 2), ("b", 1)))
    assert data["exit_code"] == 1
    assert data["baseline"]["new"] == ["C1 at_most_one_effect (call) under a"]
    assert "accepted" not in data["violations"][0]


@pytest.mark.parametrize("plans", [frozenset[str](), frozenset({"a"}), frozenset({"b"}), frozenset({"a", "b"})])
def test_an_entry_covers_its_plans_and_more(tmp_path: Path, plans: frozenset[str]) -> None:
    """Two plans in one conversation; no plan means any."""
    assert held(known(tmp_path, Known("C1", "call", plans)), judged(("a b", 2)))["exit_code"] == 0


def test_plans_joined_by_plus_are_the_same_as_two(tmp_path: Path) -> None:
    """--plan a+b is one plan, named a+b."""
    assert held(known(tmp_path, A), judged(("a+b", 2)))["exit_code"] == 0


def test_one_new_violation_beside_a_known_one_fails(tmp_path: Path) -> None:
    """Under another plan."""
    data = held(known(tmp_path, A), judged(("a", 2), ("b", 2)))
    assert (data["exit_code"], data["baseline"]["accepted"]) == (1, 1)


def test_a_fixed_entry_is_told(tmp_path: Path) -> None:
    """Its plan was there, its contract was decided, and it did not come again."""
    data = held(known(tmp_path, A), judged(("a", 1)))
    assert (data["exit_code"], data["baseline"]["fixed"]) == (0, ["C1 at_most_one_effect (call) under a"])


@pytest.mark.parametrize(("judgement", "why"), [
    (lambda: judged(("b", 1)), "its plan was not there"),
    (lambda: judged(("a", 1), fired=False, rules=("a/1",)), "its fault never fired"),
    (lambda: judged(("a", 1), wanted=("C7",)), "its contract was not demanded"),
    (lambda: judge([*past(("a", 1)), h.RunInterrupted(seq=99, t=99.0, reason="stopped")], PROFILES["keyless"], wanted=["C1"]), "it was interrupted"),
])
def test_what_was_not_put_to_the_test_is_not_fixed(tmp_path: Path, judgement: Callable[[], Judgement], why: str) -> None:
    """It stays in the file."""
    data = held(known(tmp_path, A), judgement())
    assert data["baseline"]["fixed"] == [], why
    assert data["baseline"]["untested"] == ["C1 at_most_one_effect (call) under a"]


def test_a_vacuous_run_is_never_accepted(tmp_path: Path) -> None:
    """The violation is known, a rule never fired: what is left is unknown."""
    data = held(known(tmp_path, A), judged(("a", 2), rules=("a/1", "b/1")))
    assert (data["verdict"], data["exit_code"]) == ("fail", 3)


def test_an_undecided_contract_shows_once_its_violation_is_accepted(tmp_path: Path) -> None:
    """An effect that nobody can attribute is not covered up by a violation of the same contract."""
    events = past(("a", 2))
    stray = h.EffectCommitted(
        seq=len(events) + 1, t=60.0, conversation=None, request_id="req_x", effect_id="e", external_id="INC-9", tool="create_ticket", payload_hash="q"
    )
    judgement = judge([*events, stray], PROFILES["keyless"], wanted=["C1"])
    assert judgement.exit_code == 1
    assert held(known(tmp_path, A), judgement)["exit_code"] == 3


def test_an_update_writes_what_is_new_and_drops_what_is_fixed(tmp_path: Path) -> None:
    """Reasons of what stays are kept, an entry that another one covers is not written twice, and the run passes with it."""
    gone = Known("C1", "call", frozenset({"b"}))
    judgement = judged(("a", 2), ("b", 1), ("c", 2), ("c a", 2), ("c d", 2))
    data = held(known(tmp_path, A, gone), judgement, update=True)
    assert data["exit_code"] == 0
    assert data["baseline"]["removed"] == data["baseline"]["fixed"] == [str(gone)]
    written = tomllib.loads((tmp_path / "known.toml").read_text())
    assert [(e["plan"], e["reason"]) for e in written["accepted"]] == [("a", "ticket 17"), ("c", "")]
    assert "has 2 effects" in written["accepted"][1]["seen"]
    again = Baseline.load(tmp_path / "known.toml", "keyless")
    assert again.entries[0] == A
    assert held(again, judgement)["exit_code"] == 0


def test_an_unsound_run_updates_nothing(tmp_path: Path) -> None:
    """An invalid run, here one whose instance never got ready, says too little."""
    events = past(("a", 2))
    started = h.InstanceStarted(seq=len(events) + 1, t=61.0, instance="coordinator-2", life=1)
    data = held(known(tmp_path), judge([*events, started], PROFILES["keyless"], wanted=["C1"]), update=True)
    assert data["exit_code"] == 1
    assert not (tmp_path / "known.toml").exists()


def test_text_survives_the_file(tmp_path: Path) -> None:
    """Quotes, backslashes, control characters."""
    odd = Known("C1", "call", frozenset({"a"}), reason='"C:\\x"\n\x7f\x00 ü 😀', seen="'''")
    known(tmp_path, odd).save()
    (read,) = Baseline.load(tmp_path / "known.toml", "keyless").entries
    assert (read, read.reason, read.seen) == (odd, odd.reason, odd.seen)


GOOD = 'format_version = 1\n[[accepted]]\ncontract = "C1"\nshape = "call"\n'


@pytest.mark.parametrize(("text", "said"), [
    (None, "no such baseline: known.toml. --update-baseline writes it"),
    ("contract: C1", "is not TOML"),
    ("", "format_version is None; this anechoic reads 1"),
    ("format_version = 2\n", "format_version is 2; this anechoic reads 1"),
    (GOOD.replace("accepted", "acepted"), "unknown word 'acepted'"),
    (GOOD.replace('"C1"', '"C1x"'), "entry 1: unknown contract 'C1x'"),
    (GOOD.replace("shape", "shapes"), "entry 1: unknown word 'shapes'"),
    (GOOD.replace('shape = "call"\n', ""), "entry 1: shape is missing"),
    (GOOD + "plan = 3\n", "entry 1: plan must be text, not 3"),
    ('format_version = 1\naccepted = "all"\n', "accepted must be a list of tables"),
    ('format_version = 1\ngateway = "keyed"\n', "was written at gateway 'keyed', and this run is at 'keyless'"),
])
def test_a_bad_baseline_is_said_before_anything_starts(inside: Inside, tmp_path: Path, text: str | None, said: str) -> None:
    """Exit code 2, the file, the place, and what was expected."""
    if text is not None:
        (tmp_path / "known.toml").write_text(text)
    result = inside("gate", "--coordinator", "as_deployed", "--baseline", "known.toml")
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_an_update_needs_a_file(inside: Inside) -> None:
    """--update-baseline alone is a mistake."""
    result = inside("gate", "--coordinator", "as_deployed", "--update-baseline")
    assert result.exit_code == 2
    assert "--update-baseline writes the file that --baseline names" in result.output


def test_plans_of_a_violation_are_those_of_its_conversation() -> None:
    """By its run, else by the events when they are all of one conversation."""
    judgement = judged(("a", 2), ("b c", 1))
    assert judgement.violations[0].plans == {"a"}
    assert judgement.turns_under == {"a": 1, "b": 1, "c": 1}


def test_a_gate_with_a_baseline(anechoic: Run, tmp_path: Path) -> None:
    """Written by one gate, it accepts the next; without its faults the entries are fixed."""
    words = ["gate", "--coordinator", "as_deployed", "--turns", "6", "--seed", "2", "--demand", "C1", "--baseline", "known.toml"]
    first = anechoic(*words, "--plan", "stale-polls", "--update-baseline", "--report-dir", "report")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "C1 at_most_one_effect (call) under stale-polls: added" in first.stdout
    data = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert (data["verdict"], data["exit_code"], data["baseline"]["new"]) == ("fail", 0, [])
    second = anechoic(*words, "--plan", "stale-polls", GITHUB_ACTIONS="true")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "::error" not in second.stdout
    (tmp_path / "known.toml").write_text((tmp_path / "known.toml").read_text().replace('plan = "stale-polls"', 'plan = "none"'))
    third = anechoic(*words, "--plan", "none", GITHUB_ACTIONS="true")
    assert third.returncode == 0, third.stdout + third.stderr
    assert "::notice title=anechoic%3A fixed::C1 at_most_one_effect (call) under none" in third.stdout
    fourth = anechoic(*words, "--plan", "stale-polls")
    assert fourth.returncode == 1, fourth.stdout + fourth.stderr


def test_a_search_goes_past_what_is_known(anechoic: Run, tmp_path: Path) -> None:
    """A known violation does not end it: it goes on to the next one, and passes when all that it meets is known."""
    words = [
        "gate", "--coordinator", "as_deployed", "--world", "simulation", "--derandomize", "--examples", "40", "--demand", "C1,C6,C7",
        "--baseline", "known.toml",
    ]
    exits = []
    for _ in range(6):
        done = anechoic(*words, "--update-baseline", "--report-dir", "report")
        assert done.returncode == 0, done.stdout + done.stderr
        data = json.loads((tmp_path / "report" / "verdict.json").read_text())
        exits.append(data["search"]["examples"])
        if "added" in data["baseline"] and not data["baseline"]["added"]:
            break
    assert exits[0] < exits[-1] == 40
    last = anechoic(*words)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "verdict fail (exit 0)" in last.stdout
    text = (tmp_path / "known.toml").read_text()
    (tmp_path / "known.toml").write_text(text + '\n[[accepted]]\ncontract = "C6"\nshape = "never seen"\n')
    assert "C6 complete_batch (never seen): fixed" in anechoic(*words).stdout
