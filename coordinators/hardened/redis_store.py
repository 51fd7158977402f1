"""The hardened coordinator's store as a Redis server; what each method does is said in `store.Store`.

A change is one script, which the server runs whole and alone, in one round trip. Keys, after the prefix: `turn:ID` and
`claim:SLOT` are hashes, in which a field that is not there is None; `held:OWNER` is the set of running turns of an owner
(`held:` of nobody), `owners` the owners of such turns, `beats` and `lives` count, `calls:RUN:CALL` is the set of claims that a
posted result is for, `doubts` the set of claims in doubt, `accepted:RUN` that of accepted steps. Nothing expires: a claim
that is forgotten is a call that is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinators.common.redis import RedisClient, Words, pairs
from coordinators.common.stores import Address
from coordinators.hardened.records import Asked, Claim, Turn, TurnLost
from coordinators.hardened.store import Store

_LIBRARY = """
local P = KEYS[1]
local call = redis.call
local function turn_key(id) return P .. 'turn:' .. id end
local function claim_key(slot) return P .. 'claim:' .. slot end
local function held_key(owner) return P .. 'held:' .. owner end
local function move(id, owner)
    call('SREM', held_key(call('HGET', turn_key(id), 'owner') or ''), id)
    call('HSET', turn_key(id), 'owner', owner)
    call('SADD', held_key(owner), id)
    call('SADD', P .. 'owners', owner)
end
local function take(id, owner)
    move(id, owner)
    call('HINCRBY', turn_key(id), 'epoch', 1)
    return call('HGETALL', turn_key(id))
end
local function is_running(id, owner)
    local seen = call('HMGET', turn_key(id), 'owner', 'status')
    return seen[1] == owner and seen[2] == 'running'
end
"""
_OWNED = """
local function owned(id, owner, epoch)
    return is_running(id, owner) and call('HGET', turn_key(id), 'epoch') == epoch
