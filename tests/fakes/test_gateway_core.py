"""The gateway's rules, without any waiting."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from fakes.gateway.call import ToolCall
from fakes.gateway.core import GatewayCore, Kind
from fakes.gateway.profile import PROFILES, Profile, profile_named
from fakes.gateway.result import Effect, Failure
from fakes.ids import Ids, payload_hash


class Clock:
    """Seconds that go on only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A core, its clock, and requests made by hand."""

    def __init__(self, profile: str | Profile) -> None:
        self.clock = Clock()
        chosen = PROFILES[profile] if isinstance(profile, str) else profile
        self.core = GatewayCore(chosen, clock=self.clock, ids=Ids(1, "gateway"))
        self.requests = 0

    def call(self, tool: str = "create_ticket", **sent: Any) -> ToolCall:
        self.requests += 1
        arguments = sent.pop("arguments", {"user_id": "U1", "reference": "C1_nonce"})
        return ToolCall(
            request_id=f"req_{self.requests}", tool=tool, arguments=arguments, payload_hash=payload_hash(arguments),
            arrived=self.clock.now, nonce=arguments.get("reference"), **sent,
        )

    def work(self, call: ToolCall) -> Effect | Failure:
        decision = self.core.begin(call)
        if decision.result is not None:
            return decision.result
        result = self.core.commit(call)
        self.core.finish(call, result)
        return result


def committed(result: Effect | Failure) -> Effect:
    assert isinstance(result, Effect), result
    return result


def refused(result: Effect | Failure | None) -> Failure:
    assert isinstance(result, Failure), result
    return result


def test_keyless_records_the_key_and_does_not_honour_it() -> None:
    """Two requests with one key are two effects, both with that key in the ledger."""
    bench = Bench("keyless")
    first, second = (committed(bench.work(bench.call(key="k", tool_call_id="call_1"))) for _ in range(2))
    assert (first.external_id, second.external_id) == ("INC-55102", "INC-55103")
    assert [effect.call.key for effect in bench.core.ledger.effects] == ["k", "k"]


def test_keyed_gives_a_repeat_the_first_answer() -> None:
    """The same key and arguments bring the very same effect back."""
    bench = Bench("keyed")
    first = bench.work(bench.call(key="k"))
    again = bench.core.begin(bench.call(key="k"))
    assert again.kind is Kind.REPLAY
    assert again.result is first
    assert len(bench.core.ledger.effects) == 1


def test_keyed_without_a_key_does_the_work_each_time() -> None:
    """A gateway that honours keys cannot help who sends none."""
    bench = Bench("keyed")
    assert bench.work(bench.call()) is not bench.work(bench.call())


def test_a_key_is_scoped_by_tool() -> None:
    """The same key at another tool is another key."""
    bench = Bench("keyed")
    bench.work(bench.call("create_ticket", key="k"))
    assert bench.core.begin(bench.call("send_email", key="k")).kind is Kind.NEW


def test_a_key_with_other_arguments_is_a_mismatch() -> None:
    """Same key, other parameters: 400, whether the first is in flight or answered."""
    bench = Bench("keyed")
    first = bench.call(key="k")
    bench.core.begin(first)
    in_flight = bench.core.begin(bench.call(key="k", arguments={"user_id": "U2"}))
    bench.core.finish(first, bench.core.commit(first))
    answered = bench.core.begin(bench.call(key="k", arguments={"user_id": "U2"}))
    for decision in (in_flight, answered):
        assert decision.kind is Kind.MISMATCH
        assert (refused(decision.result).status, refused(decision.result).code) == (400, "idempotency_mismatch")


def test_the_first_in_flight_keeps_repeats_out() -> None:
    """409 in_progress until the first one is finished, not merely committed."""
    bench = Bench("keyed")
    first = bench.call(key="k")
    bench.core.begin(first)
    result = bench.core.commit(first)
    decision = bench.core.begin(bench.call(key="k"))
    assert decision.kind is Kind.IN_PROGRESS
    assert (refused(decision.result).status, refused(decision.result).definite) == (409, False)
    bench.core.finish(first, result)
    assert bench.core.begin(bench.call(key="k")).kind is Kind.REPLAY


@pytest.mark.parametrize(("profile", "remembered", "forgotten"), [("keyed", 86400.0, 86400.5), ("keyed-short-ttl", 0.1, 0.25)])
def test_a_key_older_than_its_ttl_counts_as_new(profile: str, remembered: float, forgotten: float) -> None:
    """The TTL counts from the first request and is not prolonged by repeats."""
    bench = Bench(profile)
    bench.work(bench.call(key="k"))
    bench.clock.now += remembered
    assert bench.core.begin(bench.call(key="k")).kind is Kind.REPLAY
    bench.clock.now += forgotten - remembered
    assert bench.core.begin(bench.call(key="k")).kind is Kind.NEW


def test_a_pruned_key_is_not_stored_by_the_request_that_held_it() -> None:
    """Keys pruned in flight stay forgotten, and a new owner of the key is not overwritten by the old one."""
    bench = Bench("keyed")
    old, new = bench.call(key="k"), bench.call(key="k")
    bench.core.begin(old)
    assert bench.core.prune_keys() == 1
    assert bench.core.begin(new).kind is Kind.NEW
    bench.core.finish(old, bench.core.commit(old))
    assert bench.core.begin(bench.call(key="k")).kind is Kind.IN_PROGRESS


def test_a_failure_for_good_sticks_to_the_call() -> None:
    """Every repeat fails alike, with the same error id, under any key; another call is not touched."""
    bench = Bench("keyless")
    failure = bench.core.fail(bench.call(tool_call_id="call_1"), 422)
    assert failure is not None
    assert "ERR-" in failure.message
    assert (failure.status, failure.code, failure.definite) == (422, "tool_failed", True)
    assert bench.work(bench.call(tool_call_id="call_1", key="other")) is failure
    assert bench.core.fail(bench.call(tool_call_id="call_1"), 422) is failure
    committed(bench.work(bench.call(tool_call_id="call_2")))


def test_a_failure_for_good_goes_by_nonce_where_no_call_is_named() -> None:
    """Without tool_call_id the nonce and the tool say which call it is."""
    bench = Bench("keyless")
    failure = bench.core.fail(bench.call(), 422)
    assert bench.work(bench.call()) is failure
    committed(bench.work(bench.call("send_email")))
    committed(bench.work(bench.call(arguments={"reference": "C1_other"})))


def test_a_failure_for_good_is_replayed_under_its_key_even_as_500() -> None:
    """A tool's own 500 is an answer like any other: stored and given to repeats."""
    bench = Bench("keyed")
    failure = bench.core.fail(bench.call(key="k"), 500)
    assert bench.core.begin(bench.call(key="k")).kind is Kind.FAILED
    again = bench.core.begin(bench.call(key="k"))
    assert (again.kind, again.result) == (Kind.REPLAY, failure)


