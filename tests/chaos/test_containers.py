"""The chamber in containers: the compose file as it is used, the engine's faults as they are seen from outside, and what is said
when something is not there. Needs a container engine (DOCKER_HOST), `docker`, and Compose v2."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.containers.container import Container
from chaos.containers.engine import Engine

ROOT = Path(__file__).parents[2]
COMPOSE = [*shlex.split(os.environ.get("COMPOSE", "docker compose")), "-f", str(ROOT / "docker-compose.chaos.yml")]
Compose = Callable[..., "subprocess.CompletedProcess[str]"]


def sh(*words: str, timeout: float = 300, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return what came out."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, cwd=ROOT,
    )


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The images of the compose file, built of what is here. Skipped where there is no engine."""
    if shutil.which("docker") is None or sh("docker", "info").returncode:
        pytest.skip("no container engine answers: set DOCKER_HOST, and PYTHON_IMAGE where no registry can be reached")
    made = sh(str(ROOT / "scripts" / "images"), timeout=600)
    assert made.returncode == 0, made.stderr
    return dict(word.split("=", 1) for word in made.stdout.split() if "=" in word)


@pytest.fixture(scope="module")
def compose(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """`compose(*words)` in a project of its own, which is gone afterwards; `compose.report` is its report folder."""
    report = tmp_path_factory.mktemp("report")
    report.chmod(0o777)
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    environ = {
        **images, "ANECHOIC_PROJECT": f"anechoic-test-{uuid.uuid4().hex[:6]}", "REPORT_DIR": str(report), "DOCKER_SOCKET": socket,
        "DOCKER_GID": str(Path(socket).stat().st_gid), "ASSISTANTS_PORT": "0", "GATEWAY_PORT": "0",
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return sh(*COMPOSE, *words, **environ, **more)

    run.report = report  # type: ignore[attr-defined]
    run.project = environ["ANECHOIC_PROJECT"]  # type: ignore[attr-defined]
    yield run
    down = run("--profile", "*", "down", "--volumes", "--timeout", "1")
    assert down.returncode == 0, down.stderr
    left = sh("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={environ['ANECHOIC_PROJECT']}")
    assert left.stdout == ""


def history(compose: Compose) -> list[dict[str, Any]]:
    """The events of the latest run."""
    lines = (compose.report / "history.jsonl").read_text().splitlines()  # type: ignore[attr-defined]
    return [json.loads(line) for line in lines[1:]]


def test_the_hardened_coordinator_passes_with_every_fault_of_containers(compose: Compose) -> None:
    """A real OOM kill, crashes, a cut network, a killed store: all of them happen, are healed, and the verdict is pass."""
    plans = ("replica-restart", "kill-after-commit", "pause", "network-cut", "store-killed", "store-partition", "rolling-restart")
    words = [word for plan in plans for word in ("--plan", plan)]
    done = compose("run", "--rm", "-T", "harness", "gate", "--gateway", "keyed", "--turns", "42", "--seed", "5", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    events = history(compose)
    killed = [e for e in events if e["kind"] == "replica_exited"]
    assert killed
    assert all((e["code"], e["reason"]) == (137, "OOMKilled") for e in killed)
    injected = {e["fault"] for e in events if e["kind"] == "fault_injected"}
    assert {"kill", "pause", "disconnect", "proxy_down"} <= injected
    assert not [e for e in events if e["kind"] == "fault_failed"]
    states = sh("docker", "ps", "-a", "--format", "{{.State}}", "--filter", f"label=com.docker.compose.project={compose.project}")  # type: ignore[attr-defined]
    assert set(states.stdout.split()) == {"running"}


def test_the_deployed_design_fails_as_it_does_on_processes(compose: Compose) -> None:
    """The exit code of the harness comes through."""
    words = ("gate", "--gateway", "keyless", "--turns", "20", "--seed", "5", "--plan", "stale-polls")
    done = compose("run", "--rm", "-T", "harness", *words, COORDINATOR_COMMAND="coordinators.as_deployed")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "SAFE fail" in done.stdout
    there = sh(sys.executable, "-m", "anechoic", *words, "--coordinator", "as_deployed", "--store", "redis")
    assert there.returncode == 1
    assert "SAFE fail" in there.stdout


def test_a_container_that_ends_at_once_is_an_error_with_its_last_lines(compose: Compose) -> None:
    """Exit code 2, the reason, and what it said."""
    done = compose(
        "run", "--rm", "-T", "harness", "gate", "--gateway", "keyed", "--turns", "2", "--plan", "none", COORDINATOR_COMMAND="no.such.module",
    )
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"coordinator-\d ended with exit code 1 before it was ready", done.stderr)
    assert "No module named 'no'" in done.stderr or "No module named no" in done.stderr


def test_nothing_in_the_compose_file_is_privileged(compose: Compose) -> None:
    """Every service: no root, no capabilities, a root file system that is read-only, ports on loopback only."""
    shown = compose("--profile", "*", "config", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    services = json.loads(shown.stdout)["services"]
    assert {"fake-assistants", "fake-gateway", "llm-router", "serve-llm-3", "toxiproxy", "redis", "coordinator-3", "harness"} <= set(services)
    for name, service in services.items():
        assert not service["user"].startswith(("0", "root")), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged"), name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name


@pytest.fixture
def boxes(images: dict[str, str]) -> Iterator[Callable[..., str]]:
    """`boxes(program)` starts a container that runs a Python program; its name. All are gone afterwards."""
    names: list[str] = []

    def start(program: str, *options: str) -> str:
        name = f"anechoic-box-{uuid.uuid4().hex[:8]}"
        names.append(name)
        words = ("docker", "run", "-d", "--name", name, "--memory", "128m", "--memory-swap", "128m", *options)
        made = sh(*words, "--entrypoint", "python3", images["ANECHOIC_IMAGE"], "-c", program)
        assert made.returncode == 0, made.stderr
        return name

    yield start
    for name in names:
        sh("docker", "rm", "-f", name)


def state(name: str) -> dict[str, Any]:
    """The engine's state of a container."""
    return dict(json.loads(sh("docker", "inspect", name).stdout)[0]["State"])


def test_each_fault_is_seen_from_outside_and_a_bystander_is_never_touched(boxes: Callable[..., str]) -> None:
    """OOM kill, kill, pause, stop, network: on the container that was named, and on no other."""
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
            await container.pause()
            assert state(mine)["Paused"]
            await container.resume()
            assert not state(mine)["Paused"]
            networks = await container.disconnect()
            assert not json.loads(sh("docker", "inspect", mine).stdout)[0]["NetworkSettings"]["Networks"]
            await container.reconnect()
            assert list(json.loads(sh("docker", "inspect", mine).stdout)[0]["NetworkSettings"]["Networks"]) == networks.split(", ")
            await container.kill()
            assert (container.code, state(mine)["OOMKilled"]) == (137, False)
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


def test_a_container_that_is_not_there_is_named_with_those_that_run(boxes: Callable[..., str]) -> None:
    """Exit code 2 and what could have been meant; nothing is started."""
    boxes("import time; time.sleep(600)")
    done = sh(sys.executable, "-m", "anechoic", "gate", "--container", "no-such-one", "--turns", "2")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No such container: no-such-one. Running: " in done.stderr


def test_without_an_engine_it_says_so() -> None:
    """Exit code 2, where it looked, and what to do."""
    began = time.monotonic()
    done = sh(sys.executable, "-m", "anechoic", "gate", "--container", "mine", "--turns", "2", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 2
    assert "no container engine answers" in done.stderr
    assert "DOCKER_HOST" in done.stderr
    assert time.monotonic() - began < 30
