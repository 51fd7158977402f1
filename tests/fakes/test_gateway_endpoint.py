"""The gateway's operations as a coordinator and an operator see them, on a calm day."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fakes.exchange import Reply, Request
from fakes.faults import NoFaults
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.gateway.profile import PROFILES
from fakes.history import EffectCommitted, History, LookupAnswered, ToolReplied, ToolRequested, of_kind
from fakes.ids import Ids, payload_hash

START = 1_773_310_302.018  # 2026-03-12T10:11:42.018Z
ARGUMENTS = {"user_id": "U19384", "conversation_id": "C8821", "subject": "Broken", "reference": "C8821_abc"}
IDS = {"thread_id": "thread_1", "run_id": "run_1", "step_id": "step_1", "tool_call_id": "call_1"}


class World:
    """A gateway endpoint with nothing around it: hand-made clock, no latency, no faults."""

    def __init__(self, profile: str = "keyless", **options: Any) -> None:
        self.now = START
        self.history = History(clock=self.clock)
        self.audit: list[str] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.endpoint = GatewayEndpoint(
            GatewayCore(PROFILES[profile], clock=self.clock, ids=Ids(1, "gateway")), self.history, NoFaults(),
            post=self.post, log=self.audit.append, admin_token="secret", clock=self.clock, seed=1,
            **{"latency": (0.0, 0.0), **options},
        )

    def clock(self) -> float:
        return self.now

    async def post(self, url: str, body: dict[str, Any]) -> int:
        self.posted.append((url, body))
        return 200

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        path, _, query = path.partition("?")
        return await self.endpoint.handle(
            Request(
                method, path,
                query=dict(pair.split("=") for pair in query.split("&") if pair),
                headers={name.replace("_", "-"): value for name, value in headers.items()},
                body=body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode(),
                instance="coordinator-1",
            )
        )

    async def call(self, tool: str = "create_ticket", *, key: str | None = None, **fields: Any) -> Reply:
        headers = {} if key is None else {"idempotency_key": key}
        return await self.ask("POST", f"/tools/{tool}", {"arguments": ARGUMENTS, **IDS, **fields}, **headers)


def run(scenario: Callable[[World], Awaitable[None]], profile: str = "keyless", **options: Any) -> World:
    """Play a scenario in a fresh world and close it."""
    world = World(profile, **options)

    async def play() -> None:
        try:
            await scenario(world)
        finally:
            await world.endpoint.aclose()

    asyncio.run(play())
    return world


def data(reply: Reply) -> Any:
    return json.loads(reply.body)


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, data(reply)["error"]["code"]


# --- calling a tool ---


def test_a_synchronous_call_brings_its_result() -> None:
    """200 with the output, the external id and the ids that were sent."""

    async def scenario(world: World) -> None:
        reply = await world.call()
        assert reply.status == 200
        body = data(reply)
        assert (body["tool_call_id"], body["external_id"]) == ("call_1", "INC-55102")
        assert json.loads(body["output"]) == {"ticket_id": "INC-55102", "status": "created"}
        assert body["effect_id"].startswith("eff_")

    run(scenario)


def test_the_history_tells_what_was_sent_and_what_became_of_it() -> None:
    """Requested, committed, replied: in this order, with one request id and every id that was sent."""

    async def scenario(world: World) -> None:
        await world.call(key="k", fence=3)

    history = run(scenario).history
    requested, committed, replied = history.events
    assert isinstance(requested, ToolRequested)
    assert isinstance(committed, EffectCommitted)
    assert isinstance(replied, ToolReplied)
    assert requested.request_id == committed.request_id == replied.request_id
    assert {e.conversation for e in history.events} == {"C8821"}
    assert (requested.tool_call_id, requested.run_id, requested.thread_id, requested.step_id) == (
        "call_1", "run_1", "thread_1", "step_1")
    assert (requested.key, requested.fence, requested.nonce, requested.instance, requested.asynchronous) == (
        "k", 3, "C8821_abc", "coordinator-1", False)
    assert requested.payload_hash == committed.payload_hash == payload_hash(ARGUMENTS)
    assert (committed.external_id, committed.key, committed.run_id) == ("INC-55102", "k", "run_1")
    assert (replied.http_status, replied.delivered, replied.external_id, replied.error, replied.replayed) == (
        200, True, "INC-55102", None, False)


def test_a_call_is_named_by_a_header_too_and_the_body_goes_first() -> None:
    """x-tool-call-id names the call where the body does not."""

    async def scenario(world: World) -> None:
        body = {"arguments": ARGUMENTS}
        assert data(await world.ask("POST", "/tools/x", body, x_tool_call_id="call_h"))["tool_call_id"] == "call_h"
        both = {**body, "tool_call_id": "call_b"}
        assert data(await world.ask("POST", "/tools/x", both, x_tool_call_id="call_h"))["tool_call_id"] == "call_b"
        assert data(await world.ask("POST", "/tools/x", body))["tool_call_id"] is None

    run(scenario)


def test_the_conversation_comes_from_the_nonce_where_it_is_not_said() -> None:
    """arguments.conversation_id, else what the nonce was made for, else unknown."""

    async def scenario(world: World) -> None:
        for arguments in ({"conversation_id": "C1", "reference": "C2_n"}, {"reference": "C2_n"}, {"reference": 7}, {}):
            await world.ask("POST", "/tools/x", {"arguments": arguments})

    requested = of_kind(run(scenario).history.events, ToolRequested)
    assert [(e.conversation, e.nonce) for e in requested] == [("C1", "C2_n"), ("C2", "C2_n"), (None, None), (None, None)]


def test_a_replay_is_marked() -> None:
    """The stored answer comes back with its header, and the history says that it is a replay."""

    async def scenario(world: World) -> None:
        first, again = await world.call(key="k"), await world.call(key="k")
        assert first.body == again.body
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert error(await world.call(key="k", arguments={})) == (400, "idempotency_mismatch")

    replied = list(of_kind(run(scenario, "keyed").history.events, ToolReplied))
    assert [(e.replayed, e.http_status, e.definite) for e in replied] == [
        (False, 200, False), (True, 200, False), (False, 400, True)]


def test_a_repeat_of_what_is_in_flight_is_told_to_wait() -> None:
    """409 while the first works; afterwards the repeat gets its answer."""

    async def scenario(world: World) -> None:
        first = asyncio.create_task(world.call(key="k"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert error(await world.call(key="k")) == (409, "in_progress")
        assert data(await first) == data(await world.call(key="k"))

    run(scenario, "keyed", latency=(0.3, 0.3))


def test_the_same_seed_gives_the_same_history() -> None:
    """Ids are fresh for every request, and the same again in a second world of the same seed."""

    async def scenario(world: World) -> None:
        for tool in ("send_email", "refund_payment", "send_email"):
            await world.call(tool)

    first, second = run(scenario).history.events, run(scenario).history.events
    assert first == second
    assert len({e.external_id for e in of_kind(first, EffectCommitted)}) == 3


def test_a_client_that_goes_away_does_not_undo_the_work() -> None:
    """The work runs in a task of its own: a cancelled request still commits, and its key still stores."""

    async def scenario(world: World) -> None:
        task = asyncio.create_task(world.call(key="k"))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not world.audit
        while not world.audit:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        assert (await world.call(key="k")).headers["idempotent-replayed"] == "true"

    run(scenario, "keyed", latency=(0.3, 0.3))


# --- audit and metrics ---


def test_the_audit_line_has_the_shape_of_a_production_log() -> None:
    """One line per effect: time stamp, action, ids, shortened hash, external id, status, latency."""

    async def scenario(world: World) -> None:
        await world.call()
        await world.call("send_email", arguments={"user_id": "U 1\nx=y", "conversation_id": 5})

    lines = run(scenario).audit
    hashed = payload_hash(ARGUMENTS)
    assert lines[0] == (
        "2026-03-12T10:11:42.018Z tool-gw AUDIT action=create_ticket user_id=U19384 conversation_id=C8821 "
        f"payload_hash={hashed[:4]}...{hashed[-3:]} external_ticket_id=INC-55102 http_status=201 latency_ms=0"
    )
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z tool-gw AUDIT action=\w+ user_id=\S+ conversation_id=\S+ "
        r"payload_hash=[0-9a-f]{4}\.\.\.[0-9a-f]{3} external_ticket_id=\S+ http_status=201 latency_ms=\d+"
    )
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert "user_id=U_1_x_y conversation_id=- " in lines[1]


def test_metrics_compare_two_windows() -> None:
    """A mark of the clock parts a baseline from an incident."""

    async def scenario(world: World) -> None:
        for _ in range(3):
            await world.call(key="k")
        world.now += 60
        await world.call(key="k", arguments={})
        mark = START + 60
        assert world.endpoint.metrics(until_t=mark) == {
            "tool_gw.http_5xx_rate": 0.0, "tool_gw.p95_latency_ms": 0.0, "requests": 3, "effects": 1}
        assert (world.endpoint.metrics(since_t=mark)["requests"], world.endpoint.metrics()["requests"]) == (1, 4)

    run(scenario, "keyed")


def test_metrics_are_served_in_prometheus_text() -> None:
    """The two figures of the incident's snapshot, and counters of requests and effects."""

    async def scenario(world: World) -> None:
        await world.call()
        reply = await world.ask("GET", "/metrics")
        assert reply.media_type.startswith("text/plain")
        text = reply.body.decode()
        for line in (
            "tool_gw_http_5xx_rate 0.0", "tool_gw_p95_latency_ms 0.0",
            'tool_gw_requests_total{http_status="200"} 1.0', 'tool_gw_effects_total{tool="create_ticket"} 1.0',
        ):
            assert line in text.splitlines()

    run(scenario)