def test_a_call_with_an_effect_cannot_fail_for_good() -> None:
    """A definite error about something that was done would be a lie."""
    bench = Bench("keyless")
    bench.work(bench.call(tool_call_id="call_1"))
    assert bench.core.fail(bench.call(tool_call_id="call_1"), 422) is None


def test_a_failure_for_good_also_stops_the_request_in_flight() -> None:
    """What failed for good meanwhile is not committed by an older request."""
    bench = Bench("keyless")
    first = bench.call(tool_call_id="call_1")
    bench.core.begin(first)
    failure = bench.core.fail(bench.call(tool_call_id="call_1"), 422)
    assert bench.core.commit(first) is failure
    assert not bench.core.ledger.effects


def test_a_fence_shuts_out_lower_tokens_and_none() -> None:
    """Below the fence, or without a token: 409 and no effect; at the fence and above: work."""
    bench = Bench("fenced")
    assert bench.core.raise_fence("call_1", 5) == 5
    for fence in (None, 4):
        result = refused(bench.work(bench.call(tool_call_id="call_1", fence=fence)))
        assert (result.status, result.code, result.definite) == (409, "fenced", False)
    committed(bench.work(bench.call(tool_call_id="call_1", fence=5)))
    committed(bench.work(bench.call(tool_call_id="call_2")))


def test_a_fence_never_goes_down() -> None:
    """Raising to a lower token tells the one in force."""
    bench = Bench("fenced")
    bench.core.raise_fence("call_1", 5)
    assert bench.core.raise_fence("call_1", 3) == 5
    assert bench.core.begin(bench.call(tool_call_id="call_1", fence=4)).kind is Kind.FENCED


def test_a_fence_stops_what_is_in_flight() -> None:
    """A request that had begun before the fence was raised commits nothing."""
    bench = Bench("fenced")
    first = bench.call(tool_call_id="call_1", fence=1)
    assert bench.core.begin(first).kind is Kind.NEW
    bench.core.raise_fence("call_1", 2)
    assert refused(bench.core.commit(first)).code == "fenced"
    assert not bench.core.lookup("call_1")


def test_a_fence_and_a_look_up_know_a_call_that_only_the_key_names() -> None:
    """An Idempotency-Key that is a tool_call_id names the call."""
    bench = Bench("fenced")
    bench.work(bench.call(key="call_1"))
    assert [effect.external_id for effect in bench.core.lookup("call_1")] == ["INC-55102"]
    bench.core.raise_fence("call_1", 1)
    assert refused(bench.work(bench.call(key="call_1"))).code == "fenced"


