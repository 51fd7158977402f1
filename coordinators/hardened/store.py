"""The shared store: turns with owners, claims with results, accepted steps. Every change of a turn is fenced by its epoch.

Every method raises StoreUnavailable when the store does not answer; then nothing was changed.
"""

from __future__ import annotations

import dataclasses
import json
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
    in_doubt INTEGER DEFAULT 0, waited REAL DEFAULT 0, submitted TEXT);
CREATE INDEX IF NOT EXISTS claims_call ON claims (run_id, tool_call_id);
CREATE INDEX IF NOT EXISTS claims_in_doubt ON claims (slot) WHERE in_doubt = 1;
CREATE TABLE IF NOT EXISTS accepted (run_id TEXT, ordinal INTEGER, PRIMARY KEY (run_id, ordinal));
"""
_TURN = "turn_id, conversation_id, user_id, message, thread_id, run_id, status, detail, owner, epoch"
_CLAIM = (
    "slot, thread_id, run_id, step_id, ordinal, position, tool_call_id, tool, arguments, attempt, first_sent, output, "
    "in_doubt, waited"
)
_TURN_FIELDS = _TURN.split(", ")
_CLAIM_FIELDS = _CLAIM.split(", ")


class Store:
    """The store behind one instance."""

    schema = SCHEMA
    owned = "EXISTS (SELECT 1 FROM turns WHERE turn_id = ? AND owner = ? AND epoch = ? AND status = 'running')"
    """The fence of every change made for a turn: a condition over the turn's id, and its owner and epoch as they are shown."""

    def __init__(self, path: str) -> None:
        self._db = Database(path, self.schema)

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
        life = self._db.write(
            "INSERT INTO lives VALUES (?, 1) ON CONFLICT (instance_id) DO UPDATE SET life = life + 1 RETURNING life",
            (instance_id,),
        )[0][0]
        owner = f"{instance_id}#{life}"
        self._db.write("INSERT OR REPLACE INTO beats VALUES (?, 0)", (owner,))
        return owner

    def beat(self, owner: str) -> None:
        """Show that the owner is alive."""
        self._db.write("UPDATE beats SET beat = beat + 1 WHERE owner = ?", (owner,))

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
        self._db.write("UPDATE turns SET owner = NULL WHERE owner = ? AND status = 'running'", (owner,))
        self._db.write("DELETE FROM beats WHERE owner = ?", (owner,))

    # --- turns --------------------------------------------------------------------------------------------------------

    def accept(self, turn: Turn, owner: str) -> Turn | None:
        """Take a turn that is new, or that nobody owns; None when it is somebody's already, or over."""
        made = self._db.write(
            f"INSERT OR IGNORE INTO turns ({_TURN}) VALUES (?, ?, ?, ?, ?, NULL, 'running', NULL, ?, 1) RETURNING 1",  # noqa: S608
            (turn.turn_id, turn.conversation_id, turn.user_id, turn.message, turn.thread_id, owner),
        )
        if made:
            return dataclasses.replace(turn, owner=owner, epoch=1)
        taken = self._take(owner, "owner IS NULL AND turn_id = ?", turn.turn_id)
        return taken[0] if taken else None

    def take_over(self, former: str | None, owner: str) -> list[Turn]:
        """Take every running turn of an owner that is gone, or (None) those that nobody owns."""
        return self._take(owner, "owner IS ?", former)

    def turn(self, turn_id: str) -> Turn | None:
        """One turn."""
        rows = self._db.read(f"SELECT {_TURN} FROM turns WHERE turn_id = ?", (turn_id,))  # noqa: S608
        return Turn(**dict(zip(_TURN_FIELDS, rows[0], strict=True))) if rows else None

    def check_owner(self, turn: Turn) -> None:
        """Raises TurnLost unless the turn is still run by who took it under this epoch."""
        if not self._db.read(f"SELECT 1 WHERE {self.owned}", _show(turn)):
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
        made = self._db.write(
            f"INSERT OR IGNORE INTO claims ({_CLAIM}) "
            f"SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, NULL, 0, 0 WHERE {self.owned} RETURNING 1",
            (
                asked.slot, asked.thread_id, asked.run_id, asked.step_id, asked.ordinal, asked.position,
                asked.call.id, asked.call.name, asked.call.arguments, now, *_show(turn),
            ),
        )
        if not made:
            self.check_owner(turn)
        claim = self.find_claim(asked.slot)
        assert claim is not None
        return claim, bool(made)

    def find_claim(self, slot: str) -> Claim | None:
        """The claim of that name."""
        rows = self._db.read(f"SELECT {_CLAIM} FROM claims WHERE slot = ?", (slot,))  # noqa: S608
        return Claim(**dict(zip(_CLAIM_FIELDS, rows[0], strict=True))) if rows else None

    def log_intent(self, turn: Turn, slot: str) -> int:
        """Log the intent to send the call once more; which attempt it is. Raises TurnLost."""
        rows = self._db.write(
            f"UPDATE claims SET attempt = attempt + 1, waited = 0 WHERE slot = ? AND {self.owned} RETURNING attempt",  # noqa: S608
            (slot, *_show(turn)),
        )
        if not rows:
            raise TurnLost(turn.turn_id)
        attempt: int = rows[0][0]
        return attempt

    def add_wait(self, turn: Turn, slot: str, seconds: float) -> None:
        """Note that so much time has passed since the last intent; whoever comes next need not wait for it again.

        Only the owner's time counts, so what different owners add never overlaps, and no clocks are compared.
        """
        self._db.write(f"UPDATE claims SET waited = waited + ? WHERE slot = ? AND {self.owned}", (seconds, slot, *_show(turn)))  # noqa: S608

    def settle(self, slot: str, output: str) -> None:
        """Store the result of a claimed call; a result that is there already stays."""
        self._db.write("UPDATE claims SET output = ? WHERE slot = ? AND output IS NULL", (output, slot))

    def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        """Store a result that was posted for a call; the slot of its claim, None when there is no such claim."""
        rows = self._db.write(
            "UPDATE claims SET output = COALESCE(output, ?) "
            "WHERE run_id = ? AND tool_call_id = ? AND (thread_id = ? OR ? IS NULL) RETURNING slot",
            (output, run_id, tool_call_id, thread_id, thread_id),
        )
        return rows[0][0] if rows else None

    def put_in_doubt(self, slot: str) -> None:
        """Nobody can tell whether the call had its effect: report it from now on. Not when a result has come after all."""
        self._db.write("UPDATE claims SET in_doubt = 1 WHERE slot = ? AND output IS NULL", (slot,))

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
        stored = self._db.write(
            "UPDATE claims SET submitted = given.value FROM json_each(?) AS given "  # noqa: S608
            f"WHERE claims.slot = given.key AND claims.submitted IS NULL AND {self.owned} RETURNING 1",
            (json.dumps(outputs), *_show(turn)),
        )
        self.check_owner(turn)
        marks = ",".join("?" * len(outputs))
        frozen = self._db.read(f"SELECT slot, submitted FROM claims WHERE slot IN ({marks})", tuple(outputs))  # noqa: S608
        return dict(frozen), not stored

    def in_doubt(self) -> list[dict[str, str]]:
        """Every call that could not be decided."""
        rows = self._db.read("SELECT tool_call_id, run_id, thread_id, tool FROM claims WHERE in_doubt = 1 ORDER BY slot")
        return [{"tool_call_id": c, "run_id": r, "thread_id": t, "tool": name} for c, r, t, name in rows]

    # --- steps --------------------------------------------------------------------------------------------------------

    def accept_step(self, run_id: str, ordinal: int) -> None:
        """The step's outputs were accepted."""
        self._db.write("INSERT OR IGNORE INTO accepted VALUES (?, ?)", (run_id, ordinal))

    def is_accepted(self, run_id: str, ordinal: int) -> bool:
        """Whether the step's outputs were accepted."""
        return bool(self._db.read("SELECT 1 FROM accepted WHERE run_id = ? AND ordinal = ?", (run_id, ordinal)))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, owner: str, where: str, value: str | None) -> list[Turn]:
        rows = self._db.write(
            f"UPDATE turns SET owner = ?, epoch = epoch + 1 WHERE status = 'running' AND {where} RETURNING {_TURN}",  # noqa: S608
            (owner, value),
        )
        return [Turn(**dict(zip(_TURN_FIELDS, row, strict=True))) for row in rows]

    def _change(self, turn: Turn, what: str, *values: str | None) -> None:
        if not self._db.write(
            f"UPDATE turns SET {what} WHERE turn_id = ? AND {self.owned} RETURNING 1",  # noqa: S608
            (*values, turn.turn_id, *_show(turn)),
        ):
            raise TurnLost(turn.turn_id)


def _show(turn: Turn) -> tuple[str, str | None, int]:
    return turn.turn_id, turn.owner, turn.epoch
