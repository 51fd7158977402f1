"""What the hardened coordinator asks of a Redis on the way of a call: one command is one round trip."""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis

from coordinators.common.assistants import ToolCall
from coordinators.common.stores import Address
from coordinators.hardened.records import Asked, Turn
from coordinators.hardened.redis_store import RedisStore


def test_a_claim_and_a_result_are_one_round_trip_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the claim is new or somebody's, once the server knows the script."""
    client = fakeredis.FakeAsyncRedis(decode_responses=True)
    monkeypatch.setattr(Redis, "from_url", lambda url, **more: client)
    words: list[str] = []
    execute = client.execute_command

    async def counted(*asked: Any, **more: Any) -> Any:
        words.append(str(asked[0]))
        return await execute(*asked, **more)

    monkeypatch.setattr(client, "execute_command", counted)

    def asked(number: int) -> Asked:
        call = ToolCall(id=f"call_{number}", name="create_ticket", arguments="{}")
        return Asked(thread_id="thread_1", run_id="run_1", step_id="step_1", ordinal=0, position=number, call=call)

    async def story() -> None:
        store = RedisStore(Address("redis://redis:6379/0"))
        owner = await store.register("coordinator-1")
        turn = await store.accept(Turn(turn_id="turn_1", conversation_id="C1", user_id="U1", message="Help"), owner)
        assert turn is not None
        await store.claim(turn, asked(0), 0.0, "first")
        await store.settle(asked(0).slot, "done")
        words.clear()
        claims = [await store.claim(turn, asked(1), 0.0, name) for name in ("first", "second")]
        assert [fresh for _, fresh in claims] == [True, False]
        await store.settle(asked(1).slot, "done")
        assert words == ["EVALSHA"] * 3
        await store.close()

    asyncio.run(story())
