"""The story of a violation in lines for people."""

from __future__ import annotations

from contracts import story
from fakes import history as h


def test_a_duplicates_story_tells_it_in_order(past):
    """Asked, told, done, told again, done again: nothing else, and nothing missing."""
    past.turn().run().ask("call_a").told("call_a").told("call_a").told("call_a")
    past.submit({"call_a": past.did("call_a")}).told("call_a", stale=True).did("call_a", key="k2")
    judgement = past.judge("keyless")
    lines = story(judgement.index, judgement.violations[0])
    assert [" ".join(line.split()) for line in lines] == [
        "+0.600 harness delivers turn t1 to coordinator-1",
        "+0.900 assistants run run_1 was created on thread_C1",
        "+1.200 assistants run run_1 requires action, step 0: create_ticket call_a",
        "+1.500 coordinator-1 is told: run run_1 is requires_action, waiting for call_a, by poll",
        "+2.100 coordinator-1 is told: run run_1 is requires_action, waiting for call_a, by poll",
        "+2.400 coordinator-1 requests create_ticket (request req_1, call call_a, payload hash of )",
        "+2.700 tool-gw create_ticket committed INC-55102 (request req_1, call call_a, from coordinator-1)",
        "+3.000 tool-gw answers req_1 with 200 INC-55102",
        "+3.300 coordinator-1 submits call_a = INC-55102 (submit_10)",
        "+3.600 assistants accepted submit_10: call_a for step 0",
        "+3.900 coordinator-1 is told: run run_1 is requires_action, waiting for call_a (stale), by poll",
        "+4.200 coordinator-1 requests create_ticket (request req_2, call call_a, key k2, payload hash of )",
        "+4.500 tool-gw create_ticket committed INC-55103 (request req_2, call call_a, from coordinator-1)",
        "+4.800 tool-gw answers req_2 with 200 INC-55103",
    ]


def test_faults_of_the_conversation_are_part_of_the_story(past):
    """What the nemesis did stands where it happened."""
    past.turn().run().ask("call_a").fault("commit_then_lose_reply")
    past.did("call_a", lost=True)
    past.did("call_a")
    judgement = past.judge("keyless")
    text = "\n".join(story(judgement.index, judgement.violations[0]))
    assert "nemesis       commit_then_lose_reply happened (rule plan/1)" in text
    assert "but the answer was lost" in text


def test_every_kind_of_event_has_its_words(past, good):
    """No event of a story falls back to its bare kind, and none breaks a line."""
    from contracts.story import _WORDS, line

    made = [
        h.TurnPlanned(turn_id="t1", calls=(("a",), ("b", "c"))),
        h.TurnSent(turn_id="t1", instance="coordinator-1", attempt=2),
        h.TurnEnded(turn_id="t1", status="failed", detail="no idea"),
        h.FaultIntended(rule="r", fault="kill"),
        h.FaultInjected(rule="r", fault="kill", detail="gone"),
        h.FaultHealed(rule="r", fault="kill"),
        h.FaultFailed(rule="r", fault="kill", reason="no"),
        h.RunCreated(run_id="run_1", thread_id="thread_1", instance="coordinator-1"),
        h.RunEnded(run_id="run_1", status="failed", reason="x"),
        h.ActionRequired(run_id="run_1", thread_id="t", step_id="s", ordinal=0, generation=2, calls=()),
        h.RunTold(run_id="run_1", status="queued", via="poll"),
        h.SubmitReceived(run_id="run_1", submit_id="s", outputs=(h.Output(tool_call_id="call_a", output="x" * 200),)),
        h.SubmitAccepted(run_id="run_1", submit_id="s", step_id="s", ordinal=0, outputs=(), repeat=True),
        h.SubmitRefused(run_id="run_1", submit_id="s", http_status=400, message="no"),
        h.ToolRequested(request_id="r", tool="a", payload_hash="p", nonce="n", fence=2),
        h.EffectCommitted(request_id="r", effect_id="e", external_id="x", tool="a", payload_hash="p"),
        h.ToolReplied(request_id="r", tool="a", http_status=503, delivered=False, latency_ms=1, error="down", replayed=True),
        h.CallbackPosted(request_id="r", tool="a", attempt=2, copy=2, http_status=None, error="x"),
        h.LookupAnswered(tool_call_id="call_a"),
        h.LookupAnswered(tool_call_id="call_a", found=("INC-1",)),
        h.LookupAnswered(tool_call_id="call_a", fence=3, instance="coordinator-1"),
        h.InDoubtReported(instance="coordinator-1", tool_call_id="call_a"),
    ]
    index = good(past).judge().index
    assert {type(event) for event in made} == set(_WORDS)
    lines = [line(index, event) for event in made]
    assert all(text.startswith("+0.000 ") and "\n" not in text and len(text) < 200 for text in lines)
    assert line(index, h.QuiesceStarted(budget=1.0)).split() == ["+0.000", "harness", "quiesce", "started"]
