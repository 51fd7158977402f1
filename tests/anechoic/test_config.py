"""Configuration: what a file says, what the command line says over it, what is refused, and what `anechoic init` writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic.commands import defaults
from anechoic.commands.config import document, flat
from anechoic.config import Config, ConfigError, load

Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]

FULL = """
gateway = "keyed"
plans = "stale-polls"
demand = ["C1", "C7"]
turns = 7

[coordinator]
command = "python3 app.py"
environment = { A = "1" }

[budgets]
tool_timeout = "2s"
total = "1m"
"""


def written(tmp_path: Path, text: str, name: str = "anechoic.toml") -> Path:
    """A configuration file."""
    path = tmp_path / name
    path.write_text(text)
    return path


def test_what_is_written_stands_for_options(tmp_path: Path) -> None:
    """By the names of the options, and nothing that was not written."""
    assert defaults.of(written(tmp_path, FULL), "gate", ["anechoic", "gate"]) == {
        "gateway": ["keyed"], "plan": ["stale-polls"], "demand": "C1,C7", "turns": 7, "command": "python3 app.py",
        "env": ["TOOL_TIMEOUT=2", "A=1"], "budget": "60s", "ready_timeout": 60.0, "turn_budget": 30.0, "quiesce": 20.0,
    }


def test_the_command_line_says_what_is_tested_where_it_says_it(tmp_path: Path) -> None:
    """One way takes the place of another; a search draws its own plans."""
    file = written(tmp_path, FULL)
    assert "command" not in defaults.of(file, "gate", ["anechoic", "gate", "--coordinator=hardened"])
    assert "plan" not in defaults.of(file, "gate", ["anechoic", "gate", "--examples", "5"])
    assert defaults.of(file, "chaos", ["anechoic", "chaos"])["gateway"] == "keyed"


def test_a_table_of_pyproject_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """anechoic.toml comes first; a pyproject.toml without the table is none."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")
    assert load() == (Config(), None)
    written(tmp_path, "[tool.anechoic]\nturns = 3\n", "pyproject.toml")
    config, label = load()
    assert (config.turns, label) == (3, "pyproject.toml [tool.anechoic]")
    written(tmp_path, "turns = 4\n")
    assert load()[0].turns == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turnz = 3", "unknown key 'turnz': did you mean 'turns'?"),
        ("turns = '3'", "turns: '3' must be a whole number"),
        ("turns = 0", "turns: 0 must be at least 1"),
        ("gateway = 'keyles'", "did you mean 'keyless'?"),
        ("plans = ['stale']", "plans.1: unknown plan 'stale'"),
        ("demand = 'C99'", "unknown contract 'C99'"),
        ("[coordinator]\ncomand = 'x'", "coordinator: unknown key 'comand': did you mean 'command'?"),
        ("[coordinator]\ncommand = 'x'\nname = 'hardened'", "command and name beside each other; give one of"),
        ("[coordinator]\nurl = 'ftp://x'", "is no http:// address"),
        ("[coordinator]\nstore = 'postgres'", "is no store: expected sqlite"),
        ("[budgets]\ntotal = 'soon'", "'soon' is no time; give for example 90s"),
        ("budgets = 3", "budgets: 3 must be a table"),
        ("turns =", "is not TOML"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_word(tmp_path: Path, text: str, message: str) -> None:
    """Before anything is started."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_mistake_ends_a_gate_with_exit_code_2(anechoic: Run, tmp_path: Path) -> None:
    """All of them at once; a file that is named and not there is one."""
    written(tmp_path, "turnz = 3\ngateway = 'keyles'")
    done = anechoic("gate", "--coordinator", "hardened")
    assert (done.returncode, "2 mistakes" in done.stderr) == (2, True)
    assert "no such file: nowhere.toml" in anechoic("--config", "nowhere.toml", "gate").stderr


def test_the_effective_configuration_is_shown_with_its_origins(anechoic: Run, tmp_path: Path) -> None:
    """Each key, its value, and whether the file or the default says so."""
    written(tmp_path, FULL)
    shown = anechoic("config").stdout
    assert "coordinator.command" in shown
    lines = {line.split()[0]: line.split()[-1] for line in shown.splitlines()[2:]}
    assert (lines["turns"], lines["in_flight"], lines["budgets.total"]) == ("anechoic.toml", "default", "anechoic.toml")
    assert json.loads(anechoic("config", "--json").stdout)["values"]["budgets.tool_timeout"] == 2.0


@pytest.mark.parametrize("language", ["python", "node"])
def test_what_init_writes_passes_a_gate_without_faults(anechoic: Run, tmp_path: Path, language: str) -> None:
    """Two files, under 60 lines each but for comments, never written over others."""
    if language == "node" and shutil.which("node") is None:
        pytest.skip("no node on PATH: the stub for Node is not tried")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert anechoic("init", "--language", language).returncode == 0
    for file in tmp_path.iterdir():
        assert len(file.read_text().splitlines()) < 60, file
    done = anechoic("gate", "--plan", "none", "--turns", "5", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    again = anechoic("init", "--language", language)
    assert again.returncode == 2
    assert "are there already; --force overwrites" in again.stderr


def test_init_sees_which_language_is_at_hand(inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package.json means Node."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.json").write_text("{}")
    assert "wrote coordinator.mjs" in inside("init").stdout
    assert inside("init", "--language", "cobol").exit_code == 2


def test_schema_and_page_are_of_the_model() -> None:
    """docs/anechoic.schema.json is `anechoic config --schema`; docs/configuration.md has every key with its sentence."""
    assert (ROOT / "docs" / "anechoic.schema.json").read_text() == document()
    page = (ROOT / "docs" / "configuration.md").read_text()
    for key, _, _ in flat(Config()):
        assert f"`{key}`" in page, key


OWN = """
plans = ["mine", "mine+stale-polls"]
[[plan]]
name = "mine"
about = "The first call's reply is late."
rules = [{ when = { event = "tool_requested" }, do = { fault = "slow", seconds = 0.1 } }]
"""


def test_a_plan_of_the_file_is_used_by_its_name(anechoic: Run, tmp_path: Path) -> None:
    """By plans, joined with others, by --plan, and in the list of all."""
    assert list(load(written(tmp_path, OWN))[0].own_plans) == ["mine"]
    done = anechoic("gate", "--coordinator", "hardened", "--gateway", "keyed", "--turns", "4", "--report-dir", "r")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "r" / "plan.json").read_text())
    assert [p["name"] for p in plan["plans"]] == ["mine", "mine+stale-polls"]
    (tmp_path / "anechoic.toml").rename(tmp_path / "other.toml")
    assert "The first call's reply is late." in anechoic("--config", "other.toml", "plans", "mine").stdout
    done = anechoic("--config", "other.toml", "gate", "--coordinator", "hardened", "--plan", "mines")
    assert "did you mean 'mine'?" in done.stderr
    assert "unknown plan 'mine'" in anechoic("gate", "--coordinator", "hardened", "--plan", "mine").stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[plan]]\nrules = []', "plan.1: `name` is missing"),
        ('[[plan]]\nname = "stale-polls"', "plan.1: another plan is called 'stale-polls' already"),
        ('[[plan]]\nname = "a"\n[[plan]]\nname = "a"', "plan.2: another plan is called 'a' already"),
        ('[[plan]]\nname = "a+b"', "plan.1: 'a+b' is no name"),
        ('[[plan]]\nname = "a"\nruls = []', "plan.1: unknown word 'ruls': did you mean 'rules'?"),
        ('[[plan]]\nname = "a"\nrules = [{ when = { event = "tool_reqested" }, do = { fault = "slow" } }]',
         "plan.1, rule 1, when: unknown event 'tool_reqested': did you mean 'tool_requested'?"),
        ('plan = "a"', "plan: 'a' must be a list"),
        ("[coordinator]\ntools = 'asynk'", "coordinator.tools: unknown value 'asynk': did you mean 'async'?"),
        ("[coordinator]\ncompose_file = 'compose.yml'", "give service as well"),
        ("[coordinator]\nservice = 'a'\nurl = 'http://x'", "url and service beside each other"),
    ],
)
def test_a_mistake_in_a_plan_or_a_service_is_told(tmp_path: Path, text: str, message: str) -> None:
    """As those in every other key."""
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text))
    assert message in str(refused.value)


def test_a_service_stands_for_its_containers(tmp_path: Path) -> None:
    """By the labels that compose gives them."""
    file = written(tmp_path, '[coordinator]\nservice = "app"\ncompose_file = ["/x/a.yml", "/x/b.yml"]\ntools = "async"')
    given = defaults.of(file, "gate", ["anechoic", "gate"])
    assert given["container"] == [
        "com.docker.compose.service=app", "com.docker.compose.project.config_files=/x/a.yml,/x/b.yml"
    ]
    assert given["tools"] == "async"
    assert not {"container", "tools"} & set(defaults.of(file, "gate", ["anechoic", "gate", "--command", "x"]))


def test_a_load_takes_the_coordinator_and_no_windows(tmp_path: Path) -> None:
    """The plans of a gate are not the windows of a load."""
    given = defaults.of(written(tmp_path, FULL), "load", ["anechoic", "load"])
    assert (given["command"], given["gateway"], "plan" in given) == ("python3 app.py", "keyed", False)


@pytest.mark.parametrize(
    ("said", "plan", "code", "message"),
    [
        ("sync", "late-callback", 2, "tools are answered at once here (--tools sync)"),
        ("sync", "none", 2, "answers GET /healthz with async_tools=true, and the configuration says tools=sync"),
        ("async", "late-callback", 0, ""),
    ],
)
def test_what_is_said_of_the_tools_is_compared_with_what_the_coordinator_says(
    anechoic: Run, said: str, plan: str, code: int, message: str
) -> None:
    """`hardened` takes its results later, and says so."""
    words = ["gate", "--coordinator", "hardened", "--gateway", "keyed", "--turns", "3"]
    done = anechoic(*words, "--plan", plan, "--tools", said)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in " ".join(done.stderr.split())
