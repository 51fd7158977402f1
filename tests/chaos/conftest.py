"""What tests in containers need: an engine, the images of the compose file, a project, and single containers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMPOSER = shlex.split(os.environ.get("COMPOSE", "docker compose"))
COMPOSE = [*COMPOSER, "-f", str(ROOT / "docker-compose.chaos.yml")]
Done = subprocess.CompletedProcess[str]


def run(*words: str, timeout: float = 300, **environ: str) -> Done:
    """Run a command at the top of the repository; what came out."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, cwd=ROOT,
    )


@pytest.fixture(scope="session")
def sh() -> Callable[..., Done]:
    """`sh(*words, **environ)` runs a command."""
    return run


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The images of the compose file, built of what is here. Skipped where there is no engine."""
    if shutil.which("docker") is None or run("docker", "info").returncode:
        pytest.skip("no container engine answers: set DOCKER_HOST, and PYTHON_IMAGE where no registry can be reached")
    made = run(str(ROOT / "scripts" / "images"), timeout=600)
    assert made.returncode == 0, made.stderr
    return dict(word.split("=", 1) for word in made.stdout.split() if "=" in word)


@pytest.fixture(scope="session")
def composer() -> str:
    """The version of Compose. Skipped where there is none."""
    try:
        shown = run(*COMPOSER, "version", "--short")
    except FileNotFoundError:
        shown = None
    if shown is None or shown.returncode:
        pytest.skip("no Compose v2: install its plugin for docker, or name its program in COMPOSE")
    return shown.stdout.strip()


class Project:
    """A project of the compose file that is a test's own; called with the words of a command of Compose."""

    def __init__(self, images: dict[str, str], report: Path) -> None:
        report.chmod(0o777)
        socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        self.name = f"anechoic-test-{uuid.uuid4().hex[:6]}"
        self.report = report
        self.environ = {
            **images, "ANECHOIC_PROJECT": self.name, "REPORT_DIR": str(report), "DOCKER_SOCKET": socket,
            "DOCKER_GID": str(Path(socket).stat().st_gid), "ASSISTANTS_PORT": "0", "GATEWAY_PORT": "0",
        }

    def __call__(self, *words: str, **environ: str) -> Done:
        return run(*COMPOSE, *words, **{**self.environ, **environ})

    def gate(self, *words: str, **environ: str) -> Done:
        """A gate by the harness of the project."""
        return self("run", "--rm", "-T", "harness", "gate", *words, **environ)

    def script(self, *words: str, **environ: str) -> Done:
        """A command of the harness, by the script that takes the project down again."""
        return run(str(ROOT / "scripts" / "containers"), *words, **{**self.environ, **environ})

    def history(self) -> list[dict[str, Any]]:
        """The events of the latest run, as far as it has come."""
        try:
            lines = (self.report / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[1:] if line.endswith("}")]

    def left(self) -> str:
        """What the engine still has of the project: containers, networks, volumes."""
        words = ("--filter", f"label=com.docker.compose.project={self.name}")
        kinds = (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q"))
        return "".join(run("docker", *kind, *words).stdout for kind in kinds)


@pytest.fixture(scope="session")
def compose(composer: str, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that tests share, started by the first of them and gone after the last."""
    project = Project(images, tmp_path_factory.mktemp("report"))
    yield project
    down = project("--profile", "*", "down", "--volumes", "--timeout", "1")
    assert down.returncode == 0, down.stderr
    assert project.left() == ""


@pytest.fixture
def project(composer: str, images: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    """A project of one test, which the test itself is to leave nothing of."""
    (tmp_path / "report").mkdir()
    made = Project(images, tmp_path / "report")
    yield made
    left = made.left()
    if left:
        made("--profile", "*", "down", "--volumes", "--timeout", "1")
    assert left == ""


@pytest.fixture
def boxes(images: dict[str, str]) -> Iterator[Callable[..., str]]:
    """`boxes(program, *options)` starts a container that runs a Python program; its name. All are gone afterwards."""
    names: list[str] = []

    def start(program: str, *options: str) -> str:
        name = f"anechoic-box-{uuid.uuid4().hex[:8]}"
        names.append(name)
        words = ("docker", "run", "-d", "--name", name, "--memory", "128m", "--memory-swap", "128m", *options)
        made = run(*words, "--entrypoint", "python3", images["ANECHOIC_IMAGE"], "-c", program)
        assert made.returncode == 0, made.stderr
        return name

    yield start
    for name in names:
        run("docker", "rm", "-f", name)
