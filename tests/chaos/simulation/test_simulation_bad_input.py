"""Coordinators that cannot be simulated: a clear error that names the call and the way out, never a hang."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.plan import Plan, PlanError
from chaos.simulation import BadCoordinator, Settings, SimulationError, simulate
from chaos.simulation.errors import Blocked, Exhausted, Refused
from chaos.simulation.imports import prepare
from chaos.turns import make
from fakes.gateway.profile import PROFILES

Make = Callable[..., Settings]


def blocks() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


async def spins() -> None:
    while True:
        await asyncio.sleep(0)


def busy() -> None:
    while True:
        pass


BAD: dict[str, tuple[Callable[[], Any], type[SimulationError], str]] = {
    "time.sleep": (lambda: time.sleep(0.01), Refused, r"time\.sleep\(0\.01\) at .*test_simulation_bad_input\.py"),
    "a thread": (lambda: threading.Thread(target=print).start(), Refused, r"threading\.Thread\.start\(\)"),
    "to_thread": (lambda: asyncio.to_thread(print), Refused, r"run_in_executor"),
    "a socket": (lambda: socket.create_connection(("127.0.0.1", 9)), Refused, r"socket\.getaddrinfo\(\)"),
    "a stream": (lambda: asyncio.open_connection("127.0.0.1", 9), Refused, r"create_connection"),
    "a process": (lambda: subprocess.run(["true"], check=False), Refused, r"subprocess\.Popen\(\)"),
    "a lock": (blocks, Blocked, r"coordinator-1 did not come back within 0\.4 s from `lock\.acquire\(\)`"),
    "a busy loop": (busy, Blocked, r"coordinator-1 did not come back within 0\.4 s from"),
    "spinning": (spins, Exhausted, r"somebody spins without waiting; next was coordinator-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_blocks_or_is_real_ends_the_simulation(name: str, plain: type[Any], settings: Make) -> None:
    """Even when the coordinator swallows every exception."""
    work, kind, message = BAD[name]

    class Bad(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            try:
                made = work()
                if asyncio.iscoroutine(made):
                    await made
            except Exception:
                self.note("swallowed")

    threads = threading.active_count()
    with pytest.raises(kind, match=message) as caught:
        simulate(settings(coordinator=Bad, stall=0.4), [make(1, 0)])
    if kind is not Exhausted:
        assert "run it on the wire: anechoic gate --world wire" in str(caught.value)
    assert threading.active_count() == threads


def test_a_plain_def_endpoint_is_refused_with_its_reason(settings: Make) -> None:
    """FastAPI runs those in threads; the message says so."""
    from fastapi import FastAPI

    def create_app(environ: Any) -> FastAPI:
        app = FastAPI()

        @app.get("/healthz")
        def healthz() -> dict[str, bool]:
            return {}

        return app

    with pytest.raises(Refused, match=r"a plain `def` endpoint of FastAPI or Starlette runs in a thread, too"):
        simulate(settings(coordinator=create_app), [make(1, 0)])


MODULES = {
    "raises_at_import": ("raise ValueError('no config')", r"could not be imported: ValueError: no config\n  at .*:1 in <module>"),
    "blocks_at_import": ("import time; time.sleep(60)", r"did not come back within 0\.4 s from `import time; time\.sleep\(60\)`"),
    "is_no_coordinator": ("x = 3", r"is int 3; expected a factory create_app\(environ"),
    "returns_nothing": ("def x(environ): pass", r"returned NoneType None; expected a factory"),
    "wants_too_much": ("def x(environ, database): pass", r"needs a parameter 'database' that a simulation does not know"),
    "fails_to_start": ("def x(environ): return 1 / 0", r"could not be started: ZeroDivisionError"),
    "has_other_names": ("def xx(environ): pass", r"unknown attribute 'x': did you mean 'xx'\?"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_no_coordinator(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was seen and what was expected, before or while it starts."""
    text, message = MODULES[name]
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SimulationError, match=message):
        simulate(Settings(coordinator=f"{name}:x", gateway=PROFILES["keyless"], stall=0.4), [make(1, 0)])
    sys.modules.pop(name, None)


