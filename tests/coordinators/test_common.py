"""What the reference coordinators share: settings, store, protocol."""

from __future__ import annotations

import ast
import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import coordinators
from coordinators.common.asgi import App
from coordinators.common.gateway import posted_result
from coordinators.common.settings import REQUIRED, Settings, SettingsError
from coordinators.common.sqlite import Database
from coordinators.common.stores import StoreUnavailable
from coordinators.hardened import create_app

ENVIRON = {
    "PORT": "8000", "INSTANCE_ID": "coordinator-1", "STATE_DIR": "/s", "ASSISTANTS_BASE_URL": "http://a/v1",
    "ASSISTANT_ID": "asst", "TOOL_GATEWAY_URL": "http://g", "TOOL_RESULTS_URL": "http://r/tool-results",
    "STORE_URL": "sqlite:////s/store.db",
}


def test_imports_nothing_of_the_harness() -> None:
    """A coordinator is as a user's would be: it knows neither the fakes nor any other room."""
    files = list(Path(coordinators.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            rooms = {name.split(".")[0] for name in names}
            assert not rooms & {"anechoic", "chaos", "contracts", "fakes", "load"}, file


def test_settings() -> None:
    """Every variable is read; times have defaults."""
    settings = Settings.from_environ({**ENVIRON, "POLL_INTERVAL": "0.05", "TOOL_TIMEOUT": "0.5"})
    assert (settings.store.path, settings.poll_interval, settings.patience) == ("/s/store.db", 0.05, 2.5)
    assert Settings.from_environ({**ENVIRON, "IN_DOUBT_AFTER": "9"}).patience == 9.0
    assert not settings.secure


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_variable(name: str) -> None:
    """A missing variable is named."""
    with pytest.raises(SettingsError, match=f"missing in the environment: {name}"):
        Settings.from_environ({k: v for k, v in ENVIRON.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "eighty", "PORT='eighty' is not a port"),
        ("TOOL_GATEWAY_URL", "gateway:80", "is not an address"),
        ("STORE_URL", "postgres://localhost/db", "expected sqlite://"),
        ("STORE_URL", "redis://", "or redis://host:port/db"),
        ("STORE_URL", "sqlite://store.db", "absolute path"),
        ("POLL_INTERVAL", "-1", "must be a number of seconds above 0"),
        ("LEASE", "soon", "must be a number of seconds above 0"),
        ("ROLE", "boss", "is not one of both, coordinator, handler"),
    ],
)
def test_wrong_variable(name: str, value: str, message: str) -> None:
    """A wrong variable is named, with what was seen and what is expected."""
    with pytest.raises(SettingsError, match=message):
        Settings.from_environ({**ENVIRON, name: value})


def test_locked_store_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    """A lock that is held too long surfaces as one error; reading goes on, and writing after the lock is gone."""
    db = Database(str(tmp_path / "s.db"), "CREATE TABLE IF NOT EXISTS t (x);", busy_timeout=0.01)
    db.write("INSERT INTO t VALUES (1)")
    holder = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        db.write("INSERT INTO t VALUES (2)")
    assert not db.healthy
    assert db.read("SELECT x FROM t") == [(1,)]
    holder.close()
    with db.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (3)")
    assert db.healthy
    assert db.read("SELECT x FROM t") == [(1,), (3,)]
    db.close()


def test_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    """What raises inside a transaction is rolled back."""
    db = Database(str(tmp_path / "s.db"), "CREATE TABLE IF NOT EXISTS t (x);")

    def fail() -> None:
        with db.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert db.read("SELECT x FROM t") == []
    db.close()


def test_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """A missing folder is an outage, not a crash."""
    with pytest.raises(StoreUnavailable, match="unable to open"):
        Database(str(tmp_path / "none" / "s.db"), "").read("SELECT 1")


@pytest.mark.parametrize(
    ("body", "output", "definite"),
    [
        ({"output": "INC-1 \x00{"}, "INC-1 \x00{", True),
        ({"output": {"id": 1}}, '{"id":1}', True),
        ({"error": {"message": "no", "type": "tool_error", "code": "tool_failed"}}, '{"error":"no"}', True),
        ({"error": "no"}, '{"error":"no"}', True),
        ({"error": {"message": "busy", "code": "unavailable"}}, '{"error":"busy"}', False),
        ({"error": {"message": "busy", "status": 503}}, '{"error":"busy"}', False),
    ],
)
def test_posted_result(body: dict[str, Any], output: str, definite: bool) -> None:
    """Outputs pass as they are; an error counts only when it is the tool's last word."""
    result = posted_result({"run_id": "r", "tool_call_id": "c", **body})
    assert result is not None
    assert (result.output, result.definite) == (output, definite)


def test_posted_result_of_nobody() -> None:
    """A result that names no call is nobody's."""
    assert posted_result({"run_id": None, "tool_call_id": None, "output": "x"}) is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/turns", b"{", 400, "the body is not JSON"),
        ("POST", "/turns", b"[]", 400, "must be a JSON object, not list"),
        ("POST", "/turns", b'{"turn_id": 7}', 400, "turn_id must be a text"),
        ("GET", "/turns/none", b"", 404, "no turn none"),
        ("GET", "/other", b"", 404, "no such route"),
        ("POST", "/tool-results", b'{"run_id": "r", "tool_call_id": "c", "output": "x"}', 200, "no such call"),
        ("POST", "/tool-results", b'{"output": "x"}', 200, "names no call"),
        ("GET", "/in-doubt", b"", 200, "calls"),
        ("GET", "/healthz", b"", 200, "async_tools"),
    ],
)
def test_routes(tmp_path: Path, method: str, path: str, body: bytes, status: int, words: str) -> None:
    """Each route answers, and says what is wrong with a request."""
    app = create_app({**ENVIRON, "STORE_URL": f"sqlite:///{tmp_path}/s.db"}, sink=lambda line: None)
    assert (answer := asyncio.run(_ask(app, method, path, body)))[0] == status
    assert words in json.dumps(answer[1])


async def _ask(app: App, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """One request to an instance that is started and stopped by its lifespan."""
    sent: list[Any] = []
    steps: asyncio.Queue[Any] = asyncio.Queue()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    lifespan = asyncio.create_task(app({"type": "lifespan"}, steps.get, send))
    await steps.put({"type": "lifespan.startup"})
    while not sent:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await app({"type": "http", "method": method, "path": path}, receive, send)
    await steps.put({"type": "lifespan.shutdown"})
    await lifespan
    assert [m["type"] for m in sent if m["type"].startswith("lifespan")] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete"
    ]
    return sent[1]["status"], json.loads(sent[2]["body"])
