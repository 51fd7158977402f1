"""The job summary and the annotations: what they say, and that no text from outside can say anything else."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anechoic.report.annotations import command, commands
from anechoic.report.files import Reports
from anechoic.report.mermaid import escape as mermaid_escape
from anechoic.report.mermaid import to_mermaid
from anechoic.report.record import Record
from anechoic.report.sequence import Diagram, Message, diagram, short
from anechoic.report.summary import code, escape, fenced, to_markdown

Ran = Callable[..., Record]
LINE = re.compile(
    r"    (participant p\d+ as [^:;#\n]*(#\d+;[^:;#\n]*)*"
    r"|p\d+(->>|--x)p\d+: [^;#\n]+?(#\d+;[^;#\n]*)*|Note over p\d+(,p\d+)?: [^;#\n]*(#\d+;[^;#\n]*)*)"
)
"""A statement of a mermaid sequence diagram: `;` and `#` have a meaning there, so they may only be parts of an entity."""


def changed(record: Record, **data: Any) -> Record:
    return Record({**copy.deepcopy(dict(record.data)), **data}, record.index)


def valid(text: str) -> None:
    head, *lines = text.splitlines()
    assert head == "sequenceDiagram"
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_a_failed_run_tells_its_first_violation(ran: Ran) -> None:
    """Verdicts, the diagram with both effects, the contracts, the plans and the command."""
    text = to_markdown(ran("as_deployed", "none", "stale-polls"))
    assert text.startswith("## anechoic: ❌ fail (exit 1)\n")
    assert "| SAFE | LIVE | HONEST |\n| --- | --- | --- |\n| ❌ fail |" in text
    drawn = text.split("```mermaid\n")[1].split("\n```")[0]
    valid(drawn)
    assert len(re.findall(r"Note over p\d+: \w+ committed", drawn)) == 2
    assert "| C1 | at most one effect | ❌ fail |" in text
    assert "| `none` | 3 |  |  |" in text
    assert re.search(r"\| `stale-polls` \| 3 \| \d+ \| ❌ \|", text)
    assert "```sh\nanechoic gate --coordinator as_deployed --seed 1\n```" in text
    assert len(text) < 10_000


def test_a_passed_run_has_no_diagram(ran: Ran) -> None:
    """And no complaint."""
    text = to_markdown(ran("hardened", "none", gateway="keyed"))
    assert text.startswith("## anechoic: ✅ pass (exit 0)\n")
    assert "mermaid" not in text
    assert "❌" not in text


def test_an_unknown_run_says_why(ran: Ran) -> None:
    """The reasons come before the tables."""
    text = to_markdown(ran("hardened", "never", gateway="keyed"))
    assert text.startswith("## anechoic: ❓ unknown (exit 3)\n")
    assert "> vacuous: rule never/1 never fired: the event that it waits for never happened" in text


def test_a_baseline_is_told(ran: Ran) -> None:
    """What is new, and what is fixed."""
    said = {"file": "known.toml", "accepted": 2, "new": ["C1 x (call)"], "fixed": ["C7 y (intent)"], "untested": []}
    text = to_markdown(changed(ran("hardened", "none", gateway="keyed"), baseline=said))
    assert "Baseline `known.toml`: 2 violations accepted, 1 kinds are new." in text
    assert "- C7 y (intent): fixed, can be removed" in text


@pytest.mark.parametrize("hostile", ["a|b", "`x`", "<script>alert(1)</script>", "*b* _i_ [l](http://x)", "# h", "line\nline", "&amp;", "\\|"])
def test_text_means_nothing_to_markdown(hostile: str) -> None:
    """Neither in the text nor in a table's cell."""
    made = escape(hostile)
    assert re.search(r"(?<!\\)[|*_`\[\]#]|[<>\n]", made) is None
    assert "|" not in code(hostile)
    assert "\n" not in code(hostile)