def test_a_fenced_request_lets_its_key_go() -> None:
    """The taker-over with the same key and a higher fence does the work: nothing was stored for it to get."""
    bench = Bench(Profile(name="all", about="Everything.", honours_key=True, key_ttl=60, lookup=True, fence=True))
    first = bench.call(tool_call_id="call_1", key="k", fence=1)
    bench.core.begin(first)
    bench.core.raise_fence("call_1", 2)
    bench.core.finish(first, bench.core.commit(first))
    committed(bench.work(bench.call(tool_call_id="call_1", key="k", fence=2)))


def test_the_delivery_bound_is_kept() -> None:
    """A request that is too old when its turn comes is never committed: half of the bound is for its way to the gateway."""
    bench = Bench("lookup")
    late, punctual = bench.call(tool_call_id="late"), bench.call(tool_call_id="punctual")
    bench.clock.now += 1.5
    committed(bench.core.commit(punctual))
    bench.clock.now += 0.1
    result = refused(bench.core.commit(late))
    assert (result.status, result.code, result.definite) == (504, "expired", False)


def test_without_a_bound_a_request_lands_at_any_time() -> None:
    """The unbounded look-up profile is the one where "not found" can become false."""
    bench = Bench("lookup-unbounded")
    call = bench.call(tool_call_id="call_1")
    bench.core.begin(call)
    assert not bench.core.lookup("call_1")
    bench.clock.now += 3600
    committed(bench.core.commit(call))


def test_each_tool_has_its_result() -> None:
    """The output is JSON text that holds the external id of its kind."""
    bench = Bench("keyless")
    shapes = {
        "create_ticket": ("INC-", {"ticket_id", "status"}),
        "send_email": ("msg_", {"message_id", "status"}),
        "refund_payment": ("re_", {"refund_id", "status", "amount_cents"}),
        "unheard_of": ("eff_", {"effect_id", "status"}),
    }
    for tool, (prefix, fields) in shapes.items():
        effect = committed(bench.work(bench.call(tool, arguments={"amount_cents": 1999})))
        assert effect.external_id.startswith(prefix)
        assert effect.external_id in effect.output
        assert set(json.loads(effect.output)) == fields


def test_a_poisoned_result_is_no_json_and_still_names_its_effect() -> None:
    """Whoever parses it fails; whoever passes it on is honest."""
    bench = Bench("keyless")
    effect = committed(bench.core.commit(bench.call(), poison=True))
    assert effect.external_id in effect.output
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(effect.output)


def test_reset_forgets_everything() -> None:
    """Ledger, keys, fences and failures start again."""
    bench = Bench(dataclasses.replace(PROFILES["fenced"], honours_key=True, key_ttl=60.0))
    bench.work(bench.call(key="k", tool_call_id="call_1"))
    bench.core.fail(bench.call(tool_call_id="call_2"), 422)
    bench.core.raise_fence("call_1", 9)
    bench.core.reset()
    assert not bench.core.ledger.effects
    assert bench.core.begin(bench.call(key="k", tool_call_id="call_1")).kind is Kind.NEW
    assert bench.core.begin(bench.call(tool_call_id="call_2")).kind is Kind.NEW


def test_profiles_declare_what_they_are() -> None:
    """The named profiles carry the numbers that contracts are derived from, and a sentence each."""
    declared = {n: (p.honours_key, p.key_ttl, p.lookup, p.fence, p.delivery_bound) for n, p in PROFILES.items()}
    assert declared == {
        "keyless": (False, 0.0, False, False, None),
        "keyed": (True, 86400.0, False, False, None),
        "lookup": (False, 0.0, True, False, 3.0),
        "fenced": (False, 0.0, True, True, None),
        "keyed-short-ttl": (True, 0.2, False, False, None),
        "lookup-unbounded": (False, 0.0, True, False, None),
        "fence-only": (False, 0.0, False, True, None),
    }
    assert PROFILES["keyed-short-ttl"].key_ttl < PROFILES["keyed-short-ttl"].redelivery_window < PROFILES["keyed"].key_ttl
    assert all(profile.about.endswith(".") for profile in PROFILES.values())


def test_a_misspelt_profile_names_the_nearest() -> None:
    """The error says what was seen, what is near, and all that is known."""
    assert profile_named("keyed") is PROFILES["keyed"]
    with pytest.raises(ValueError, match="unknown gateway profile 'feced': did you mean 'fenced'"):
        profile_named("feced")
