"""Bad input on the command line: each mistake has its message and its exit code, and leaves nothing running."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import Result

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gate"], "give one of --coordinator, --command, --url or --container; seen: none of them"),
        (["gate", "--coordinator", "hardened", "--command", "x"], "seen: --coordinator and --command"),
        (["gate", "--coordinator", "hardend"], "unknown coordinator 'hardend': did you mean 'hardened'?"),
        (["gate", "--command", "no-such-program --x"], "no program 'no-such-program' on PATH"),
        (["gate", "--command", "'unbalanced"], "cannot be split into words"),
        (["gate", "--url", "localhost:80"], "'localhost:80' is no http:// address"),
        (["gate", "--url", "http://127.0.0.1:1", "--plan", "kill-after-commit"], "kills or pauses the coordinator"),
        (["gate", "--coordinator", "hardened", "--gateway", "keyles"], "did you mean 'keyless'?"),
        (["gate", "--coordinator", "hardened", "--plan", "stale-poll"], "did you mean 'stale-polls'?"),
        (["gate", "--coordinator", "hardened", "--plan", "missing.toml"], "plan file missing.toml cannot be read"),
        (["gate", "--coordinator", "hardened", "--env", "NOEQUALS"], "--env 'NOEQUALS' is not of the form NAME=VALUE"),
        (["gate", "--coordinator", "hardened", "--turns", "0"], "--turns 0 must be at least 1"),
        (["gate", "--coordinator", "hardened", "--instances", "0"], "instances=0 must be at least 1"),
        (["gate", "--coordinator", "hardened", "--repeat-submit", "404"], "unknown --repeat-submit '404'"),
        (["gate", "--coordinator", "hardened", "--demand", "C1,C2"], "cannot be demanded together at gateway profile 'keyless'"),
        (["gate", "--coordinator", "hardened", "--demand", "exactly_one_efect"], "did you mean 'exactly_one_effect'?"),
        (["contracts", "--gateway", "keyless", "--demand", "exactly_one_effect"], "look the same to the sender"),
        (["plans", "stale"], "unknown plan 'stale'"),
        (["check", "nowhere.jsonl"], "no such file: nowhere.jsonl"),
        (["gate", "--no-such-option"], "No such option"),
    ],
)
def test_a_mistake_is_invalid_and_says_what_to_do(inside: Inside, words: list[str], message: str) -> None:
    """Exit code 2, the reason on standard error, no traceback."""
    done = inside(*words)
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_of_the_simulation_is_refused_on_the_wire(inside: Inside, tmp_path: Path) -> None:
    """Nothing is started for a plan that this world cannot carry out."""
    (tmp_path / "jump.toml").write_text('[[rules]]\nwhen = { event = "tool_requested" }\ndo = { fault = "clock_jump" }\n')
    done = inside("gate", "--coordinator", "hardened", "--plan", "jump.toml")
    assert done.exit_code == 2
    assert "clock_jump, which only the simulation can do" in done.stderr


def test_an_unreachable_toxiproxy_is_named(anechoic: Run) -> None:
    """--toxiproxy and TOXIPROXY_URL are tried before anything is started."""
    for words, environ in ((["--toxiproxy", "http://127.0.0.1:9"], {}), ([], {"TOXIPROXY_URL": "http://127.0.0.1:9"})):
        done = anechoic("gate", "--coordinator", "hardened", *words, **environ)
        assert done.returncode == 2
        assert "http://127.0.0.1:9" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_command_that_exits_shows_its_last_words(anechoic: Run) -> None:
    """The command, the exit code, and the end of its error output."""
    script = "import sys; print('line one'); print('no database', file=sys.stderr); sys.exit(7)"
    done = anechoic("gate", "--command", f'{sys.executable} -c "{script}"', "--turns", "1")
    assert done.returncode == 2
    assert "ended with exit code 7 before it was ready" in done.stderr
    assert "| no database" in done.stderr


def test_a_command_that_never_gets_ready_is_given_up(anechoic: Run) -> None:
    """A coordinator on the wrong port is told where it listens; nothing of it is left."""
    script = "import http.server; http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler).serve_forever()"
    done = anechoic("gate", "--command", f'{sys.executable} -c "{script}"', "--turns", "1", "--ready-timeout", "2")
    assert done.returncode == 2
    assert "was not ready after 2 s" in done.stderr
    assert "does it read the environment variable PORT?" in done.stderr
    assert not [p for p in psutil.process_iter(["cmdline"]) if script in (p.info["cmdline"] or [])]


def test_a_failing_setup_command_shows_its_output(anechoic: Run) -> None:
    """It runs before the coordinators, in their environment."""
    done = anechoic("gate", "--coordinator", "hardened", "--setup-command", "echo $STORE_URL; exit 4", "--turns", "1")
    assert done.returncode == 2
    assert "the setup command ended with exit code 4" in done.stderr
    assert "sqlite:////" in done.stderr


@pytest.mark.parametrize("command", [["serve", "--port"], ["proxy", "--port"]])
def test_a_taken_port_is_named(anechoic: Run, command: list[str]) -> None:
    """The port and the reason, exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = anechoic(*command, port)
    assert done.returncode == 2, done.stderr
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def header(**more: object) -> str:
    return json.dumps({"format_version": 1, "gateway": "keyless", **more}) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty or cut off in its first line"),
        ("not json\n", "line 1: not JSON"),
        ("[]\n", "line 1: expected a JSON object"),
        ('{"format_version": 99}\n', "format_version is 99, this version of anechoic reads 1"),
        (header() + '{"seq":1,"t":0,"kind":"tool_request"}\n', "line 2: unknown kind of event 'tool_request'"),
        (header() + '{"seq":1,"t":0,"kind":"tool_requested"}\n', "line 2: event of kind 'tool_requested'"),
        (header() + '{"seq":2,"t":0,"kind":"quiesce_started","budget":1}\n', "line 2: seq is 2, expected 1"),
        (header() + '{"seq":1,\n{}\n', "line 2: not JSON"),
    ],
)
def test_a_malformed_history_names_the_line(inside: Inside, tmp_path: Path, text: str, message: str) -> None:
    """What was seen, in which line."""
    (tmp_path / "history.jsonl").write_text(text)
    done = inside("check", "history.jsonl")
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_empty_history_is_never_green(inside: Inside, tmp_path: Path) -> None:
    """A header without events is vacuous: exit code 3."""
    (tmp_path / "history.jsonl").write_text(header())
    done = inside("check", "history.jsonl")
    assert done.exit_code == 3
    assert "vacuous" in done.stdout
