"""`anechoic check`: a recorded history is judged again, whole or in parts, with the same words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic.commands import check
from benchmarks.history import events_of
from fakes import history as h

Inside = Callable[..., Result]

PLANS = [{"name": "never", "rules": [{"when": {"event": "tool_requested"}, "do": {"fault": "kill"}}]}]


def recorded(path: Path, size: int, *, cut: bool = False) -> Path:
    """A history in which every third turn does everything twice; `cut` off in its last line."""
    h.save(path, {"gateway": "keyed", "seed": 7, "plans": PLANS, "reproduce": "anechoic gate"}, events_of(size, 3))
    if cut:
        path.write_bytes(path.read_bytes()[:-3])
    return path


def test_parts_say_what_the_whole_says(inside: Inside, tmp_path: Path) -> None:
    """Report, document, warning and exit code are the same."""
    recorded(tmp_path / "h.jsonl", 400, cut=True)
    for words in ([], ["--json"], ["--demand", "C1,C3"], ["--gateway", "keyless"]):
        whole, parts = (inside("check", "h.jsonl", *words, *more) for more in ([], ["--parts", "3"]))
        assert parts.stdout == whole.stdout
        assert parts.exit_code == whole.exit_code == 1
        assert "Traceback" not in parts.stderr
    assert json.loads(inside("check", "h.jsonl", "--json", "--parts", "3").stdout)["counts"]["duplicates"] > 0
    assert "cut off in the middle, left out" in inside("check", "h.jsonl", "--parts", "3").stdout.replace("\n", " ")


def test_a_large_file_goes_into_parts_by_itself(inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be said, and nothing else comes out."""
    recorded(tmp_path / "h.jsonl", 300)
    whole = inside("check", "h.jsonl")
    dealt: list[int | None] = []
    real = check.dealt_out
    monkeypatch.setattr(check, "LARGE", 1000)
    monkeypatch.setattr(check, "dealt_out", lambda file, parts, **how: dealt.append(parts) or real(file, parts=parts, **how))
    assert inside("check", "h.jsonl").stdout == whole.stdout
    assert dealt == [None]


@pytest.mark.parametrize("parts", ["0", "1000"])
def test_so_many_parts_make_no_sense(inside: Inside, tmp_path: Path, parts: str) -> None:
    """Each is an open file."""
    recorded(tmp_path / "h.jsonl", 30)
    done = inside("check", "h.jsonl", "--parts", parts)
    assert done.exit_code == 2
    assert f"--parts {parts} must be at least 1 and at most 128" in done.stderr


def test_damage_is_invalid(inside: Inside, tmp_path: Path) -> None:
    """In parts as whole."""
    with recorded(tmp_path / "h.jsonl", 30).open("a") as file:
        file.write("{}\n")
    for more in ([], ["--parts", "2"]):
        done = inside("check", "h.jsonl", *more)
        assert done.exit_code == 2
        assert "unknown kind of event None" in done.stderr


def test_no_space_for_the_parts(tmp_path: Path) -> None:
    """The folder is named, and what to do."""
    recorded(tmp_path / "h.jsonl", 4000)
    command = f"ulimit -f 100; exec {sys.executable} -m anechoic check h.jsonl --parts 2"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "set TMPDIR to a folder with more space" in done.stderr


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """Exit code 130, and no temporary file."""
    recorded(tmp_path / "h.jsonl", 60_000)
    aside = tmp_path / "aside"
    aside.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "anechoic", "check", "h.jsonl", "--parts", "4"], cwd=tmp_path, text=True,
        env={**os.environ, "TMPDIR": str(aside)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:
        fds = Path(f"/proc/{child.pid}/fd")
        end = time.monotonic() + 30
        while not any(str(aside) in os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()) if fds.exists() else False:
            assert time.monotonic() < end
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, ""), err
    assert "interrupted" in err
    assert list(aside.iterdir()) == []
