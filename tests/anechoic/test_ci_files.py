"""The shell steps of action.yml and of the GitLab job, run as those services would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
JOB: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab-ci.yml").read_text())["anechoic"]
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


class Runner:
    """As much of an Actions runner as action.yml uses. An expression that it does not know is an error."""

    def __init__(self, folder: Path, inputs: dict[str, str]) -> None:
        assert inputs.keys() <= ACTION["inputs"].keys()
        self.folder = folder
        self.inputs = {name: given["default"] for name, given in ACTION["inputs"].items()} | inputs
        self.temp = folder / "temp"
        self.temp.mkdir()
        self.output = folder / "output"
        self.summary = folder / "summary.md"

    def value(self, text: str) -> str:
        def of(found: re.Match[str]) -> str:
            if found[1] == "github.action_path":
                return str(ROOT)
            kind, _, name = found[1].partition(".")
            assert kind == "inputs", f"unknown expression {found[0]}"
            return self.inputs[name]

        return EXPRESSION.sub(of, text)

    def run(self, step: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        assert not EXPRESSION.search(step["run"]), "an input in a script is an injection"
        environ = {
            **os.environ, "RUNNER_TEMP": str(self.temp), "GITHUB_OUTPUT": str(self.output), "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(self.summary), **{name: self.value(text) for name, text in step.get("env", {}).items()},
        }
        where = self.folder / self.value(step.get("working-directory", "."))
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=where, env=environ, text=True,
            capture_output=True, timeout=180,
        )

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


def step(name: str) -> dict[str, Any]:
    return next(s for s in STEPS if s.get("id") == name)


@pytest.fixture
def installed(tmp_path: Path) -> Runner:
    """A runner on which the install step has been; it leaves this environment's own command where the step puts one."""
    runner = Runner(tmp_path, {"arguments": "--turns 8 --plan stale-polls --seed 3", "gateway": "keyed"})
    bin_ = runner.temp / "anechoic" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "anechoic").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m anechoic "$@"\n')
    (bin_ / "anechoic").chmod(0o755)
    return runner


def test_a_passing_gate(installed: Runner) -> None:
    installed.inputs["command"] = f"{sys.executable} -m coordinators.hardened"
    done = installed.run(step("gate"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed.outputs() == {"exit-code": "0", "verdict": "pass"}
    report = installed.folder / "anechoic-report"
    assert {"report.html", "junit.xml", "verdict.json", "history.jsonl"} <= {p.name for p in report.iterdir()}
    assert "pass (exit 0)" in installed.summary.read_text()


def test_a_failing_gate_ends_with_its_exit_code_and_has_a_report(installed: Runner) -> None:
    installed.inputs |= {"command": f"{sys.executable} -m coordinators.as_deployed", "gateway": "keyless"}
    done = installed.run(step("gate"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert installed.outputs() == {"exit-code": "1", "verdict": "fail"}
    assert json.loads((installed.folder / "anechoic-report" / "verdict.json").read_text())["verdict"] == "fail"
    assert "::error title=C1 at_most_one_effect::" in done.stdout
    assert "mermaid" in installed.summary.read_text()


def test_a_gate_that_cannot_begin_is_invalid(installed: Runner) -> None:
    installed.inputs |= {"command": "no-such-program"}
    done = installed.run(step("gate"))
    assert done.returncode == 2
    assert installed.outputs() == {"exit-code": "2", "verdict": "invalid"}
    assert "no program 'no-such-program'" in done.stderr


def test_a_configuration_needs_no_inputs(installed: Runner) -> None:
    (installed.folder / "app").mkdir()
    (installed.folder / "app" / "anechoic.toml").write_text(
        'gateway = "keyed"\nturns = 5\nplans = ["none"]\n[coordinator]\nname = "hardened"\n'
    )
    installed.inputs |= {"command": "", "gateway": "", "arguments": "", "working-directory": "app", "report-dir": "out"}
    done = installed.run(step("gate"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((installed.folder / "app" / "out" / "verdict.json").read_text())["gateway"] == "keyed"


def test_no_text_of_a_workflow_becomes_a_command(installed: Runner) -> None:
    installed.inputs |= {"command": "true; touch pwned", "arguments": "--plan '$(touch pwned)'", "gateway": "`touch pwned`"}
    done = installed.run(step("gate"))
    assert done.returncode == 2
    assert not list(installed.folder.rglob("pwned"))


def test_every_input_is_used_and_every_expression_is_known() -> None:
    text = (ROOT / "action.yml").read_text()
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    assert used == ACTION["inputs"].keys()
    for output in ACTION["outputs"].values():
        (found,) = EXPRESSION.findall(output["value"])
        _, name, _, key = found.split(".")
        assert f'echo "{key}=$' in step(name)["run"]
    upload = STEPS[-1]
    assert upload["if"].startswith("always()")  # a failed gate has the report that is wanted most


@pytest.mark.slow
def test_the_install_step_installs_the_action_itself(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"extras": "redis"})
    done = runner.run(step("install"))
    assert done.returncode == 0, done.stderr
    assert subprocess.run([runner.temp / "anechoic/bin/anechoic", "--help"], capture_output=True).returncode == 0
    assert subprocess.run([runner.temp / "anechoic/bin/python", "-c", "import redis"]).returncode == 0


# --- GitLab ---------------------------------------------------------------------------------------------------------


def job(folder: Path, lines: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """The lines of a job, as the shell executor runs them."""
    known = {**JOB["variables"], "CI_PROJECT_DIR": str(folder)}
    environ = {**os.environ, **{k: os.path.expandvars(v) if "$" not in v else v for k, v in known.items()}, **variables}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)], cwd=folder, env=environ, text=True, capture_output=True, timeout=180
    )


def test_the_gitlab_job_passes_and_leaves_what_its_artifacts_name(tmp_path: Path) -> None:
    venv.create(tmp_path / ".anechoic-venv", with_pip=False)
    command = tmp_path / ".anechoic-venv" / "bin" / "anechoic"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m anechoic "$@"\n')
    command.chmod(0o755)
    (tmp_path / "anechoic.toml").write_text('turns = 8\nplans = ["stale-polls"]\n')
    good = job(tmp_path, JOB["script"], COORDINATOR=f"{sys.executable} -m coordinators.hardened")
    assert good.returncode == 0, good.stdout + good.stderr
    for path in [*JOB["artifacts"]["paths"], JOB["artifacts"]["reports"]["junit"]]:
        assert (tmp_path / path).exists()
    bad = job(tmp_path, JOB["script"], COORDINATOR=f"{sys.executable} -m coordinators.as_deployed", GATEWAY="keyless")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert JOB["allow_failure"]["exit_codes"] == 3


@pytest.mark.slow
def test_the_gitlab_job_installs_anechoic(tmp_path: Path) -> None:
    done = job(tmp_path, [*JOB["before_script"], ".anechoic-venv/bin/anechoic --help"], ANECHOIC=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
