"""Which call a request or an effect was for."""

from __future__ import annotations

from contracts import Index
from fakes.history import ActionRequired, Call, EffectCommitted, InDoubtReported


def _targets(past):
    return [effect.target for effect in Index(past.events).effects]


def test_an_id_names_its_call(past):
    """tool_call_id wins over everything else, the key included."""
    past.turn().run().ask("call_a", "call_b")
    past.did("call_a", key="call_b")
    (target,) = _targets(past)
    assert (target.by, target.call.tool_call_id) == ("id", "call_a")


def test_a_key_that_is_an_id_names_its_call(past):
    """Some coordinators send the tool_call_id as Idempotency-Key only."""
    past.turn().run().ask("call_a")
    past.did("call_a", named=False, nonce=False, key="call_a")
    assert _targets(past)[0].by == "key"


def test_a_nonce_names_the_intent(past):
    """With several ids of one intent the call stays open, the intent does not."""
    past.turn().run().ask("call_a").ask("call_b", generation=2)
    past.did("call_b", named=False)
    (target,) = _targets(past)
    assert (target.by, target.call) == ("nonce", None)
    assert target.intent.calls[0].tool_call_id == "call_a"


def test_time_tells_calls_apart(past):
    """A request cannot be for a call that was asked for after it."""
    past.turn().run().ask("call_a")
    past.did("call_a", named=False)
    past.ask("call_b", generation=2)
    assert _targets(past)[0].call.tool_call_id == "call_a"


def test_a_run_id_tells_calls_apart(past):
    """The same intent in two runs, and the request says which."""
    past.turn().run("run_1").ask("call_a", run="run_1").run("run_2").ask("call_b", run="run_2")
    past.did("call_b", named=False, run_sent=True)
    assert _targets(past)[0].call.tool_call_id == "call_b"


def test_a_nonce_that_two_conversations_share_is_told_apart(past):
    """Identical references in two conversations: the effect's own conversation decides."""
    for conversation in ("C1", "C2"):
        run = f"run_{conversation}"
        past.turn(f"t_{conversation}", conversation=conversation).run(run, f"t_{conversation}")
        asked = Call(tool_call_id=f"call_{conversation}", tool="x", position=0, nonce="same", payload_hash=f"h {conversation}")
        past.add(
            ActionRequired, conversation=conversation, run_id=run, thread_id="t", step_id="s", ordinal=0, generation=1,
            calls=(asked,), turn_id=f"t_{conversation}",
        )
    effect = {"effect_id": "e", "tool": "x", "payload_hash": "?", "nonce": "same"}
    past.add(EffectCommitted, **effect, request_id="req_1", external_id="eff_1", conversation="C2")
    past.add(EffectCommitted, **effect, request_id="req_2", external_id="eff_2", conversation="C9")
    first, second = _targets(past)
    assert first.call.tool_call_id == "call_C2"
    assert second.by == "nothing"


def test_arguments_name_a_call_within_the_conversation(past):
    """A production log without references: payload hash and conversation."""
    past.turn().run().ask("call_a", nonce=False)
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2", nonce=False, payload="p")
    past.did("call_a", named=False, nonce=False)
    past.did("call_b", named=False, nonce=False, conversation=False)
    assert [(t.by, t.call.tool_call_id) for t in _targets(past)] == [("payload", "call_a"), ("payload", "call_b")]


def test_the_same_arguments_in_another_conversation_name_nothing(past):
    """What fits only elsewhere does not fit."""
    past.turn().run().ask("call_a", nonce=False)
    past.turn("t2", conversation="C2").run("run_2", "t2").ask("call_b", run="run_2", tool="create_ticket", nonce=False)
    past.did("call_b", named=False, nonce=False, payload="hash of create_ticket C1_t100")
    assert _targets(past)[0].by == "nothing"


def test_the_same_wish_twice_in_a_conversation_is_a_family(past):
    """Without references two turns that ask for the same cannot be told apart but by time."""
    past.turn("t1").run("run_1", "t1").ask("call_a", run="run_1", nonce=False, payload="p")
    past.turn("t2").run("run_2", "t2").ask("call_b", run="run_2", nonce=False, payload="p")
    past.did("call_b", named=False, nonce=False)
    (target,) = _targets(past)
    assert (target.intent, len(target.family.intents)) == (None, 2)


def test_an_effect_without_its_request_is_attributed_by_itself(past):
    """An audit log knows effects only."""
    past.turn().run().ask("call_a")
    past.add(
        EffectCommitted, request_id="req_9", effect_id="e", external_id="INC-1", tool="create_ticket", payload_hash="?",
        tool_call_id="call_a",
    )
    assert _targets(past)[0].call.tool_call_id == "call_a"


def test_the_loose_effects_of_a_family_go_where_they_are_quoted(past):
    """Of two identical calls the one that quotes the effect gets it."""
    past.turn().run().ask("call_a", "call_b", alike=True)
    made = past.did("call_a", named=False)
    past.submit({"call_a": "failed", "call_b": made})
    first, second = Index(past.events).intents
    assert (first.effects, [e.external_id for e in second.effects]) == ([], [made])


def test_a_report_in_doubt_of_an_unknown_call_is_left_alone(past):
    """It names no call of this history."""
    past.turn().run().ask("call_a").add(InDoubtReported, instance="coordinator-1", tool_call_id="call_elsewhere")
    assert not Index(past.events).calls["call_a"].in_doubt


def test_events_are_found_by_number_with_and_without_gaps(past, good):
    """A log from elsewhere may lack numbers."""
    good(past)
    index = Index(past.events)
    assert index.event(3) is past.events[2]
    assert index.event(999) is None
    gaps = Index(past.events[1::2])
    assert gaps.event(2) is past.events[1]
    assert gaps.event(3) is None