# --- look-up, fences, capabilities, admin ---


@pytest.mark.parametrize(("profile", "status"), [("keyless", 404), ("keyed", 404), ("lookup", 200), ("fenced", 200)])
def test_effects_can_be_looked_up_where_the_profile_offers_it(profile: str, status: int) -> None:
    """A look-up finds exactly the named call's effects; elsewhere it is 404 no_lookup."""

    async def scenario(world: World) -> None:
        await world.call()
        await world.call(tool_call_id="call_2")
        reply = await world.ask("GET", "/effects?tool_call_id=call_1")
        assert reply.status == status
        if status == 404:
            assert error(reply) == (404, "no_lookup")
            return
        (effect,) = data(reply)["effects"]
        assert (effect["external_id"], effect["tool"], effect["tool_call_id"], effect["run_id"]) == (
            "INC-55102", "create_ticket", "call_1", "run_1")
        assert effect["external_id"] in effect["output"]
        assert data(await world.ask("GET", "/effects?tool_call_id=nobody"))["effects"] == []
        assert error(await world.ask("GET", "/effects")) == (400, "invalid_request")

    looked = list(of_kind(run(scenario, profile).history.events, LookupAnswered))
    found = [] if status == 404 else [("call_1", ("INC-55102",), "coordinator-1"), ("nobody", (), "coordinator-1")]
    assert [(e.tool_call_id, e.found, e.instance) for e in looked] == found


