"""The HTML page: whole, well-formed, self-contained, and the same again from the files."""

from __future__ import annotations

import copy
import html.parser
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import Result

from anechoic.report.html import to_html
from anechoic.report.record import Record, of_campaign

Ran = Callable[..., Record]
Inside = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Reads a page: its text, and every tag with its attributes; tags that do not nest are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(record: Record) -> Page:
    text = to_html(record)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "data", "action", "xlink:href"):
                assert value is not None
                assert re.fullmatch(r"(round-\d{4}|[a-z-]+)/report\.html", value), (tag, name, value)
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    return page


def pictures(record: Record) -> list[Xml.Element]:
    """Each SVG of the page is XML by itself."""
    return [Xml.fromstring(found) for found in re.findall(r"<svg.*?</svg>", to_html(record), re.S)]


def changed(record: Record, **data: Any) -> Record:
    return Record({**copy.deepcopy(dict(record.data)), **data}, record.index)


def test_a_failed_run(ran: Ran) -> None:
    """What is broken, the picture of it with the second effect marked, the cells, and the command."""
    record = ran("as_deployed", "none", "stale-polls", wanted=("C1", "C7", "C6"))
    page = read(record)
    assert "fail Broken: at most one effect." in page.said
    assert "anechoic gate --coordinator as_deployed --seed 1" in page.said
    sequence = pictures(record)[0]
    classes = [element.get("class", "") for element in sequence.iter()]
    assert classes.count("note effect") == classes.count("note again") == 1
    titles = [attrs["title"] or "" for _, attrs in page.tags if "title" in attrs]
    assert any(t.startswith("C1 under stale-polls: failed: ") for t in titles)
    assert "C1 under none: passed" in titles
    assert len(to_html(record).encode()) < 80_000


def test_a_passed_run(ran: Ran) -> None:
    """Three green tiles, no violation, what was reached, and the time line."""
    record = ran("hardened", "none", "stale-polls", gateway="keyed")
    page = read(record)
    assert "pass Every demanded contract held." in page.said
    assert "The violation" not in page.said
    assert [attrs["class"] for tag, attrs in page.tags if tag == "article"] == ["tile pass"] * 3
    assert "stale answers" in page.said
    (timeline,) = pictures(record)
    drawn = [element.get("class") for element in timeline.iter()]
    assert "once" in drawn
    assert "again" not in drawn
    assert "rest" in drawn


def test_an_unknown_run_says_why_first(ran: Ran) -> None:
    """Before anything else."""
    page = read(ran("hardened", "never", gateway="keyed"))
    assert "unknown It cannot be told whether the contracts hold." in page.said
    assert page.said.index("vacuous: rule never/1 never fired") < page.said.index("SAFE")


def test_an_accepted_run_is_told_from_a_pass(ran: Ran) -> None:
    """Exit code 0, and the page says that contracts are broken all the same."""
    record = ran("as_deployed", "stale-polls", wanted=("C1",))
    violations = [{**v, "accepted": ""} for v in record.data["violations"]]
    said = {"file": "known.toml", "accepted": len(violations), "new": [], "fixed": ["C7 y (intent)"], "untested": []}
    page = read(changed(record, violations=violations, exit_code=0, baseline=said))
    assert "accepted Nothing new is broken" in page.said
    assert "C7 y (intent) fixed" in page.said
    assert "The violation" not in page.said


def test_a_run_that_never_began(ran: Ran) -> None:
    """Only a reason, and what was to be run."""
    record = Record({
        "verdict": "invalid", "exit_code": 2, "coordinator": "node x.mjs", "gateway": "keyless", "seed": 1, "contracts": [], "violations": [],
        "plans": [], "reasons": ["coordinator-1 ended with exit code 1\n  its last lines:\n    | boom"], "unsound": ["x"],
    })
    page = read(record)
    assert "invalid The run itself was not sound" in page.said
    assert "| boom" in page.said


