"""What is said in containers when something is not there, not well, or gone: exit code 2, the last lines of its log, and nothing
left running. Needs a container engine (DOCKER_HOST), `docker`, and Compose v2."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import socket
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("containers")
CALM = ("--gateway", "keyed", "--plan", "none", "--turns")
FOREVER = "import time; print('warming up', flush=True); time.sleep(600)"


# --- in a project of the compose file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "removed", "said"),
    [
        ("redis", True, "the Redis of this run ended by itself with exit code 137"),
        ("fake-gateway", False, "fake-gateway has ended.*a harness connects to"),
        ("toxiproxy", False, 'toxiproxy has ended by itself; the last lines of its log:.*"message":'),
    ],
)
def test_a_part_that_is_gone_for_good(compose: Any, sh: Any, service: str, removed: bool, said: str) -> None:
    """In the middle of a run the engine loses it: the run ends soon, and says which part, and its last lines."""
    (compose.report / "history.jsonl").unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(compose.gate, *CALM, "400")
        while not running.done() and not any(event["kind"] == "effect_committed" for event in compose.history()):
            time.sleep(0.1)
        name = f"{compose.name}-{service}-1"
        assert sh("docker", *(("rm", "-f") if removed else ("kill",)), name).returncode == 0
        done = running.result(60)
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(said, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    assert compose.history()[-1]["kind"] != "quiesce_ended"


def test_a_coordinator_that_ends_at_once(compose: Any) -> None:
    """Its exit code and what it said."""
    done = compose.gate(*CALM, "2", COORDINATOR_COMMAND="no.such.module")
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"coordinator-\d ended with exit code 1 before it was ready", done.stderr)
    assert "No module named 'no'" in done.stderr or "No module named no" in done.stderr


def test_a_service_that_starts_again_and_again(compose: Any) -> None:
    """A replica that cannot start is restarted by the engine's policy for ever; the gate does not wait for ever."""
    done = compose.gate(*CALM, "2", LATENCY_PROFILE="no-such")
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"serve-llm-\d ended with exit code 2 before it was up", done.stderr)
    assert "argument --profile: invalid choice: 'no-such'" in done.stderr


# --- with the script that takes the project down again --------------------------------------------------------------------