@pytest.mark.parametrize("profile", ["keyless", "lookup"])
def test_the_admin_token_opens_the_whole_ledger(profile: str) -> None:
    """With the token every effect is told, in every profile, and nothing is recorded; a wrong token opens nothing."""

    async def scenario(world: World) -> None:
        await world.call()
        await world.call("send_email", tool_call_id="call_2")
        everything = data(await world.ask("GET", "/effects", authorization="Bearer secret"))["effects"]
        assert [effect["tool"] for effect in everything] == ["create_ticket", "send_email"]
        one = data(await world.ask("GET", "/effects?tool_call_id=call_2", authorization="Bearer secret"))["effects"]
        assert one == everything[1:]
        assert (await world.ask("GET", "/effects", authorization="Bearer wrong")).status in (400, 404)

    assert not list(of_kind(run(scenario, profile).history.events, LookupAnswered))


def test_a_fence_is_raised_and_kept() -> None:
    """PUT /fences answers the fence in force; requests below it get 409 fenced."""

    async def scenario(world: World) -> None:
        assert data(await world.ask("PUT", "/fences/call_1", {"fence": 5})) == {"tool_call_id": "call_1", "fence": 5}
        assert data(await world.ask("PUT", "/fences/call_1", {"fence": 2}))["fence"] == 5
        assert error(await world.call(fence=4)) == (409, "fenced")
        assert error(await world.call()) == (409, "fenced")
        assert (await world.call(fence=5)).status == 200
        for bad in ({"fence": "5"}, {"fence": True}, {}, b"["):
            assert error(await world.ask("PUT", "/fences/call_1", bad)) == (400, "invalid_request")

    events = run(scenario, "fenced").history.events
    assert [(e.tool_call_id, e.fence, e.found) for e in of_kind(events, LookupAnswered)] == [
        ("call_1", 5, ()), ("call_1", 5, ())]


def test_profiles_without_fences_say_so() -> None:
    """404 no_fence."""

    async def scenario(world: World) -> None:
        assert error(await world.ask("PUT", "/fences/call_1", {"fence": 5})) == (404, "no_fence")

    run(scenario, "lookup")


def test_a_fence_stops_a_request_that_is_already_at_work() -> None:
    """Raised while the tool works: the older request answers 409 and commits nothing."""

    async def scenario(world: World) -> None:
        task = asyncio.create_task(world.call(fence=1))
        await asyncio.sleep(0.005)
        await world.ask("PUT", "/fences/call_1", {"fence": 2})
        assert error(await task) == (409, "fenced")
        assert data(await world.ask("GET", "/effects?tool_call_id=call_1"))["effects"] == []

    assert not run(scenario, "fenced", latency=(0.3, 0.3)).audit


def test_capabilities_tell_the_profile() -> None:
    """What a coordinator may rely on, in the words of the profile."""

    async def scenario(world: World) -> None:
        assert data(await world.ask("GET", "/capabilities")) == {
            "profile": "lookup", "idempotency_key": False, "key_ttl": 0.0, "lookup": True, "fence": False,
            "delivery_bound": 3.0,
        }

    run(scenario, "lookup")


