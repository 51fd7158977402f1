"""The hardened coordinator's store as an SQLite file; what each method does is said in `store.Store`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from coordinators.common.sqlite import Database
from coordinators.common.stores import Address
from coordinators.hardened.records import Asked, Claim, Turn, TurnLost
from coordinators.hardened.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS turns (
    turn_id TEXT PRIMARY KEY, conversation_id TEXT, user_id TEXT, message TEXT, thread_id TEXT, run_id TEXT,
    status TEXT, detail TEXT, owner TEXT, epoch INTEGER);
CREATE INDEX IF NOT EXISTS turns_running ON turns (owner) WHERE status = 'running';
CREATE TABLE IF NOT EXISTS lives (instance_id TEXT PRIMARY KEY, life INTEGER);
CREATE TABLE IF NOT EXISTS beats (owner TEXT PRIMARY KEY, beat INTEGER);
CREATE TABLE IF NOT EXISTS claims (
    slot TEXT PRIMARY KEY, thread_id TEXT, run_id TEXT, step_id TEXT, ordinal INTEGER, position INTEGER,
    tool_call_id TEXT, tool TEXT, arguments TEXT, attempt INTEGER, first_sent REAL, output TEXT,
    in_doubt INTEGER DEFAULT 0, waited REAL DEFAULT 0, claimant TEXT, submitted TEXT);
CREATE INDEX IF NOT EXISTS claims_call ON claims (run_id, tool_call_id);
CREATE INDEX IF NOT EXISTS claims_in_doubt ON claims (slot) WHERE in_doubt = 1;
CREATE TABLE IF NOT EXISTS accepted (run_id TEXT, ordinal INTEGER, PRIMARY KEY (run_id, ordinal));
"""
_TURN = "turn_id, conversation_id, user_id, message, thread_id, run_id, status, detail, owner, epoch"
_CLAIM = (
    "slot, thread_id, run_id, step_id, ordinal, position, tool_call_id, tool, arguments, attempt, first_sent, output, "
    "in_doubt, waited, claimant"
)
_TURN_FIELDS = _TURN.split(", ")
_CLAIM_FIELDS = _CLAIM.split(", ")