@contextlib.contextmanager
def taken() -> Iterator[str]:
    """A port of loopback at which somebody listens already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def test_an_image_that_is_missing(project: Any) -> None:
    """Nothing is started."""
    done = project.script("gate", COORDINATOR_IMAGE="no.such.host/image:1")
    assert done.returncode == 2, done.stderr
    assert "could not be started" in done.stderr
    assert "no.such.host" in done.stderr


def test_a_port_that_is_taken(project: Any) -> None:
    """What was started before is taken down again."""
    with taken() as port:
        done = project.script("gate", GATEWAY_PORT=port)
    assert done.returncode == 2, done.stderr
    assert f"127.0.0.1:{port}: bind: address already in use" in done.stderr


def test_the_script_without_an_engine(composer: str, sh: Any, tmp_path: Path) -> None:
    """It says what it looked for."""
    done = sh("scripts/containers", "gate", DOCKER_HOST="unix:///nowhere/docker.sock", REPORT_DIR=str(tmp_path / "report"))
    assert done.returncode == 2, done.stderr
    assert "unix:///nowhere/docker.sock" in done.stderr
    assert "DOCKER_HOST" in done.stderr


# --- from the host ----------------------------------------------------------------------------------------------------


def gate(sh: Any, *words: str, **environ: str) -> Any:
    """A gate of containers that run already."""
    return sh(sys.executable, "-m", "anechoic", "gate", "--turns", "2", "--plan", "none", *words, **environ)


def test_a_container_that_is_not_there(boxes: Any, sh: Any) -> None:
    """It is named, with those that run."""
    boxes(FOREVER)
    done = gate(sh, "--container", "no-such-one")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No such container: no-such-one. Running: " in done.stderr


def test_a_service_that_is_not_there(boxes: Any, sh: Any) -> None:
    """The nearest one, where it is of another file, and how many there are."""
    boxes(FOREVER, "--label", "com.docker.compose.service=box-app", "--label", "com.docker.compose.project.config_files=/x/a.yml")
    done = gate(sh, "--container", "com.docker.compose.service=box-apq")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "unknown service 'box-apq': did you mean 'box-app'?" in done.stderr
    service = ("--container", "com.docker.compose.service=box-app")
    done = gate(sh, *service, "--container", "com.docker.compose.project.config_files=/x/b.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "The service box-app is there, of /x/a.yml" in done.stderr
    done = gate(sh, *service, "--instances", "2", "--container-port", "8080")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 containers have the label com.docker.compose.service=box-app, and 2 are asked for" in done.stderr


def test_a_container_that_restarts_in_a_loop(boxes: Any, sh: Any) -> None:
    """Whether it is up for a moment or not: its exit code, and its last lines."""
    name = boxes("raise SystemExit('no config file')", "--restart", "always")
    done = gate(sh, "--container", name, "--container-port", "8080")
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(r"starts again and again, and ended with exit code 1|ended with exit code 1 before it was ready", done.stderr)
    assert "no config file" in done.stderr


def test_a_container_that_never_gets_ready(boxes: Any, sh: Any) -> None:
    """Where it was asked, what was seen, and its last lines; it is left as it was found."""
    name = boxes(FOREVER)
    done = gate(sh, "--container", name, "--container-port", "8080", "--ready-timeout", "1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "coordinator-1 was not ready after 1 s; last seen at http://" in done.stderr
    assert "| warming up" in done.stderr
    assert json.loads(sh("docker", "inspect", name).stdout)[0]["State"]["Running"]


def test_a_port_of_the_proxies_that_is_taken(boxes: Any, sh: Any) -> None:
    """Which one, and for what it was."""
    with taken() as port:
        done = gate(sh, "--container", boxes(FOREVER), "--container-port", "8080", "--base-port", port)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"127.0.0.1:{port}: Address already in use" in done.stderr
    assert "anechoic-assistants-coordinator-1" in done.stderr


def test_an_engine_that_does_not_let_the_harness_in(images: dict[str, str], sh: Any) -> None:
    """In a container the socket is of a group that the harness is not in."""
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    words = ("--rm", "-v", f"{path}:/run/docker.sock", "-e", "DOCKER_HOST=unix:///run/docker.sock", images["ANECHOIC_IMAGE"])
    done = sh("docker", "run", *words, "anechoic", "gate", "--container", "mine", "--turns", "2")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no container engine answers" in done.stderr
    assert "Permission denied" in done.stderr
    assert "DOCKER_GID" in done.stderr


# --- an engine that is none, which needs no engine --------------------------------------------------------------------


class Refusing(http.server.BaseHTTPRequestHandler):
    """An engine that tells its version, and refuses the rest."""

    protocol_version = "HTTP/1.1"
    lets_in = True
    lets_listen = True

    def do_GET(self) -> None:
        """Answer."""
        if self.lets_listen and "/events" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(5)
            return
        known = self.lets_in and ("version" in self.path or "_ping" in self.path)
        body = json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12"} if known else {"message": "denied by policy"}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A Unix socket has no address."""
        return "here"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """HTTP on a Unix socket."""

    daemon_threads = True


@pytest.mark.parametrize(
    ("lets_in", "lets_listen", "said"),
    [
        (False, False, 'no container engine answers: .*403 .*denied by policy.*DOCKER_HOST'),
        (True, False, 'the container engine refused the stream of its events with 403: .*denied by policy'),
        (True, True, 'the container engine refused GET .*/containers/mine/json with 403: denied by policy'),
    ],
)
def test_an_engine_that_refuses(sh: Any, lets_in: bool, lets_listen: bool, said: str) -> None:
    """At once, the events, or a container."""
    with tempfile.TemporaryDirectory() as folder:  # short: the path of a socket is limited
        path = f"{folder}/docker.sock"
        handler = type("Handler", (Refusing,), {"lets_in": lets_in, "lets_listen": lets_listen})
        with Server(path, handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            done = gate(sh, "--container", "mine", DOCKER_HOST=f"unix://{path}")
            server.shutdown()
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(said, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr


def test_no_engine_at_all(sh: Any) -> None:
    """Where it looked, and what to do."""
    began = time.monotonic()
    done = gate(sh, "--container", "mine", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 2
    assert "no container engine answers" in done.stderr
    assert "DOCKER_HOST" in done.stderr
    assert time.monotonic() - began < 30
