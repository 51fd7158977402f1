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