class SqliteStore(Store):
    """The store in a file."""

    schema = SCHEMA
    owned_sql = "EXISTS (SELECT 1 FROM turns WHERE turn_id = ? AND owner = ? AND epoch = ? AND status = 'running')"
    """The fence of every change made for a turn: a condition over the turn's id, and its owner and epoch as they are shown."""

    def __init__(self, address: Address) -> None:
        self._db = Database(address.path, self.schema)

    async def close(self) -> None:
        self._db.close()

    @property
    def healthy(self) -> bool:
        return self._db.healthy

    # --- owners -------------------------------------------------------------------------------------------------------

    async def register(self, instance_id: str) -> str:
        life = self._db.write(
            "INSERT INTO lives VALUES (?, 1) ON CONFLICT (instance_id) DO UPDATE SET life = life + 1 RETURNING life",
            (instance_id,),
        )[0][0]
        owner = f"{instance_id}#{life}"
        self._db.write("INSERT OR REPLACE INTO beats VALUES (?, 0)", (owner,))
        return owner

    async def beat(self, owner: str) -> None:
        self._db.write("UPDATE beats SET beat = beat + 1 WHERE owner = ?", (owner,))

    async def beats(self) -> dict[str | None, int | None]:
        return dict(
            self._db.read(
                "SELECT DISTINCT turns.owner, beats.beat FROM turns LEFT JOIN beats ON beats.owner = turns.owner "
                "WHERE turns.status = 'running'"
            )
        )

    async def release(self, owner: str) -> None:
        self._db.write("UPDATE turns SET owner = NULL WHERE owner = ? AND status = 'running'", (owner,))
        self._db.write("DELETE FROM beats WHERE owner = ?", (owner,))

    # --- turns --------------------------------------------------------------------------------------------------------

    async def accept(self, turn: Turn, owner: str) -> Turn | None:
        made = self._db.write(
            f"INSERT OR IGNORE INTO turns ({_TURN}) VALUES (?, ?, ?, ?, ?, NULL, 'running', NULL, ?, 1) RETURNING 1",  # noqa: S608
            (turn.turn_id, turn.conversation_id, turn.user_id, turn.message, turn.thread_id, owner),
        )
        if made:
            return dataclasses.replace(turn, owner=owner, epoch=1)
        taken = self._take(owner, "owner IS NULL AND turn_id = ?", turn.turn_id)
        return taken[0] if taken else None

    async def take_over(self, former: str | None, owner: str) -> list[Turn]:
        return self._take(owner, "owner IS ?", former)

    async def owned_by(self, owner: str) -> frozenset[str]:
        rows = self._db.read("SELECT turn_id FROM turns WHERE owner = ? AND status = 'running'", (owner,))
        return frozenset(row[0] for row in rows)

    async def retake(self, turn_id: str, owner: str) -> Turn | None:
        taken = self._take(owner, "owner = ? AND turn_id = ?", owner, turn_id)
        return taken[0] if taken else None

    async def turn(self, turn_id: str) -> Turn | None:
        rows = self._db.read(f"SELECT {_TURN} FROM turns WHERE turn_id = ?", (turn_id,))  # noqa: S608
        return Turn(**dict(zip(_TURN_FIELDS, rows[0], strict=True))) if rows else None

    async def check_owner(self, turn: Turn) -> None:
        if not self._db.read(f"SELECT 1 WHERE {self.owned_sql}", _show(turn)):
            raise TurnLost(turn.turn_id)

    async def change(self, turn: Turn, **fields: str | None) -> None:
        what = ", ".join(f"{name} = ?" for name in fields)
        if not self._db.write(
            f"UPDATE turns SET {what} WHERE turn_id = ? AND {self.owned_sql} RETURNING 1",  # noqa: S608
            (*fields.values(), turn.turn_id, *_show(turn)),
        ):
            raise TurnLost(turn.turn_id)

    # --- claims -------------------------------------------------------------------------------------------------------

    async def claim(self, turn: Turn, asked: Asked, now: float, claimant: str) -> tuple[Claim, bool]:
        made = self._db.write(
            f"INSERT OR IGNORE INTO claims ({_CLAIM}) "
            f"SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, NULL, 0, 0, ? WHERE {self.owned_sql} RETURNING 1",
            (
                asked.slot, asked.thread_id, asked.run_id, asked.step_id, asked.ordinal, asked.position,
                asked.call.id, asked.call.name, asked.call.arguments, now, claimant, *_show(turn),
            ),
        )
        if not made:
            await self.check_owner(turn)
        claim = await self.find_claim(asked.slot)
        assert claim is not None
        return claim, claim.is_new_to(claimant)

    async def find_claim(self, slot: str) -> Claim | None:
        rows = self._db.read(f"SELECT {_CLAIM} FROM claims WHERE slot = ?", (slot,))  # noqa: S608
        return Claim(**dict(zip(_CLAIM_FIELDS, rows[0], strict=True))) if rows else None

    async def log_intent(self, turn: Turn, slot: str) -> int:
        rows = self._db.write(
            f"UPDATE claims SET attempt = attempt + 1, waited = 0 WHERE slot = ? AND {self.owned_sql} RETURNING attempt",  # noqa: S608
            (slot, *_show(turn)),
        )
        if not rows:
            raise TurnLost(turn.turn_id)
        attempt: int = rows[0][0]
        return attempt

    async def add_wait(self, turn: Turn, claim: Claim, seconds: float) -> None:
        self._db.write(
            f"UPDATE claims SET waited = waited + ? WHERE slot = ? AND attempt = ? AND {self.owned_sql}",  # noqa: S608
            (seconds, claim.slot, claim.attempt, *_show(turn)),
        )

    async def settle(self, slot: str, output: str) -> None:
        self._db.write("UPDATE claims SET output = ? WHERE slot = ? AND output IS NULL", (output, slot))

    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        rows = self._db.write(
            "UPDATE claims SET output = COALESCE(output, ?) "
            "WHERE run_id = ? AND tool_call_id = ? AND (thread_id = ? OR ? IS NULL) RETURNING slot",
            (output, run_id, tool_call_id, thread_id, thread_id),
        )
        return rows[0][0] if rows else None

    async def put_in_doubt(self, slot: str) -> None:
        self._db.write("UPDATE claims SET in_doubt = 1 WHERE slot = ? AND output IS NULL", (slot,))

    async def is_settled(self, slot: str) -> bool:
        return bool(self._db.read("SELECT 1 FROM claims WHERE slot = ? AND output IS NOT NULL", (slot,)))

    async def outcomes(self, slots: Sequence[str]) -> dict[str, str | None]:
        marks = ",".join("?" * len(slots))
        rows = self._db.read(
            f"SELECT slot, output FROM claims WHERE slot IN ({marks}) AND (output IS NOT NULL OR in_doubt = 1)",  # noqa: S608
            tuple(slots),
        )
        return dict(rows)

    async def freeze(self, turn: Turn, outputs: dict[str, str]) -> tuple[dict[str, str], bool]:
        stored = self._db.write(
            "UPDATE claims SET submitted = given.value FROM json_each(?) AS given "  # noqa: S608
            f"WHERE claims.slot = given.key AND claims.submitted IS NULL AND {self.owned_sql} RETURNING 1",
            (json.dumps(outputs), *_show(turn)),
        )
        await self.check_owner(turn)
        marks = ",".join("?" * len(outputs))
        frozen = self._db.read(f"SELECT slot, submitted FROM claims WHERE slot IN ({marks})", tuple(outputs))  # noqa: S608
        return dict(frozen), not stored

    async def in_doubt(self) -> list[dict[str, str]]:
        rows = self._db.read("SELECT tool_call_id, run_id, thread_id, tool FROM claims WHERE in_doubt = 1 ORDER BY slot")
        return [{"tool_call_id": c, "run_id": r, "thread_id": t, "tool": name} for c, r, t, name in rows]

    # --- steps --------------------------------------------------------------------------------------------------------

    async def accept_step(self, run_id: str, ordinal: int) -> None:
        self._db.write("INSERT OR IGNORE INTO accepted VALUES (?, ?)", (run_id, ordinal))

    async def is_accepted(self, run_id: str, ordinal: int) -> bool:
        return bool(self._db.read("SELECT 1 FROM accepted WHERE run_id = ? AND ordinal = ?", (run_id, ordinal)))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, owner: str, where: str, *values: str | None) -> list[Turn]:
        rows = self._db.write(
            f"UPDATE turns SET owner = ?, epoch = epoch + 1 WHERE status = 'running' AND {where} RETURNING {_TURN}",  # noqa: S608
            (owner, *values),
        )
        return [Turn(**dict(zip(_TURN_FIELDS, row, strict=True))) for row in rows]


def _show(turn: Turn) -> tuple[str, str | None, int]:
    return turn.turn_id, turn.owner, turn.epoch
