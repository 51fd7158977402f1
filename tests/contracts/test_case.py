"""Cases and counterexample files: what goes in comes out, and what is wrong is told."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from contracts.case import Case, CaseError, CaseTurn, rule_json, rules_of
from contracts.counterexample import Counterexample, Kept, readable
from contracts.profiles import RetryBudget
from contracts.result import Violation
from contracts.strategies import FORGETS, REPEATED, SIZE, decode, moves, pairs, sweep
from contracts.trial import InSimulation
from fakes.gateway.profile import PROFILES
from fakes.script import find

RULES = rules_of([
    {"when": {"event": "submit_accepted", "nth": [1, 2]}, "do": {"fault": "stale_status", "n": 1}},
    {"when": {"event": "effect_committed"}, "do": [{"fault": "kill"}, {"fault": "store_outage"}]},
])
CASE = Case(
    coordinator="hardened", gateway="keyed", seed=7, instances=3, repeat_submit="200", settings={"tool_timeout": 0.3},
    demand=("C1",), retry_budget=RetryBudget(3, 0.1),
    turns=(CaseTurn((("create_ticket", "twin"), ("send_email",)), RULES), CaseTurn((("refund_payment",),))),
)
FILE = {"format_version": 1, "expect": {"contract": "C1", "shape": "call"}, **CASE.to_json()}


def test_a_case_survives_json() -> None:
    """`from_json` of `to_json` is the same case, rules included."""
    again = Case.from_json(json.loads(json.dumps(CASE.to_json())))
    assert again.key == CASE.key
    assert again.turns[0].rules == CASE.turns[0].rules
    assert (again.calls, len(again.rules), again.profile.name) == (4, 2, "keyed")


def test_rules_are_written_without_defaults() -> None:
    """Only what differs from a default stands in the file, so that it stays small."""
    assert rule_json(RULES[0]) == {"when": {"event": "submit_accepted", "nth": [1, 2]}, "do": {"fault": "stale_status", "n": 1}}
    assert rule_json(RULES[1])["do"] == [{"fault": "kill"}, {"fault": "store_outage"}]


def test_a_twin_is_the_same_call_again() -> None:
    """Two identical calls share their `reference`; other calls get a nonce each."""
    (turn, plan), (other, _) = CASE.bound()
    first, twin = turn.script.steps[0]
    assert first == twin
    assert first.arguments["reference"].startswith(f"{turn.conversation_id}_")
    assert "reference" not in other.script.steps[0][0].arguments
    assert find(turn.body()["message"]) == turn.script
    assert turn.plans == (plan.name,)


def test_salt_keeps_cases_apart() -> None:
    """The same case under two salts shares no id, so both can be in flight in one world."""
    one, two = CASE.bound("1x"), CASE.bound("2x")
    ids = [{t.conversation_id for t, _ in b} | {t.turn_id for t, _ in b} | {r.id for _, p in b for r in p.rules} for b in (one, two)]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2, "versions": {"anechoic": "9.1"}}, "format_version is 2, written by anechoic 9.1"),
        ({"format_version": None}, "format_version is None"),
        ({"world": "moon"}, "unknown world 'moon'"),
        ({"coordinator_by": "magic"}, "unknown word in coordinator_by 'magic'"),
        ({"versions": 3}, "versions must be an object"),
        ({"expect": None}, "expect must be an object"),
        ({"expect": {"contract": "C99", "shape": "x"}}, "unknown contract 'C99'"),
        ({"coordinator": ""}, "coordinator must be text"),
        ({"gateway": "keyles"}, "did you mean 'keyless'?"),
        ({"instances": 0}, "instances=0 must be a whole number, 1 or more"),
        ({"seed": "x"}, "seed='x' must be a whole number"),
        ({"repeat_submit": "404"}, "unknown repeat_submit '404'"),
        ({"settings": {"tool_timeot": 1}}, "did you mean 'tool_timeout'?"),
        ({"settings": {"tool_timeout": 0}}, "tool_timeout=0 must be a number of seconds above 0"),
        ({"demand": ["C77"]}, "unknown contract 'C77'"),
        ({"demand": "C1"}, "demand must be a list"),
        ({"retry_budget": {"max_attempts": -1}}, "max_attempts=-1 must be a number"),
        ({"turns": []}, "at least one turn"),
        ({"turns": [{"steps": []}]}, "turn 1: steps must be a list of lists"),
        ({"turns": [{"steps": [["create_tickt"]]}]}, "did you mean 'create_ticket'?"),
        ({"turns": [{"steps": [["twin"]]}]}, "a twin repeats the call before it"),
        ({"turns": [{"steps": [["send_email"]], "rules": [{"when": {"event": "x"}, "do": {"fault": "kill"}}]}]}, "unknown event 'x'"),
        ({"turns": [{"steps": [["send_email"]], "rulez": []}]}, "did you mean 'rules'?"),
        ({"extra": 1}, "unknown word 'extra'"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    """Each mistake is a CaseError with the place, what was seen, and the nearest known word."""
    with pytest.raises(CaseError) as error:
        Counterexample.from_json({**FILE, **change}, "file")
    assert message in str(error.value)
    assert str(error.value).startswith("file")


@pytest.mark.parametrize("name", ["coordinator", "gateway", "turns"])
def test_what_is_missing_is_named(name: str) -> None:
    """A file without a required word names it."""
    with pytest.raises(CaseError, match=f"`{name}` is missing"):
        Counterexample.from_json({k: v for k, v in FILE.items() if k != name})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and what is no JSON are each a CaseError."""
    with pytest.raises(CaseError, match="no such file"):
        Counterexample.load(tmp_path / "nowhere.json")
    with pytest.raises(CaseError, match="cannot be read"):
        Counterexample.load(tmp_path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(CaseError, match="is not JSON"):
        Counterexample.load(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(CaseError, match="expected an object, seen list"):
        Counterexample.load(tmp_path / "y.json")


def test_a_file_is_small_and_readable(tmp_path: Path) -> None:
    """What fits on a line stands on one, and the file says what is expected, of what, and with which versions."""
    path = tmp_path / "deep" / "counterexample.json"
    Counterexample(case=CASE, expect=Violation("C1", "call", "two effects")).save(path)
    text = path.read_text()
    assert '      "steps": [["create_ticket", "twin"], ["send_email"]],\n' in text
    assert len(text.splitlines()) < 50
    again = Counterexample.load(path)
    assert again.expect == Violation("C1", "call", "")
    assert set(again.versions) == {"anechoic", "python"}
    assert json.loads(readable([1, {"a": "x" * 200}])) == [1, {"a": "x" * 200}]


def test_kept_cases_are_found_and_forgotten(tmp_path: Path) -> None:
    """The database gives back what failed, for its own subject only, and drops what holds now."""
    kept = Kept(tmp_path, "mine")
    kept.keep(CASE, Violation("C1", "call", ""))
    assert [case.key for case in Kept(tmp_path, "mine").cases()] == [CASE.key]
    assert Kept(tmp_path, "yours").cases() == []
    next(kept.folder.glob("*.json")).with_name("damaged.json").write_text("{")
    kept.forget(CASE)
    assert kept.cases() == []


def test_zero_bytes_are_the_simplest_case() -> None:
    """One turn, one call, no fault: what shrinking goes towards."""
    case = decode(bytes(SIZE), coordinator="hardened", profile=PROFILES["keyless"])
    assert (len(case.turns), case.calls, case.rules, case.seed, case.settings) == (1, 1, (), 0, {})


@pytest.mark.parametrize("world", ["simulation", "wire"])
def test_every_byte_sequence_is_a_case(world: str) -> None:
    """Whatever the bytes, the case can be written and read; on the wire there is nothing that only a simulation can do."""
    for profile in PROFILES.values():
        for data in (bytes([b]) * SIZE for b in range(0, 256, 5)):
            case = decode(data, coordinator="x", profile=profile, world=world)
            assert Case.from_json(case.to_json()).key == case.key
            faults = {do.fault for rule in case.rules for do in rule.do}
            assert world == "simulation" or not (faults & {"network", "clock_jump"} or case.settings)


def test_a_sweep_has_every_fault_once_before_any_comes_again() -> None:
    """One fault each, all of them, at every point."""
    profile = PROFILES["keyless"]
    known = moves(profile)
    swept = sweep(profile, 1)
    cases = [decode(next(swept), coordinator="x", profile=profile) for _ in known]
    assert all(len(case.rules) == 1 or case.rules[0].do[0].fault == "resend_turn" for case in cases)
    seen = sorted((case.rules[-1].do[0].fault, str(case.rules[-1].when.event)) for case in cases)
    assert seen == sorted((move.fault, str(move.when["event"])) for move in known)


def test_pairs_are_of_one_fault_that_forgets_and_one_that_asks_again() -> None:
    """All of them before any comes again, in one turn, each the first occurrence of its point."""
    profile = PROFILES["keyed"]
    cases = [decode(data, coordinator="x", profile=profile) for data in itertools.islice(pairs(profile, 1), 150)]
    seen = set()
    for case in cases:
        first, *_, last = case.rules
        assert len(case.turns) == 1
        assert first.when.event in FORGETS[first.do[0].fault]
        assert last.do[0].fault in REPEATED
        assert first.when.nth == last.when.nth[:1] == (1,)
        seen.add((first.do[0].fault, first.when.event, last.do[0].fault, last.when.event))
    assert len(seen) == len(cases)


def test_promises_of_the_gateway_stay_whole() -> None:
    """With a delivery bound nothing holds a request longer, and keys outlive every jump of all clocks."""
    lookup = [a["seconds"] for m in moves(PROFILES["lookup"]) if m.fault in ("slow", "pause") for a in m.args]
    assert max(lookup) < 3.0
    jumps = [a["seconds"] for m in moves(PROFILES["keyed"]) if m.fault == "clock_jump" for a in m.args if a["which"] == "all"]
    assert max(jumps) < 60.0


def test_an_encoded_case_runs() -> None:
    """What is decoded can be simulated, and its rules fire."""
    data = bytearray(SIZE)
    case = decode(bytes(data), coordinator="hardened", profile=PROFILES["keyless"])
    trial = InSimulation().run(case)
    assert trial.violations == ()
    assert trial.judgement.counts["effects"] == 1