def test_a_chaos_run_links_its_rounds(ran: Ran) -> None:
    """Those that did not pass have a page of their own."""
    counts = {"turns": 6, "tool_calls": 9, "effects": 9, "duplicates": 0, "lost": 0, "unattributed": 0}
    made = [
        {"number": n, "seed": n, "verdict": v, "seconds": 2.0, "counts": counts, "faults": 1, "restarts": 0}
        for n, v in enumerate(("pass", "fail", "fail"), 1)
    ]
    campaign = {"coordinator": "as_deployed", "gateway": "keyless", "seed": 1, "turns": 6, "exit_code": 1, "rounds": made, "reached": {"kill": 3}}
    part = ran("as_deployed", "stale-polls", wanted=("C1",))
    page = read(of_campaign(campaign, {2: part, 3: part}))
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == ["round-0002/report.html", "round-0003/report.html"]
    assert page.said.count("has 2 effects") == 2  # told once: in the summary, and in words below it


def test_hostile_text_is_text(ran: Ran) -> None:
    """In every place that something from outside gets to."""
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    record = ran("as_deployed", "stale-polls", wanted=("C1",))
    violations = [{**v, "message": evil, "plans": [evil]} for v in record.data["violations"]]
    plans = [{"name": evil, "turns": 1, "rules": [], "fired": 0}]
    page = read(changed(
        record, coordinator=evil, gateway=evil, seed=evil, violations=violations, plans=plans, reasons=[evil], notes=[evil], reproduce=evil,
        reached={evil: 1}, baseline={"file": evil, "accepted": 0, "new": [evil], "fixed": [], "untested": []},
    ))
    assert page.said.count("<script>alert(1)</script>") >= 8


def test_the_command_writes_the_same_again(anechoic: Run, tmp_path: Path) -> None:
    """Reports are made from verdict.json and history.jsonl, and from nothing else."""
    done = anechoic(
        "gate", "--coordinator", "as_deployed", "--plan", "stale-polls", "--turns", "6", "--seed", "2", "--report-dir", "report", "--summary", "one.md"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    again = anechoic("report", "report", "--out", "again", "--summary", "two.md")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.split() == ["again/report.html", "again/junit.xml", "two.md"]
    assert (tmp_path / "again" / "report.html").read_text() == (tmp_path / "report" / "report.html").read_text()
    assert (tmp_path / "two.md").read_text() == (tmp_path / "one.md").read_text()

    def untimed(path: Path) -> str:
        return re.sub(r'timestamp="[^"]*"', "", path.read_text())

    assert untimed(tmp_path / "again" / "junit.xml") == untimed(tmp_path / "report" / "junit.xml")


@pytest.mark.parametrize(("name", "text", "said"), [
    (None, "", "nowhere is no folder; give the --report-dir of a run"),
    ("other.txt", "", "holds neither verdict.json nor chaos.json"),
    ("verdict.json", "{", "verdict.json cannot be read"),
    ("verdict.json", '{"format_version": 9}', "format_version is 9; this version of anechoic reads 1"),
    ("verdict.json", "[]", "format_version is 'list'"),
])
def test_a_folder_that_cannot_be_reported_on(inside: Inside, tmp_path: Path, name: str | None, text: str, said: str) -> None:
    """Exit code 2, the file, and what to do."""
    if name is not None:
        (tmp_path / "nowhere").mkdir()
        (tmp_path / "nowhere" / name).write_text(text)
    result = inside("report", "nowhere")
    assert result.exit_code == 2
    assert said in result.output


def test_a_damaged_history_is_said(inside: Inside, tmp_path: Path, ran: Ran) -> None:
    """With its line."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "verdict.json").write_text(json.dumps(dict(ran("hardened", "none", gateway="keyed").data)))
    (tmp_path / "r" / "history.jsonl").write_text('{"format_version": 1}\nnonsense\n')
    result = inside("report", "r")
    assert result.exit_code == 2
    assert "history.jsonl, line 2: not JSON" in result.output
