"""The deployed design: right on a calm day, and wrong in exactly the ways of the incident."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordinators.as_deployed import create_app

TWO_STEPS = (("create_ticket", "send_email"), ("refund_payment",))


def lines(c: Any, word: str) -> list[str]:
    """All log lines that hold a word."""
    return [line for instance in c.instances.values() for line in instance.log if word in line]


def test_calm(chamber: Any, asking: Any) -> None:
    """Without faults every call has one effect, and every step one submit."""
    c = chamber(create_app)
    turns = [asking(*TWO_STEPS, name=f"turn_{n}") for n in range(5)]
    assert set(c.run(*turns).values()) == {"done"}
    assert c.effects() == [1] * 15
    assert (c.requests(), c.submits()) == (15, 10)
    assert c.outputs_hold_effects()


def test_logs_are_those_of_the_artifacts(chamber: Any, asking: Any) -> None:
    """The submitter's JSON line and the coordinator's status line have the fields of the incident's artifacts."""
    c = chamber(create_app)
    c.run(asking(("create_ticket",)))
    submission = json.loads(lines(c, "tool-output-submitter")[0])
    assert set(submission) == {
        "ts", "service", "level", "thread_id", "run_id", "step_id", "tool_call_id", "dedup_key", "dedup_result",
        "submit_tool_outputs",
    }
    assert submission["dedup_result"] == "MISS"
    assert submission["dedup_key"] == f"{submission['run_id']}:{submission['tool_call_id']}"
    told = submission["submit_tool_outputs"]
    assert told["tool_outputs_count"] == 1
    assert told["http_status"] == 200
    assert told["request_id"].startswith("req_")
    status = lines(c, "run_status")[0]
    assert status.split(" ", 1)[1] == (
        f"coordinator INFO run_status {submission['thread_id']}/{submission['run_id']} = requires_action "
        f"step={submission['step_id']} tool_calls=[{submission['tool_call_id']}]"
    )


@pytest.mark.parametrize(
    ("kind", "fault", "args"),
    [
        ("submit_accepted", "stale_status", {"n": 3}),
        ("tool_requested", "commit_then_lose_reply", {}),
        ("tool_requested", "commit_then_500", {}),
        ("run_told", "regenerate_step", {"ids": "new"}),
        ("callback_due", "late_callback", {"seconds": 3.0}),
    ],
)
def test_duplicates(chamber: Any, rule: Any, asking: Any, kind: str, fault: str, args: dict[str, Any]) -> None:
    """What repeats a requires_action or hides an answer makes a second effect, and the turn still ends well."""
    wanted = rule(kind, fault, args, when=lambda e: kind != "run_told" or e.status == "requires_action")
    c = chamber(create_app, "keyless", wanted)
    assert c.run(asking(("create_ticket",))) == {"turn_1": "done"}
    assert c.effects() == [2]


def test_refused_submit_is_never_repeated(chamber: Any, rule: Any, asking: Any) -> None:
    """The dedup record is there before the submit: a submit that was refused looks like a duplicate when it is tried again."""
    c = chamber(create_app, "keyless", rule("submit_received", "refuse_submit"))
    assert c.run(asking(("create_ticket",)), budget=5.0) == {}
    results = [json.loads(line)["dedup_result"] for line in lines(c, "tool-output-submitter")]
    assert results[:2] == ["MISS", "HIT"]
    assert c.submits() == 1


def test_new_ids_are_another_miss(chamber: Any, rule: Any, asking: Any) -> None:
    """A step that comes back under new ids is unknown to the dedup records: its outputs are submitted as a MISS."""
    again = rule("run_told", "regenerate_step", {"ids": "new"}, when=lambda e: e.status == "requires_action")
    c = chamber(create_app, "keyless", again)
    c.run(asking(("create_ticket",)))
    results = [json.loads(line)["dedup_result"] for line in lines(c, "tool-output-submitter")]
    assert set(results) == {"MISS"}
    assert c.effects() == [2]


def test_resent_turn_runs_again_elsewhere(chamber: Any, asking: Any) -> None:
    """A turn that is delivered again is ignored by the instance that remembers it, and run again by another."""
    turn = asking(("send_email",))

    async def again(c: Any) -> None:
        await c.deliver(turn)
        await c.deliver(turn, to="coordinator-2")

    c = chamber(create_app)
    assert c.run(turn, story=again) == {"turn_1": "done"}
    assert c.effects() == [2]


def test_dedup_fails_open(chamber: Any, asking: Any) -> None:
    """A dedup record that cannot be asked for counts as MISS, although it is there."""
    told: list[str] = []

    async def story(c: Any) -> None:
        dedup = c.instances["coordinator-1"].app.service.handler._dedup
        told.extend([await dedup("run:call"), await dedup("run:call")])
        c.store.refuse()
        told.append(await dedup("run:call"))
        c.store.take_again()
        told.append(await dedup("run:call"))

    chamber(create_app).run(asking(("send_email",)), story=story)
    assert told == ["MISS", "HIT", "MISS", "HIT"]


def test_timeouts_are_logged(chamber: Any, rule: Any, asking: Any) -> None:
    """A request without an answer in time leaves a warning, and a second request with the same arguments."""
    slow = rule("tool_requested", "slow", {"seconds": 0.7, "where": "after"})
    c = chamber(create_app, "keyless", rule("tool_requested", "commit_then_500"), slow)
    c.run(asking(("send_email",)))
    assert any("tool_timeout" in line and "WARN" in line for line in lines(c, "tool_timeout"))
    assert c.requests() == 2