def test_a_fence_is_longer_than_any_in_its_text() -> None:
    """So that nothing can end it."""
    assert fenced("a\n```\nb", "sh") == "````sh\na\n```\nb\n````"


def test_hostile_labels_are_entities() -> None:
    """`;`, `#`, `%%` and line breaks mean something to mermaid."""
    made = to_mermaid(Diagram(["a;b", "end"], [
        Message(0, "a;b", "end", "x; y # z %% {}\nnext: ->> <b>"), Message(0, None, None, "end"), Message(0, "end", None, "note", times=3),
        Message(0, "a;b", "end", "gone", "lost"),
    ]))
    valid(made)
    assert "p0->>p1: x#59; y #35; z #37;#37; #123;#125; next: -#62;#62; #60;b#62;" in made
    assert "Note over p0,p1: end" in made
    assert "Note over p1: note (3 times)" in made
    assert "p0--xp1: gone" in made
    assert len(mermaid_escape("x" * 500)) <= 90


def test_ids_are_cut_where_they_are_long() -> None:
    """What the seed calls call_X1 stays."""
    assert short("call_WzG4AOGeYwdpuNnvJ4HmDr03, call_X1, requires_action, INC-55102") == "call_WzG4.., call_X1, requires_action, INC-55102"


def test_a_long_story_keeps_what_tells_most(ran: Ran) -> None:
    """Effects, requests and faults stay; the actors are in the order of the picture."""
    found = ran("as_deployed", "stale-polls").first
    assert found is not None
    whole, small = diagram(*found, longest=1000), diagram(*found, longest=8)
    assert len(small.messages) == 8
    assert small.left_out == len(whole.messages) - 8
    assert [m.kind for m in small.messages].count("effect") == [m.kind for m in whole.messages].count("effect") == 2
    assert [m.t for m in small.messages] == sorted(m.t for m in small.messages)
    assert [a for a in whole.actors if not a.startswith("coordinator")] == ["harness", "Assistants API", "tool gateway"]


def test_annotations_of_a_failure(ran: Ran) -> None:
    """One for the verdict, one for each kind of violation."""
    lines = list(commands(ran("as_deployed", "stale-polls", wanted=("C1", "C7"))))
    assert lines[0] == "::error title=anechoic%3A fail::as_deployed at gateway keyless"
    assert lines[1].startswith("::error title=C1 at_most_one_effect::")
    assert len(lines) == len(set(lines))


def test_a_pass_has_no_annotation(ran: Ran) -> None:
    """Nobody is to look."""
    assert list(commands(ran("hardened", "none", gateway="keyed"))) == []


def test_an_unknown_run_is_an_error_with_its_reason(ran: Ran) -> None:
    """It fails the job, so it has to say why."""
    (line,) = commands(ran("hardened", "never", gateway="keyed"))
    assert line == (
        "::error title=anechoic%3A unknown::hardened at gateway keyed: vacuous: rule never/1 never fired: "
        "the event that it waits for never happened"
    )


def test_text_cannot_end_a_workflow_command() -> None:
    """Line breaks, percent signs, and in a property commas and colons."""
    assert command("error", "a,b:c%\n", "50%\r\n::set-output name=x::y") == (
        "::error title=a%2Cb%3Ac%25%0A::50%25%0D%0A::set-output name=x::y"
    )


def test_on_github_the_summary_is_added_and_annotations_are_printed(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What other steps have written stays."""
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    record = ran("as_deployed", "stale-polls", wanted=("C1", "C7"))
    Reports(summary=tmp_path / "own" / "summary.md").write(record)
    assert page.read_text() == "before\n" + to_markdown(record)
    assert (tmp_path / "own" / "summary.md").read_text() == to_markdown(record)
    assert capsys.readouterr().out.splitlines() == list(commands(record))


def test_elsewhere_nothing_is_printed(ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither annotations nor a page."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    Reports().write(ran("as_deployed", "stale-polls", wanted=("C1", "C7")))
    assert capsys.readouterr().out == ""
