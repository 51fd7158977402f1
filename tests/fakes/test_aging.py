"""Fakes that forget what is over: for runs that are longer than memory."""

from __future__ import annotations

from fakes.assistants.core import Core
from fakes.gateway.call import ToolCall
from fakes.gateway.core import GatewayCore
from fakes.gateway.keys import Keys
from fakes.gateway.metrics import Meter
from fakes.gateway.profile import PROFILES
from fakes.ids import Ids


def test_old_threads_are_forgotten_and_active_or_young_ones_are_not() -> None:
    now = [1000.0]
    core = Core(lambda: now[0], Ids(1))
    assistant = core.create_assistant({"model": "m"})
    old, busy = core.create_thread({}), core.create_thread({})
    core.create_run(busy.id, {"assistant_id": assistant.id})
    now[0] = 1500.0
    young = core.create_thread({})
    assert core.forget(1200.0) == [old]
    assert list(core.threads) == [busy.id, young.id]


def test_old_keys_are_forgotten_whatever_their_time_to_live() -> None:
    keys = Keys(86400)
    keys.hold(("a", "k1"), "hash", "r1", 10.0)
    keys.hold(("a", "k2"), "hash", "r2", 30.0)
    keys.forget(30.0)
    assert keys.find(("a", "k1"), 31.0) is None
    assert keys.find(("a", "k2"), 31.0) is not None


def test_old_measurements_are_forgotten() -> None:
    meter = Meter()
    for t in range(10):
        meter.answered(float(t), 500)
        meter.took(float(t), 5.0)
    meter.forget(8.0)
    assert meter.figures()["requests"] == 2


def test_old_effects_are_forgotten_and_young_ones_are_not() -> None:
    now = [1000.0]
    core = GatewayCore(PROFILES["lookup"], clock=lambda: now[0], ids=Ids(1, "gateway"))
    for number in (1, 2):
        call = ToolCall(
            request_id=f"req_{number}", tool="create_ticket", arguments={}, payload_hash="hash", arrived=now[0], nonce=f"n{number}",
            tool_call_id=f"call_{number}",
        )
        core.begin(call)
        core.finish(call, core.commit(call))
        now[0] += 100
    core.forget(1050.0)
    assert len(core.lookup("call_1")) == 0
    assert [effect.at for effect in core.lookup("call_2")] == [1100.0]
    assert len(core.ledger.effects) == 1
