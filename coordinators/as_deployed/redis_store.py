"""The store of the deployed design as a Redis server; what each method does is said in `store.Store`.

Keys, after the prefix: `step:RUN` is the latest step, `queue:RUN` and `state:RUN` hold what is queued by its place in the
queue, and `dedup:KEY` is a dedup record, which expires.
"""

from __future__ import annotations

import json

from coordinators.as_deployed.store import DEDUP_TTL, Batch, Store
from coordinators.common.gateway import ToolResult
from coordinators.common.redis import RedisClient
from coordinators.common.stores import Address

_SCRIPTS = {
    "enqueue": """
        local row = redis.call('INCR', KEYS[1] .. 'rows')
        redis.call('HSET', KEYS[1] .. 'queue:' .. ARGV[1], row, cjson.encode({ARGV[2], ARGV[3]}))
        redis.call('HSET', KEYS[1] .. 'state:' .. ARGV[1], row, 'queued')
    """,
    "take_batch": """
        local step = redis.call('HMGET', KEYS[1] .. 'step:' .. ARGV[1], 'thread_id', 'step_id', 'call_ids')
        if not step[1] then return false end
        local latest, rows, outputs = {}, {}, {}
        local states = redis.call('HGETALL', KEYS[1] .. 'state:' .. ARGV[1])
        for i = 1, #states, 2 do
            local row = tonumber(states[i])
            if states[i + 1] == 'queued' then
                local result = cjson.decode(redis.call('HGET', KEYS[1] .. 'queue:' .. ARGV[1], row))
                if not latest[result[1]] or latest[result[1]][1] < row then latest[result[1]] = {row, result[2]} end
            end
        end
        for _, id in ipairs(cjson.decode(step[3])) do
            if not latest[id] then return false end
            table.insert(rows, latest[id][1])
            table.insert(outputs, {id, latest[id][2]})
        end
        for _, row in ipairs(rows) do redis.call('HSET', KEYS[1] .. 'state:' .. ARGV[1], row, 'taken') end
        return {step[1], step[2], outputs, rows}
    """,
    "submitted": """
        local found = {}
        local states = redis.call('HGETALL', KEYS[1] .. 'state:' .. ARGV[1])
        for i = 1, #states, 2 do
            if states[i + 1] == 'submitted' then
                table.insert(found, cjson.decode(redis.call('HGET', KEYS[1] .. 'queue:' .. ARGV[1], states[i]))[1])
            end
        end
        return found
    """,
}


class RedisStore(Store):
    """The store in a server."""

    def __init__(self, address: Address) -> None:
        self._db = RedisClient(address, _SCRIPTS)

    async def close(self) -> None:
        await self._db.close()

    async def set_latest_step(self, thread_id: str, run_id: str, step_id: str, call_ids: tuple[str, ...]) -> None:
        calls = json.dumps(call_ids)
        await self._db.write(
            "HSET", f"{self._db.prefix}step:{run_id}", "thread_id", thread_id, "step_id", step_id, "call_ids", calls
        )

    async def enqueue(self, result: ToolResult) -> None:
        await self._db.run("enqueue", result.run_id, result.tool_call_id, result.output)

    async def take_batch(self, run_id: str) -> Batch | None:
        taken = await self._db.run("take_batch", run_id)
        if not taken:
            return None
        thread_id, step_id, outputs, rows = taken
        return Batch(thread_id, run_id, step_id, tuple((call, output) for call, output in outputs), tuple(rows))

    async def put_back(self, batch: Batch) -> None:
        await self._mark(batch, "queued")

    async def mark_submitted(self, batch: Batch) -> None:
        await self._mark(batch, "submitted")

    async def submitted(self, run_id: str) -> frozenset[str]:
        return frozenset(await self._db.run("submitted", run_id))

    async def seen_before(self, key: str, now: float) -> bool:
        made = await self._db.write("SET", f"{self._db.prefix}dedup:{key}", 1, "NX", "EX", int(DEDUP_TTL))
        return not made

    async def _mark(self, batch: Batch, state: str) -> None:
        marks = [word for row in batch.rows for word in (row, state)]
        await self._db.write("HSET", f"{self._db.prefix}state:{batch.run_id}", *marks)
