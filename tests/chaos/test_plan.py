"""Fault plans: read, validated, written again; every typo names the nearest known word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos import builtin
from chaos.plan import PlanError, combine, load, parse

NAMED_BY_THE_ISSUE = (
    "none stale-polls stale-submit-reply regenerated-same-ids regenerated-new-ids lost-submit-reply submit-500 slow-tool "
    "commit-then-lose-reply commit-then-500 lose-tool-request kill-before-submit kill-after-commit pause resend-turn "
    "replica-restart latency-spike connection-reset duplicate-callback late-callback aligned-polls cancelled-run store-outage "
    "incident"
).split()


def rule(when: dict[str, Any], do: Any) -> dict[str, Any]:
    return {"name": "p", "rules": [{"when": when, "do": do}]}


@pytest.mark.parametrize("name", NAMED_BY_THE_ISSUE)
def test_every_promised_plan_is_there_and_explained(name: str) -> None:
    """Each built-in plan has its name, one sentence, and rules (but for `none`)."""
    plan = builtin.find(name)
    assert plan.name == name
    assert plan.about.endswith(".")
    assert bool(plan.rules) == (name != "none")


def test_a_plan_survives_its_own_json() -> None:
    """What to_json writes, parse reads as the same plan."""
    for plan in builtin.plans().values():
        assert parse(json.loads(json.dumps(plan.to_json()))) == plan


def test_toml_and_json_files_are_the_same_plan(tmp_path: Path) -> None:
    """A plan file may be TOML or JSON; its name defaults to the file's."""
    (tmp_path / "mine.toml").write_text(
        '[[rules]]\nwhen = { event = "tool_requested", tool = "refund_payment" }\ndo = { fault = "slow", seconds = 2 }\n'
    )
    (tmp_path / "mine.json").write_text(
        json.dumps({"rules": [{"when": {"event": "tool_requested", "tool": "refund_payment"}, "do": {"fault": "slow", "seconds": 2}}]})
    )
    plan = load(tmp_path / "mine.toml")
    assert plan == load(tmp_path / "mine.json")
    assert plan.name == "mine"
    assert str(plan.rules[0]) == "when tool_requested tool=refund_payment (no. 1 per conversation) do slow seconds=2.0"


def test_combined_plans_keep_the_rules_of_each() -> None:
    """a+b is both at once, under the rule ids of each."""
    both = builtin.find("stale-polls+slow-tool")
    assert both.name == "stale-polls+slow-tool"
    assert [r.id for r in both.rules] == ["stale-polls/1", "slow-tool/1"]
    assert combine([builtin.find("none")]).rules == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "plan: expected a table, got []"),
        ({"rule": []}, "plan: unknown word 'rule': did you mean 'rules'?"),
        ({"rules": {}}, "plan: rules must be a list of tables ([[rules]]), not dict"),
        ({"format_version": 2}, "plan: format_version is 2, this version of anechoic reads 1"),
        ({"rules": [{"do": {"fault": "kill"}}]}, "plan, rule 1: `when` is missing"),
        (rule({"event": "tool_request"}, {"fault": "slow"}), "did you mean 'tool_requested'?"),
        (rule({"event": "tool_requested", "tol": "x"}, {"fault": "slow"}), "did you mean 'tool'?"),
        (rule({"event": "tool_requested"}, {"fault": "stale_statuss"}), "unknown fault 'stale_statuss': did you mean 'stale_status'?"),
        (rule({"event": "tool_requested"}, {"fault": "stale_status"}), "cannot happen at 'tool_requested'; it happens at submit_accepted"),
        (rule({"event": "tool_requested"}, {"fault": "slow", "second": 1}), "did you mean 'seconds'?"),
        (rule({"event": "tool_requested"}, {"fault": "slow", "seconds": -1}), "-1 must be a number, 0 or more (seconds)"),
        (rule({"event": "tool_requested"}, {"fault": "slow", "where": "befor"}), "did you mean 'before'?"),
        (rule({"event": "submit_accepted"}, {"fault": "stale_status", "n": 0}), "0 must be a whole number, 1 or more"),
        (rule({"event": "tool_requested", "nth": 0}, {"fault": "slow"}), 'nth=0 must be a whole number from 1, a list of them, or "every"'),
        (rule({"event": "tool_requested", "per": "runs"}, {"fault": "slow"}), "did you mean 'run'?"),
        (rule({"event": "tool_requested", "times": True}, {"fault": "slow"}), "times=True must be a whole number, 1 or more"),
        (rule({"event": "tool_requested", "chance": 1.5}, {"fault": "slow"}), "chance=1.5 must be between 0 and 1"),
        (rule({"at": 1, "nth": 2}, {"fault": "kill"}), "`at` stands alone, but nth stands beside it"),
        (rule({"at": 1}, {"fault": "slow"}), "fault 'slow' cannot happen at a time"),
        (rule({"event": "tool_requested"}, []), "expected at least one fault"),
        (rule({"event": "tool_requested"}, {}), "`fault` is missing"),
    ],
)
def test_a_mistake_names_the_place_and_the_nearest_word(data: Any, message: str) -> None:
    """Every kind of mistake has its message."""
    with pytest.raises(PlanError) as caught:
        parse(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("broken.toml", "rules = ["), ("broken.json", "{")])
def test_a_broken_file_says_so(tmp_path: Path, name: str, text: str) -> None:
    """A file that is not TOML or JSON names itself and the reason."""
    (tmp_path / name).write_text(text)
    with pytest.raises(PlanError, match=f"{name} is not"):
        load(tmp_path / name)


def test_a_missing_file_and_an_unknown_name_say_so() -> None:
    """Neither is guessed at."""
    with pytest.raises(PlanError, match="cannot be read"):
        builtin.find("nowhere.toml")
    with pytest.raises(PlanError, match="did you mean 'stale-polls'"):
        builtin.find("stale-poll")
