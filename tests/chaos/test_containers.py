"""The chamber in containers: the compose file as it is used, and the engine's faults as they are seen from outside.

Needs a container engine (DOCKER_HOST), `docker`, and Compose v2.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.containers.container import Container
from chaos.containers.engine import Engine
from fakes.script import ASSISTANT_ID

pytestmark = pytest.mark.xdist_group("containers")
"""One after the other: a project of the compose file has a machine of two cores to do already."""


def test_the_hardened_coordinator_passes_with_every_fault_of_containers(compose: Any, sh: Any) -> None:
    """A real OOM kill, crashes, a cut network, a killed store: all of them happen, are healed, and the verdict is pass."""
    plans = ("replica-restart", "kill-after-commit", "pause", "network-cut", "store-killed", "store-partition", "rolling-restart")
    words = [word for plan in plans for word in ("--plan", plan)]
    done = compose.gate("--gateway", "keyed", "--turns", "42", "--seed", "5", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    events = compose.history()
    killed = [e for e in events if e["kind"] == "replica_exited"]
    assert killed
    assert all((e["code"], e["reason"]) == (137, "OOMKilled") for e in killed)
    injected = {e["fault"] for e in events if e["kind"] == "fault_injected"}
    assert {"kill", "pause", "disconnect", "proxy_down"} <= injected
    assert not [e for e in events if e["kind"] == "fault_failed"]
    states = sh("docker", "ps", "-a", "--format", "{{.State}}", "--filter", f"label=com.docker.compose.project={compose.name}")
    assert set(states.stdout.split()) == {"running"}


@pytest.mark.parametrize(("coordinator", "gateway", "code"), [("hardened", "keyed", 0), ("as_deployed", "keyless", 1)])
def test_the_verdict_is_that_of_a_gate_on_processes(
    project: Any, sh: Any, redis_program: str, tmp_path: Path, coordinator: str, gateway: str, code: int
) -> None:
    """The same turns, seed and plans, in containers by the script, and on processes: exit code, and the three verdicts."""
    plans = ("stale-polls", "commit-then-500", "kill-after-commit")
    words = ("--gateway", gateway, "--turns", "12", "--seed", "5", *(word for plan in plans for word in ("--plan", plan)))
    here = project.script("gate", *words, COORDINATOR_COMMAND=f"coordinators.{coordinator}")
    own = ("--coordinator", coordinator, "--store", "redis", "--report-dir", str(tmp_path))
    there = sh(sys.executable, "-m", "anechoic", "gate", *own, *words)
    assert (here.returncode, there.returncode) == (code, code), here.stdout[-2000:] + here.stderr[-2000:] + there.stdout[-2000:]
    one, other = (json.loads((folder / "verdict.json").read_text()) for folder in (project.report, tmp_path))
    for name in ("safe", "live", "honest", "verdict"):
        assert one[name] == other[name]
    assert one["counts"]["turns"] == other["counts"]["turns"] == 12


def test_each_fault_is_seen_from_outside_and_a_bystander_is_never_touched(boxes: Any, sh: Any) -> None:
    """OOM kill, kill, pause, stop, network: on the container that was named, and on no other."""

    def state(name: str) -> dict[str, Any]:
        return dict(json.loads(sh("docker", "inspect", name).stdout)[0]["State"])

    sleeper = "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(0)); time.sleep(600)"
    mine, bystander = boxes(sleeper), boxes(sleeper)
    before = state(bystander)

    async def story() -> None:
        engine = Engine()
        try:
            (found,) = await engine.find(names=[mine])
            container = Container("one", engine, found, ours=True)
            await container.start()
            await container.kill_by_oom()
            assert (container.code, state(mine)["OOMKilled"]) == (137, True)
            await container.start()
            assert json.loads(sh("docker", "inspect", mine).stdout)[0]["HostConfig"]["Memory"] == 128 * 1024 * 1024
            assert sorted(await asyncio.gather(container.pause(), container.pause())) == [False, True]
            assert state(mine)["Paused"]
            await container.resume()
            assert not state(mine)["Paused"]
            networks = await container.disconnect()
            assert not json.loads(sh("docker", "inspect", mine).stdout)[0]["NetworkSettings"]["Networks"]
            await container.reconnect()
            assert list(json.loads(sh("docker", "inspect", mine).stdout)[0]["NetworkSettings"]["Networks"]) == networks.split(", ")
            await container.kill()
            assert (container.code, state(mine)["OOMKilled"]) == (137, False)
            assert not await container.pause(), "what has ended cannot be paused, and that is no failure of the engine"
            await container.start()
            await asyncio.sleep(1)  # its handler is there by then
            assert await container.terminate(5)
            assert container.code == 0
            await container.give_back()
            assert state(mine)["Running"]
        finally:
            await engine.aclose()

    asyncio.run(story())
    assert state(bystander) == before


def test_the_containers_of_a_service_that_run_already_are_killed_and_given_back(boxes: Any, sh: Any, tmp_path: Path) -> None:
    """All of them are instances; they know the proxies before, and run again at the end."""
    ports = free_ports(8)
    names = [
        boxes(
            "import runpy; runpy.run_module('coordinators.hardened', run_name='__main__')", "--network", "host", "--user", "0",
            "-v", f"{tmp_path}:/state", "--label", "com.docker.compose.service=box-coordinator",
            *(word for key, value in {
                "PORT": ports + 6 + number, "INSTANCE_ID": f"coordinator-{number + 1}", "STATE_DIR": "/state",
                "ASSISTANTS_BASE_URL": f"http://127.0.0.1:{ports + 3 * number}/v1", "ASSISTANT_ID": ASSISTANT_ID,
                "TOOL_GATEWAY_URL": f"http://127.0.0.1:{ports + 3 * number + 1}",
                "TOOL_RESULTS_URL": f"http://127.0.0.1:{ports + 3 * number + 2}/tool-results",
                "STORE_URL": "sqlite:////state/store.db", "POLL_INTERVAL": "0.05", "TOOL_TIMEOUT": "0.5", "CLIENT_TIMEOUT": "2",
            }.items() for word in ("-e", f"{key}={value}")),
        )
        for number in range(2)
    ]
    file = tmp_path / "anechoic.toml"
    file.write_text(f'gateway = "keyed"\nbase_port = {ports}\n[coordinator]\nservice = "box-coordinator"\ntools = "async"\n')
    words = ("--plan", "kill-after-commit", "--turns", "6", "--report-dir", str(tmp_path / "report"))
    done = sh(sys.executable, "-m", "anechoic", "--config", str(file), "gate", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert verdict["reached"]["instances ended by a fault"] > 0
    assert "coordinator-2" in (tmp_path / "report" / "history.jsonl").read_text()
    for name in names:
        assert json.loads(sh("docker", "inspect", name).stdout)[0]["State"]["Running"]


def free_ports(count: int) -> int:
    """The first of so many ports in a row of which none is taken."""
    for first in range(21000, 30000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")


def test_locust_workers_in_containers_make_one_history_and_one_verdict(project: Any) -> None:
    """The harness is the master, two workers are containers of the profile `load`."""
    done = project.script(
        "load", "--remote-workers", "2", "--gateway", "keyed", "--rate", "2", "--for", "10s", "--plan", "none", "--seed", "5",
        COMPOSE_PROFILES="load", LOAD_WORKERS="2",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((project.report / "load.json").read_text())
    side = found["sides"][0]
    assert found["workers"] == 2
    assert side["verdict"]["verdict"] == "pass"
    assert side["verdict"]["counts"]["turns"] == sum(side["series"]["due"]) > 5
    assert {row["name"] for row in side["http"]} >= {"POST /turns", "run lifecycle"}
    assert (project.report / "load.html").exists()
    assert not project.left()
