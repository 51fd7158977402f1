"""The store of the deployed design as an SQLite file; what each method does is said in `store.Store`."""

from __future__ import annotations

import json
import sqlite3

from coordinators.as_deployed.store import DEDUP_TTL, Batch, Store
from coordinators.common.gateway import ToolResult
from coordinators.common.sqlite import Database
from coordinators.common.stores import Address

SCHEMA = """
CREATE TABLE IF NOT EXISTS deployed_steps (run_id TEXT PRIMARY KEY, thread_id TEXT, step_id TEXT, call_ids TEXT);
CREATE TABLE IF NOT EXISTS deployed_queue (
    id INTEGER PRIMARY KEY, run_id TEXT, tool_call_id TEXT, output TEXT, state TEXT DEFAULT 'queued');
CREATE INDEX IF NOT EXISTS deployed_queue_run ON deployed_queue (run_id, state);
CREATE TABLE IF NOT EXISTS deployed_dedup (key TEXT PRIMARY KEY, expires_at REAL);
"""


class SqliteStore(Store):
    """The store in a file."""

    def __init__(self, address: Address) -> None:
        self._db = Database(address.path, SCHEMA)

    async def close(self) -> None:
        self._db.close()

    async def set_latest_step(self, thread_id: str, run_id: str, step_id: str, call_ids: tuple[str, ...]) -> None:
        self._db.write(
            "INSERT OR REPLACE INTO deployed_steps VALUES (?, ?, ?, ?)", (run_id, thread_id, step_id, json.dumps(call_ids))
        )

    async def enqueue(self, result: ToolResult) -> None:
        self._db.write(
            "INSERT INTO deployed_queue (run_id, tool_call_id, output) VALUES (?, ?, ?)",
            (result.run_id, result.tool_call_id, result.output),
        )

    async def take_batch(self, run_id: str) -> Batch | None:
        with self._db.transaction() as db:
            step = db.execute("SELECT thread_id, step_id, call_ids FROM deployed_steps WHERE run_id = ?", (run_id,)).fetchone()
            if step is None:
                return None
            queued = {
                call: (row, output)
                for row, call, output in db.execute(
                    "SELECT id, tool_call_id, output FROM deployed_queue WHERE run_id = ? AND state = 'queued' ORDER BY id",
                    (run_id,),
                )
            }
            calls = json.loads(step[2])
            if any(call not in queued for call in calls):
                return None
            rows = tuple(queued[call][0] for call in calls)
            self._mark(db, rows, "taken")
            return Batch(step[0], run_id, step[1], tuple((call, queued[call][1]) for call in calls), rows)

    async def put_back(self, batch: Batch) -> None:
        with self._db.transaction() as db:
            self._mark(db, batch.rows, "queued")

    async def mark_submitted(self, batch: Batch) -> None:
        with self._db.transaction() as db:
            self._mark(db, batch.rows, "submitted")

    async def submitted(self, run_id: str) -> frozenset[str]:
        rows = self._db.read("SELECT tool_call_id FROM deployed_queue WHERE run_id = ? AND state = 'submitted'", (run_id,))
        return frozenset(row[0] for row in rows)

    async def seen_before(self, key: str, now: float) -> bool:
        with self._db.transaction() as db:
            db.execute("DELETE FROM deployed_dedup WHERE key = ? AND expires_at <= ?", (key, now))
            made = db.execute("INSERT OR IGNORE INTO deployed_dedup VALUES (?, ?)", (key, now + DEDUP_TTL))
            return made.rowcount == 0

    @staticmethod
    def _mark(db: sqlite3.Connection, rows: tuple[int, ...], state: str) -> None:
        db.executemany("UPDATE deployed_queue SET state = ? WHERE id = ?", [(state, row) for row in rows])