end
"""
_SCRIPTS = {
    "register": """
        local owner = ARGV[1] .. '#' .. call('HINCRBY', P .. 'lives', ARGV[1], 1)
        call('HSET', P .. 'beats', owner, 0)
        return owner
    """,
    "beats": """
        local found = {}
        for _, owner in ipairs(call('SMEMBERS', P .. 'owners')) do
            if call('SCARD', held_key(owner)) == 0 then
                call('SREM', P .. 'owners', owner)
            else
                table.insert(found, {owner, call('HGET', P .. 'beats', owner)})
            end
        end
        return found
    """,
    "release": """
        for _, id in ipairs(call('SMEMBERS', held_key(ARGV[1]))) do move(id, '') end
        call('HDEL', P .. 'beats', ARGV[1])
    """,
    "accept": """
        local owner, id = ARGV[1], ARGV[2]
        if call('EXISTS', turn_key(id)) == 0 then
            call('HSET', turn_key(id), 'epoch', 0, 'status', 'running', unpack(ARGV, 3))
            return take(id, owner)
        end
        return is_running(id, '') and take(id, owner)
    """,
    "take_over": """
        local taken = {}
        for _, id in ipairs(call('SMEMBERS', held_key(ARGV[1]))) do table.insert(taken, take(id, ARGV[2])) end
        return taken
    """,
    "retake": "return is_running(ARGV[1], ARGV[2]) and take(ARGV[1], ARGV[2])",
    "check_owner": "return owned(ARGV[1], ARGV[2], ARGV[3])",
    "change": """
        if not owned(ARGV[1], ARGV[2], ARGV[3]) then return false end
        call('HSET', turn_key(ARGV[1]), unpack(ARGV, 4))
        if call('HGET', turn_key(ARGV[1]), 'status') ~= 'running' then
            call('SREM', held_key(call('HGET', turn_key(ARGV[1]), 'owner')), ARGV[1])
        end
        return true
    """,
    "claim": """
        if not owned(ARGV[1], ARGV[2], ARGV[3]) then return false end
        local slot, run_id, call_id = ARGV[4], ARGV[5], ARGV[6]
        if call('EXISTS', claim_key(slot)) == 0 then
            call('HSET', claim_key(slot), 'slot', slot, 'run_id', run_id, 'tool_call_id', call_id, unpack(ARGV, 7))
            call('SADD', P .. 'calls:' .. run_id .. ':' .. call_id, slot)
        end
        return call('HGETALL', claim_key(slot))
    """,
    "log_intent": """
        if not owned(ARGV[1], ARGV[2], ARGV[3]) or call('EXISTS', claim_key(ARGV[4])) == 0 then return false end
        call('HSET', claim_key(ARGV[4]), 'waited', 0)
        return call('HINCRBY', claim_key(ARGV[4]), 'attempt', 1)
    """,
    "add_wait": """
        if owned(ARGV[1], ARGV[2], ARGV[3]) and call('HGET', claim_key(ARGV[4]), 'attempt') == ARGV[5] then
            call('HINCRBYFLOAT', claim_key(ARGV[4]), 'waited', ARGV[6])
        end
    """,
    "settle": "if call('EXISTS', claim_key(ARGV[1])) == 1 then call('HSETNX', claim_key(ARGV[1]), 'output', ARGV[2]) end",
    "settle_call": """
        local first = false
        for _, slot in ipairs(call('SMEMBERS', P .. 'calls:' .. ARGV[1] .. ':' .. ARGV[2])) do
            if ARGV[3] == '' or call('HGET', claim_key(slot), 'thread_id') == ARGV[3] then
                call('HSETNX', claim_key(slot), 'output', ARGV[4])
                first = first or slot
            end
        end
        return first
    """,
    "put_in_doubt": """
        if call('EXISTS', claim_key(ARGV[1])) == 1 and call('HEXISTS', claim_key(ARGV[1]), 'output') == 0 then
            call('HSET', claim_key(ARGV[1]), 'in_doubt', 1)
            call('SADD', P .. 'doubts', ARGV[1])
        end
    """,
    "outcomes": """
        local found = {}
        for _, slot in ipairs(ARGV) do
            local claim = call('HMGET', claim_key(slot), 'output', 'in_doubt')
            if claim[1] or claim[2] == '1' then table.insert(found, {slot, claim[1]}) end
        end
        return found
    """,
    "freeze": """
        if not owned(ARGV[1], ARGV[2], ARGV[3]) then return false end
        local frozen, stored = {}, 0
        for i = 4, #ARGV, 2 do
            if call('EXISTS', claim_key(ARGV[i])) == 1 then
                stored = stored + call('HSETNX', claim_key(ARGV[i]), 'submitted', ARGV[i + 1])
                table.insert(frozen, {ARGV[i], call('HGET', claim_key(ARGV[i]), 'submitted')})
            end
        end
        return {stored, frozen}
    """,
    "in_doubt": """
        local found = {}
        for _, slot in ipairs(call('SMEMBERS', P .. 'doubts')) do
            table.insert(found, {slot, call('HMGET', claim_key(slot), 'tool_call_id', 'run_id', 'thread_id', 'tool')})
        end
        return found
    """,
}


class RedisStore(Store):
    """The store in a server."""

    owned_lua = _OWNED
    """The fence of every change made for a turn: a function of the turn's id, and its owner and epoch as they are shown."""

    def __init__(self, address: Address) -> None:
        library = _LIBRARY + self.owned_lua
        self._db = RedisClient(address, {name: library + body for name, body in _SCRIPTS.items()})

    async def close(self) -> None:
        await self._db.close()

    @property
    def healthy(self) -> bool:
        return self._db.healthy

    # --- owners -------------------------------------------------------------------------------------------------------

    async def register(self, instance_id: str) -> str:
        owner: str = await self._db.run("register", instance_id)
        return owner

    async def beat(self, owner: str) -> None:
        await self._db.write("HINCRBY", self._key("beats"), owner, 1)

    async def beats(self) -> dict[str | None, int | None]:
        return {owner or None: None if beat is None else int(beat) for owner, beat in await self._db.run("beats")}

    async def release(self, owner: str) -> None:
        await self._db.run("release", owner)

    # --- turns --------------------------------------------------------------------------------------------------------

    async def accept(self, turn: Turn, owner: str) -> Turn | None:
        fields = {"conversation_id": turn.conversation_id, "user_id": turn.user_id, "message": turn.message}
        return _turn(
            await self._db.run(
                "accept", owner, turn.turn_id, *_flat({"turn_id": turn.turn_id, **fields, "thread_id": turn.thread_id})
            )
        )

    async def take_over(self, former: str | None, owner: str) -> list[Turn]:
        taken = [_turn(fields) for fields in await self._db.run("take_over", former or "", owner)]
        return [turn for turn in taken if turn is not None]

    async def owned_by(self, owner: str) -> frozenset[str]:
        return frozenset(await self._db.read("SMEMBERS", self._key("held", owner)))

    async def retake(self, turn_id: str, owner: str) -> Turn | None:
        return _turn(await self._db.run("retake", turn_id, owner))

    async def turn(self, turn_id: str) -> Turn | None:
        return _turn(await self._db.read("HGETALL", self._key("turn", turn_id)))

    async def check_owner(self, turn: Turn) -> None:
        if not await self._db.run("check_owner", *_show(turn)):
            raise TurnLost(turn.turn_id)

    async def change(self, turn: Turn, **fields: str | None) -> None:
        if not await self._db.run("change", *_show(turn), *_flat(fields)):
            raise TurnLost(turn.turn_id)

    # --- claims -------------------------------------------------------------------------------------------------------

    async def claim(self, turn: Turn, asked: Asked, now: float, claimant: str) -> tuple[Claim, bool]:
        fields: dict[str, Words] = {
            "thread_id": asked.thread_id, "step_id": asked.step_id, "ordinal": asked.ordinal, "position": asked.position,
            "tool": asked.call.name, "arguments": asked.call.arguments, "attempt": 1, "first_sent": repr(now),
            "claimant": claimant,
        }
        made = await self._db.run("claim", *_show(turn), asked.slot, asked.run_id, asked.call.id, *_flat(fields))
        if not made:
            raise TurnLost(turn.turn_id)
        claim = _claim(pairs(made))
        return claim, claim.is_new_to(claimant)

    async def find_claim(self, slot: str) -> Claim | None:
        found = await self._db.read("HGETALL", self._key("claim", slot))
        return _claim(found) if found else None

    async def log_intent(self, turn: Turn, slot: str) -> int:
        attempt = await self._db.run("log_intent", *_show(turn), slot)
        if not attempt:
            raise TurnLost(turn.turn_id)
        return int(attempt)

    async def add_wait(self, turn: Turn, claim: Claim, seconds: float) -> None:
        await self._db.run("add_wait", *_show(turn), claim.slot, claim.attempt, seconds)

    async def settle(self, slot: str, output: str) -> None:
        await self._db.run("settle", slot, output)

    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        slot: str | None = await self._db.run("settle_call", run_id, tool_call_id, thread_id or "", output)
        return slot

    async def put_in_doubt(self, slot: str) -> None:
        await self._db.run("put_in_doubt", slot)

    async def is_settled(self, slot: str) -> bool:
        return bool(await self._db.read("HEXISTS", self._key("claim", slot), "output"))

    async def outcomes(self, slots: Sequence[str]) -> dict[str, str | None]:
        return dict(await self._db.run("outcomes", *slots))

    async def freeze(self, turn: Turn, outputs: dict[str, str]) -> tuple[dict[str, str], bool]:
        answer = await self._db.run("freeze", *_show(turn), *_flat(outputs))
        if not answer:
            raise TurnLost(turn.turn_id)
        stored, frozen = answer
        return dict(frozen), not stored

    async def in_doubt(self) -> list[dict[str, str]]:
        names = ("tool_call_id", "run_id", "thread_id", "tool")
        return [dict(zip(names, call, strict=True)) for _, call in sorted(await self._db.run("in_doubt"))]

    # --- steps --------------------------------------------------------------------------------------------------------

    async def accept_step(self, run_id: str, ordinal: int) -> None:
        await self._db.write("SADD", self._key("accepted", run_id), ordinal)

    async def is_accepted(self, run_id: str, ordinal: int) -> bool:
        return bool(await self._db.read("SISMEMBER", self._key("accepted", run_id), ordinal))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _key(self, *words: str) -> str:
        return self._db.prefix + ":".join(words)


def _show(turn: Turn) -> tuple[str, str, int]:
    return turn.turn_id, turn.owner or "", turn.epoch


def _flat(fields: Mapping[str, Words | None]) -> list[Words]:
    return [word for name, value in fields.items() if value is not None for word in (name, value)]


def _turn(found: Any) -> Turn | None:
    if not found:
        return None
    fields = dict(found if isinstance(found, dict) else pairs(found))
    return Turn(**{**fields, "owner": fields["owner"] or None, "epoch": int(fields["epoch"])})


def _claim(found: dict[str, str]) -> Claim:
    kept = {name: value for name, value in found.items() if name != "submitted"}
    numbers = {name: int(found[name]) for name in ("ordinal", "position", "attempt")}
    return Claim(
        **{
            **kept, **numbers, "first_sent": float(found["first_sent"]), "output": found.get("output"),
            "in_doubt": found.get("in_doubt") == "1", "waited": float(found.get("waited", 0)),
        }  # type: ignore[arg-type]
    )
