"""The shared store: turns with owners, claims with results, accepted steps. Every change of a turn is fenced by its epoch.

Every method raises StoreUnavailable when the store does not answer; then nothing was changed.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence

from coordinators.common.sqlite import Database
from coordinators.hardened.records import Asked, Claim, Turn, TurnLost

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
    in_doubt INTEGER DEFAULT 0, submitted TEXT);
CREATE INDEX IF NOT EXISTS claims_call ON claims (run_id, tool_call_id);
CREATE INDEX IF NOT EXISTS claims_in_doubt ON claims (slot) WHERE in_doubt = 1;
CREATE TABLE IF NOT EXISTS accepted (run_id TEXT, ordinal INTEGER, PRIMARY KEY (run_id, ordinal));
"""
_TURN = "turn_id, conversation_id, user_id, message, thread_id, run_id, status, detail, owner, epoch"
_CLAIM = (
    "slot, thread_id, run_id, step_id, ordinal, position, tool_call_id, tool, arguments, attempt, first_sent, output, in_doubt"
)
_TURN_FIELDS = _TURN.split(", ")
_CLAIM_FIELDS = _CLAIM.split(", ")


class Store:
    """The store behind one instance."""

    def __init__(self, path: str) -> None:
        self._db = Database(path, SCHEMA)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @property
    def healthy(self) -> bool:
        """False from a failure until the next write that succeeds."""
        return self._db.healthy

    # --- owners -------------------------------------------------------------------------------------------------------

    def register(self, instance_id: str) -> str:
        """A new owner's name: the instance and which of its lives this is."""
        with self._db.write() as db:
            db.execute(
                "INSERT INTO lives VALUES (?, 1) ON CONFLICT (instance_id) DO UPDATE SET life = life + 1", (instance_id,)
            )
            life = db.execute("SELECT life FROM lives WHERE instance_id = ?", (instance_id,)).fetchone()[0]
            owner = f"{instance_id}#{life}"
            db.execute("INSERT OR REPLACE INTO beats VALUES (?, 0)", (owner,))
            return owner

    def beat(self, owner: str) -> None:
        """Show that the owner is alive."""
        with self._db.write() as db:
            db.execute("UPDATE beats SET beat = beat + 1 WHERE owner = ?", (owner,))

    def beats(self) -> dict[str | None, int | None]:
        """The beat of each owner of a running turn; the owner None stands for turns that nobody owns."""
        return dict(
            self._db.read(
                "SELECT DISTINCT turns.owner, beats.beat FROM turns LEFT JOIN beats ON beats.owner = turns.owner "
                "WHERE turns.status = 'running'"
            )
        )

    def release(self, owner: str) -> None:
        """Give up every turn of this owner, and its name."""
        with self._db.write() as db:
            db.execute("UPDATE turns SET owner = NULL WHERE owner = ? AND status = 'running'", (owner,))
            db.execute("DELETE FROM beats WHERE owner = ?", (owner,))

    # --- turns --------------------------------------------------------------------------------------------------------

    def accept(self, turn: Turn, owner: str) -> Turn | None:
        """Take a turn that is new, or that nobody owns; None when it is somebody's already, or over."""
        with self._db.write() as db:
            made = db.execute(
                f"INSERT OR IGNORE INTO turns ({_TURN}) VALUES (?, ?, ?, ?, ?, NULL, 'running', NULL, ?, 1)",  # noqa: S608
                (turn.turn_id, turn.conversation_id, turn.user_id, turn.message, turn.thread_id, owner),
            )
            if made.rowcount:
                return dataclasses.replace(turn, owner=owner, epoch=1)
            taken = self._take(db, owner, "owner IS NULL AND turn_id = ?", turn.turn_id)
            return taken[0] if taken else None

    def take_over(self, former: str | None, owner: str) -> list[Turn]:
        """Take every running turn of an owner that is gone, or (None) those that nobody owns."""
        with self._db.write() as db:
            return self._take(db, owner, "owner IS ?", former)

    def turn(self, turn_id: str) -> Turn | None:
        """One turn."""
        rows = self._db.read(f"SELECT {_TURN} FROM turns WHERE turn_id = ?", (turn_id,))  # noqa: S608
        return Turn(**dict(zip(_TURN_FIELDS, rows[0], strict=True))) if rows else None

    def check_owner(self, turn: Turn) -> None:
        """Raises TurnLost unless the turn is still run by who took it under this epoch."""
        if not self._db.read(_OWNED, (turn.turn_id, turn.owner, turn.epoch)):
            raise TurnLost(turn.turn_id)

    def set_thread(self, turn: Turn, thread_id: str) -> Turn:
        """Note the turn's thread. Raises TurnLost."""
        self._change(turn, "thread_id = ?", thread_id)
        return dataclasses.replace(turn, thread_id=thread_id)

    def set_run(self, turn: Turn, run_id: str) -> Turn:
        """Note the turn's run. Raises TurnLost."""
        self._change(turn, "run_id = ?", run_id)
        return dataclasses.replace(turn, run_id=run_id)

    def finish(self, turn: Turn, status: str, detail: str | None) -> None:
        """The turn is over. Raises TurnLost."""
        self._change(turn, "status = ?, detail = ?", status, detail)

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self, turn: Turn, asked: Asked, now: float) -> tuple[Claim, bool]:
        """The claim on a call, and whether it was made just now, by this call, with the intent to send. Raises TurnLost."""
        with self._db.write() as db:
            _must_own(db, turn)
            made = db.execute(
                f"INSERT OR IGNORE INTO claims ({_CLAIM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, NULL, 0)",  # noqa: S608
                (
                    asked.slot, asked.thread_id, asked.run_id, asked.step_id, asked.ordinal, asked.position,
                    asked.call.id, asked.call.name, asked.call.arguments, now,
                ),
            )
            row = db.execute(f"SELECT {_CLAIM} FROM claims WHERE slot = ?", (asked.slot,)).fetchone()  # noqa: S608
            claim = Claim(**{**dict(zip(_CLAIM_FIELDS, row, strict=True)), "in_doubt": bool(row[-1])})
            return claim, made.rowcount == 1

    def log_intent(self, turn: Turn, slot: str) -> int:
        """Log the intent to send the call once more; which attempt it is. Raises TurnLost."""
        with self._db.write() as db:
            _must_own(db, turn)
            db.execute("UPDATE claims SET attempt = attempt + 1 WHERE slot = ?", (slot,))
            attempt: int = db.execute("SELECT attempt FROM claims WHERE slot = ?", (slot,)).fetchone()[0]
            return attempt

    def settle(self, slot: str, output: str) -> None:
        """Store the result of a claimed call; a result that is there already stays."""
        with self._db.write() as db:
            db.execute("UPDATE claims SET output = ? WHERE slot = ? AND output IS NULL", (output, slot))

    def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        """Store a result that was posted for a call; the slot of its claim, None when there is no such claim."""
        with self._db.write() as db:
            row = db.execute(
                "SELECT slot, output FROM claims WHERE run_id = ? AND tool_call_id = ? AND (thread_id = ? OR ? IS NULL)",
                (run_id, tool_call_id, thread_id, thread_id),
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE claims SET output = ? WHERE slot = ? AND output IS NULL", (output, row[0]))
            slot: str = row[0]
            return slot

    def put_in_doubt(self, slot: str) -> None:
        """Nobody can tell whether the call had its effect: report it from now on. Not when a result has come after all."""
        with self._db.write() as db:
            db.execute("UPDATE claims SET in_doubt = 1 WHERE slot = ? AND output IS NULL", (slot,))

    def is_settled(self, slot: str) -> bool:
        """Whether the call has its result."""
        return bool(self._db.read("SELECT 1 FROM claims WHERE slot = ? AND output IS NOT NULL", (slot,)))

    def outcomes(self, slots: Sequence[str]) -> dict[str, str | None]:
        """The result of each of these calls that is decided: its output, or None where it is in doubt."""
        marks = ",".join("?" * len(slots))
        rows = self._db.read(
            f"SELECT slot, output FROM claims WHERE slot IN ({marks}) AND (output IS NOT NULL OR in_doubt = 1)",  # noqa: S608
            tuple(slots),
        )
        return dict(rows)

    def freeze(self, turn: Turn, outputs: dict[str, str]) -> tuple[dict[str, str], bool]:
        """Store what is about to be submitted; what was stored first stays. Also: whether it was there. Raises TurnLost."""
        with self._db.write() as db:
            _must_own(db, turn)
            before = {slot: _submitted(db, slot) for slot in outputs}
            for slot, text in outputs.items():
                if before[slot] is None:
                    db.execute("UPDATE claims SET submitted = ? WHERE slot = ?", (text, slot))
            frozen = {slot: text if before[slot] is None else str(before[slot]) for slot, text in outputs.items()}
            return frozen, all(text is not None for text in before.values())

    def in_doubt(self) -> list[dict[str, str]]:
        """Every call that could not be decided."""
        rows = self._db.read("SELECT tool_call_id, run_id, thread_id, tool FROM claims WHERE in_doubt = 1 ORDER BY slot")
        return [{"tool_call_id": c, "run_id": r, "thread_id": t, "tool": name} for c, r, t, name in rows]

    # --- steps --------------------------------------------------------------------------------------------------------

    def accept_step(self, run_id: str, ordinal: int) -> None:
        """The step's outputs were accepted."""
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO accepted VALUES (?, ?)", (run_id, ordinal))

    def is_accepted(self, run_id: str, ordinal: int) -> bool:
        """Whether the step's outputs were accepted."""
        return bool(self._db.read("SELECT 1 FROM accepted WHERE run_id = ? AND ordinal = ?", (run_id, ordinal)))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, db: sqlite3.Connection, owner: str, where: str, value: str | None) -> list[Turn]:
        rows = db.execute(
            f"UPDATE turns SET owner = ?, epoch = epoch + 1 WHERE status = 'running' AND {where} RETURNING {_TURN}",  # noqa: S608
            (owner, value),
        ).fetchall()
        return [Turn(**dict(zip(_TURN_FIELDS, row, strict=True))) for row in rows]

    def _change(self, turn: Turn, what: str, *values: str | None) -> None:
        with self._db.write() as db:
            _must_own(db, turn)
            db.execute(f"UPDATE turns SET {what} WHERE turn_id = ?", (*values, turn.turn_id))  # noqa: S608


_OWNED = "SELECT 1 FROM turns WHERE turn_id = ? AND owner = ? AND epoch = ? AND status = 'running'"


def _must_own(db: sqlite3.Connection, turn: Turn) -> None:
    if db.execute(_OWNED, (turn.turn_id, turn.owner, turn.epoch)).fetchone() is None:
        raise TurnLost(turn.turn_id)


def _submitted(db: sqlite3.Connection, slot: str) -> str | None:
    row = db.execute("SELECT submitted FROM claims WHERE slot = ?", (slot,)).fetchone()
    return None if row is None else row[0]