def test_reset_starts_again_and_keeps_the_history() -> None:
    """No effect is left, tickets count anew, what was recorded stays."""

    async def scenario(world: World) -> None:
        await world.call()
        world.endpoint.reset()
        assert world.endpoint.metrics()["requests"] == 0
        assert data(await world.call())["external_id"] == "INC-55102"
        assert world.endpoint.metrics()["effects"] == 1

    assert len(list(of_kind(run(scenario).history.events, EffectCommitted))) == 2


# --- bad input ---


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, ""),
        (b"[]", "must be a JSON object"),
        (b"", "arguments is missing"),
        ({"arguments": '{"a": 1}'}, "parse function.arguments"),
        ({"arguments": None}, "must be a JSON object, not null"),
        ({"arguments": []}, "must be a JSON object, not an array"),
        ({"arguments": {}, "tool_call_id": 7}, "tool_call_id must be a string, not a number: 7"),
        ({"arguments": {}, "run_id": {"a": []}}, "run_id must be a string, not an object"),
        ({"arguments": {}, "fence": "2"}, 'fence must be a whole number, not a string: "2"'),
        ({"arguments": {}, "fence": True}, "fence must be a whole number"),
        ({"arguments": {}, "fence": 1.5}, "fence must be a whole number"),
        ({"arguments": {}, "callback_url": "ftp://x/y"}, "http(s) URL"),
        ({"arguments": {}, "callback_url": "http://"}, "http(s) URL"),
        ({"arguments": {}, "callback_url": "http://x:99999/"}, "http(s) URL"),
        ({"arguments": {}, "callback_url": ["http://x"]}, "callback_url must be a string"),
        ({"arguments": {"a": "\ud800"}}, ""),
    ],
)
def test_a_malformed_request_is_400_and_commits_nothing(body: Any, words: str) -> None:
    """The error says what was seen and expected, and the history holds the refused request."""

    async def scenario(world: World) -> None:
        reply = await world.ask("POST", "/tools/create_ticket", body)
        assert error(reply) == (400, "invalid_request")
        assert words in data(reply)["error"]["message"]

    world = run(scenario)
    assert not world.audit
    assert [e.kind for e in world.history.events] == ["tool_requested", "tool_replied"]


def test_unknown_fields_and_parameters_are_welcome() -> None:
    """What the gateway does not know is not its business; null and empty ids count as not sent."""

    async def scenario(world: World) -> None:
        body: dict[str, Any] = {"arguments": {}, "colour": "red", "run_id": None, "tool_call_id": "", "callback_url": ""}
        reply = await world.ask("POST", "/tools/x?api-version=1", body, x_other="y")
        assert (reply.status, data(reply)["tool_call_id"]) == (200, None)

    run(scenario)


@pytest.mark.parametrize(
    "path", ["/tools/create ticket", "/tools/", "/tools", "/tools/a/b", f"/tools/{'x' * 65}", "/tools/a%2Fb"]
)
def test_an_invalid_name_is_no_tool(path: str) -> None:
    """404, on record, since the error is a definite one."""

    async def scenario(world: World) -> None:
        assert error(await world.ask("POST", path, {"arguments": ARGUMENTS})) == (404, "unknown_tool")

    (replied,) = of_kind(run(scenario).history.events, ToolReplied)
    assert (replied.http_status, replied.definite) == (404, True)


def test_a_misspelt_tool_names_the_nearest() -> None:
    """With a list of tools, only these exist; without one, only the form of the name counts."""

    async def listed(world: World) -> None:
        reply = await world.call("creat_ticket")
        assert error(reply) == (404, "unknown_tool")
        assert "did you mean 'create_ticket'" in data(reply)["error"]["message"]
        assert (await world.call("create_ticket")).status == 200

    async def unlisted(world: World) -> None:
        assert (await world.call("creat_ticket")).status == 200
        assert "did you mean 'send_email'" in data(await world.call("send email"))["error"]["message"]

    run(listed, tools=["create_ticket", "send_email"])
    run(unlisted)


def test_unknown_paths_and_methods_are_told_apart() -> None:
    """404 names the nearest path, 405 the methods that fit."""

    async def scenario(world: World) -> None:
        reply = await world.ask("POST", "/tool/create_ticket", {})
        assert error(reply) == (404, "not_found")
        assert "/tools/{name}" in data(reply)["error"]["message"]
        reply = await world.ask("GET", "/tools/create_ticket")
        assert error(reply) == (405, "method_not_allowed")
        assert reply.headers["allow"] == "POST"

    assert not run(scenario).history.events