def test_an_import_that_blocks_ends_a_search_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What prepares the coordinator for many simulations is watched as one simulation is."""
    (tmp_path / "blocks_a_search.py").write_text("while True: pass")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Blocked, match=r"did not come back within 0\.4 s from `while True: pass`"):
        prepare("blocks_a_search:x", stall=0.4)


def test_module_level_code_finds_the_environment_of_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the first import, which is for no instance yet; nothing of that is left behind."""
    (tmp_path / "reads_early.py").write_text(
        "import os, sqlite3\n"
        "STORE = sqlite3.connect(os.environ['STORE_URL'].removeprefix('sqlite:///'))\n"
        "NAME, PORT, MINE = os.environ['INSTANCE_ID'], int(os.environ['PORT']), os.environ['MINE']\n"
        "def create(environ): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(os.environ)
    assert prepare("reads_early:create", {"MINE": "1"}).label == "reads_early:create"
    assert dict(os.environ) == before
    sys.modules.pop("reads_early").STORE.close()


def test_names_that_are_not_there() -> None:
    """The nearest name, or what a name looks like."""
    with pytest.raises(BadCoordinator, match="did you mean 'hardened'"):
        simulate(Settings(coordinator="hardend", gateway=PROFILES["keyless"]), [])
    with pytest.raises(BadCoordinator, match="there is no module 'nowhere'"):
        simulate(Settings(coordinator="nowhere:app", gateway=PROFILES["keyless"]), [])


def test_one_that_is_never_ready(settings: Make) -> None:
    """It is waited for in virtual time only, and what was last seen is told."""
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 503, "headers": []})

    with pytest.raises(BadCoordinator, match=r"not ready after 60 s of virtual time; last seen: GET /healthz answered 503"):
        simulate(settings(coordinator=app), [])


@pytest.mark.parametrize(
    "wrong", [{"instances": 0}, {"tool_timeout": 0}, {"repeat_submit": "418"}, {"latency": (2, 1)}, {"replica_lag": 0.0}]
)
def test_settings_are_checked_first(wrong: dict[str, Any], settings: Make) -> None:
    """The error names the setting and its value."""
    with pytest.raises(SimulationError, match=next(iter(wrong))):
        settings(**wrong)


def test_toxics_without_meaning_are_refused_before_the_start(settings: Make, rule: Callable[..., Plan]) -> None:
    """A simulation has no connections that could close slowly."""
    plan = rule({"at": 1}, {"fault": "toxic", "type": "slow_close"})
    with pytest.raises(PlanError, match=r"rule p/1: toxic 'slow_close' is about the end of a connection.*use the wire"):
        simulate(settings(), [], [plan])
    plan = rule({"at": 1}, {"fault": "toxic", "type": "latency", "attributes": {"latenci": 1}})
    with pytest.raises(PlanError, match="did you mean 'latency'"):
        simulate(settings(), [], [plan])


def test_everything_real_is_as_it_was_afterwards(settings: Make) -> None:
    """Clocks, dice, alarms, the environment and sqlite3 are given back, whatever happened."""
    def state() -> list[object]:
        return [
            time.time, time.monotonic, time.sleep, os.urandom, os.environ, sqlite3.connect, threading.Thread.start,
            random.getstate(), signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL),
        ]

    before = state()
    simulate(settings(), [make(1, 0)])
    with pytest.raises(SimulationError):
        simulate(settings(coordinator="nowhere:app"), [])
    assert state() == before
    assert uuid.uuid4() != uuid.uuid4()


def test_another_thread_can_simulate_too(settings: Make, plain: type[Any]) -> None:
    """There the watchdog is a thread of its own, which is gone afterwards."""
    class Bad(plain):  # type: ignore[misc]
        async def follow(self, turn: Any) -> None:
            busy()

    caught: list[Exception] = []

    def work() -> None:
        try:
            simulate(settings(coordinator=Bad, stall=0.4), [make(1, 0)])
        except SimulationError as error:
            caught.append(error)

    before = threading.active_count()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert [type(error) for error in caught] == [Blocked]
    assert threading.active_count() == before
