"""JUnit XML: contract x plan cells, errors for what is unknown, and a document that every reader takes."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import xmlschema

from anechoic.report.junit import to_xml
from anechoic.report.record import Record, of_campaign

Ran = Callable[..., Record]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "junit.xsd"))


def read(record: Record) -> Xml.Element:
    """The document, once it has been held against the schema, and its counts against its cases."""
    return checked(to_xml(record))


def checked(text: str) -> Xml.Element:
    SCHEMA.validate(text)
    root = Xml.fromstring(text)
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        for tag, key in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(key, "")) == len(suite.findall(f"testcase/{tag}"))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(names) == len(set(names))
    return root


def case(root: Xml.Element, suite: str, contract: str) -> Xml.Element:
    (found,) = [
        c for s in root.findall("testsuite") if s.get("name") == suite for c in s.findall("testcase")
        if (c.get("name") or "").split()[0] == contract
    ]
    return found


def outcome(root: Xml.Element, suite: str, contract: str) -> tuple[str, str]:
    found = list(case(root, suite, contract))
    return (found[0].tag, found[0].get("message") or "") if found else ("passed", "")


def test_a_violation_fails_the_cell_of_its_contract_and_plan(ran: Ran) -> None:
    """The plan bound to the conversation decides; the other plan's cell passes, and the story is told in the failure."""
    root = read(ran("as_deployed", "none", "stale-polls", wanted=("C1", "C6")))
    assert outcome(root, "none", "C1") == ("passed", "")
    tag, message = outcome(root, "stale-polls", "C1")
    assert (tag, "has 2 effects" in message) == ("failure", True)
    told = case(root, "stale-polls", "C1")[0].text or ""
    assert "[under stale-polls]" in told
    assert told.count(" committed ") == 2
    assert outcome(root, "stale-polls", "C6") == ("passed", "")
    assert outcome(root, "stale-polls", "C2") == ("skipped", "not demanded: not asked for")
    assert outcome(root, "run", "run") == ("passed", "")


def test_a_run_that_holds_has_no_failure_and_no_error(ran: Ran) -> None:
    """What was not demanded is skipped, all else passed."""
    root = read(ran("hardened", "none", "stale-polls", gateway="keyed"))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    assert outcome(root, "none", "C2'") == ("skipped", "not demanded: C2 is demanded of every call at this gateway")
    assert outcome(root, "none", "C2") == ("passed", "")


def test_a_vacuous_plan_is_an_error_and_the_others_are_not(ran: Ran) -> None:
    """Nothing can be said of a plan whose fault never fired."""
    root = read(ran("hardened", "none", "never", gateway="keyed"))
    tag, message = outcome(root, "never", "C1")
    assert (tag, message) == ("error", "vacuous: rule never/1 never fired: the event that it waits for never happened")
    assert outcome(root, "none", "C1") == ("passed", "")
    assert outcome(root, "run", "run") == ("passed", "")


def test_a_plan_that_got_no_turn_is_skipped(ran: Ran) -> None:
    """Two plans, one turn."""
    root = read(ran("hardened", "slow-tool", "none", turns=1, gateway="keyed"))
    assert outcome(root, "none", "C1") == ("skipped", "no turn was delivered under this plan")


def changed(record: Record, **data: Any) -> Record:
    return Record({**copy.deepcopy(dict(record.data)), **data}, record.index)


def test_an_invalid_run_has_no_passed_cell(ran: Ran) -> None:
    """But a violation that was seen stays a failure."""
    broken = changed(ran("as_deployed", "none", "stale-polls", wanted=("C1", "C6")), unsound=["coordinator-2 was started and never got ready"])
    root = read(broken)
    assert outcome(root, "run", "run") == ("error", "coordinator-2 was started and never got ready")
    assert outcome(root, "none", "C1")[0] == "error"
    assert outcome(root, "stale-polls", "C1")[0] == "failure"
    assert outcome(root, "stale-polls", "C2")[0] == "skipped"


def test_a_contract_that_could_not_be_decided_is_an_error(ran: Ran) -> None:
    """Under every plan: nobody knows where the effect belongs."""
    record = ran("hardened", "none", gateway="keyed")
    rows = [{**row, "status": "unknown", "note": "1 effect cannot be attributed"} if row["id"] == "C5b" else row for row in record.data["contracts"]]
    assert outcome(read(changed(record, contracts=rows)), "none", "C5b") == ("error", "could not be decided: 1 effect cannot be attributed")


def test_an_accepted_violation_is_skipped_with_its_reason(ran: Ran) -> None:
    """As an expected failure is."""
    record = ran("as_deployed", "stale-polls", wanted=("C1",))
    accepted = [{**v, "accepted": "cured in October"} for v in record.data["violations"]]
    tag, message = outcome(read(changed(record, violations=accepted)), "stale-polls", "C1")
    assert tag == "skipped"
    assert message.startswith("accepted by the baseline (cured in October): ")


def test_a_violation_of_no_conversation_has_a_suite_of_its_own(ran: Ran) -> None:
    """It is in no plan's cell, and not lost."""
    record = ran("hardened", "none", gateway="keyed")
    stray = {"contract": "C5b", "shape": "x", "message": "an effect of nobody", "conversation": None, "plans": [], "events": []}
    root = read(changed(record, violations=[stray]))
    assert outcome(root, "unknown", "C5b") == ("failure", "an effect of nobody")
    assert outcome(root, "none", "C5b") == ("passed", "")


def test_hostile_text_does_not_break_the_document(ran: Ran) -> None:
    """Markup, and characters that XML cannot hold."""
    record = ran("hardened", "none", gateway="keyed")
    text = "]]> <failure/> & \x00 \x1b[31m \ud800 é 😀"
    root = read(changed(record, unsound=[text], coordinator=text))
    assert outcome(root, "run", "run")[1] == "]]> <failure/> & � �[31m � é 😀"


def test_a_chaos_run_has_a_case_for_each_round(ran: Ran) -> None:
    """And the cells of the rounds that did not pass."""
    counts = {"turns": 6, "tool_calls": 9, "effects": 9, "duplicates": 0, "lost": 0, "unattributed": 0}
    made = [
        {"number": n, "seed": n, "verdict": v, "seconds": 2.0, "counts": counts, "faults": 1, "restarts": 0}
        for n, v in enumerate(("pass", "fail", "unknown"), 1)
    ]
    campaign = {"coordinator": "as_deployed", "gateway": "keyless", "seed": 1, "turns": 6, "exit_code": 1, "rounds": made, "reached": {}}
    record = of_campaign(campaign, {2: ran("as_deployed", "stale-polls", wanted=("C1",))})
    root = read(record)
    assert [c.get("name") for c in root[0].findall("testcase")] == ["round 1", "round 2", "round 3"]
    assert [c[0].tag if len(c) else "passed" for c in root[0].findall("testcase")] == ["passed", "failure", "error"]
    assert outcome(root, "round 2: stale-polls", "C1")[0] == "failure"
    assert root.get("time") == "6.000"


def test_a_search_that_found_something(anechoic: Run, tmp_path: Path) -> None:
    """The contract that was broken fails; what was not looked for to the end is skipped, with the reason."""
    done = anechoic(
        "gate", "--coordinator", "as_deployed", "--world", "simulation", "--seed", "3", "--demand", "C1,C6", "--junit", "out/unit.xml",
        "--report-dir", "report",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    text = (tmp_path / "out" / "unit.xml").read_text()
    assert text == (tmp_path / "report" / "junit.xml").read_text()
    root = checked(text)
    tag, _ = outcome(root, "search", "C1")
    assert tag == "failure"
    assert outcome(root, "search", "C6")[0] == "skipped"
    assert "the search ended with the violation of C1, after" in outcome(root, "search", "C6")[1]
    told = case(root, "search", "C1")[0].text or ""
    assert " committed " in told
    again = anechoic("check", "report/history.jsonl", "--demand", "C1", "--json")
    assert {v["contract"] for v in json.loads(again.stdout)["violations"]} == {"C1"}


def test_a_search_that_found_nothing(anechoic: Run, tmp_path: Path) -> None:
    """Every demanded contract passed in so many examples."""
    done = anechoic("gate", "--coordinator", "hardened", "--gateway", "keyed", "--world", "simulation", "--examples", "6", "--seed", "3", "--junit", "u.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    root = checked((tmp_path / "u.xml").read_text())
    assert outcome(root, "search", "C1") == ("passed", "")
    assert outcome(root, "search", "C12")[0] == "skipped"


def test_a_gate_that_never_began_is_one_error(anechoic: Run, tmp_path: Path) -> None:
    """A CI job that reads the file sees why, not a file that is missing."""
    done = anechoic("gate", "--command", "false", "--plan", "none", "--turns", "1", "--instances", "1", "--ready-timeout", "3", "--report-dir", "report")
    assert done.returncode == 2
    root = checked((tmp_path / "report" / "junit.xml").read_text())
    assert (root.get("tests"), root.get("errors")) == ("1", "1")
    assert "coordinator-1" in outcome(root, "run", "run")[1]


@pytest.mark.parametrize("flag", ["--junit", "--summary"])
def test_a_file_that_cannot_be_written_is_said_before_anything_starts(inside: Callable[..., Any], tmp_path: Path, flag: str) -> None:
    """Exit code 2, with the flag and the path."""
    (tmp_path / "taken").write_text("")
    result = inside("gate", "--coordinator", "hardened", flag, "taken/file")
    assert result.exit_code == 2
    assert f"{flag} taken/file cannot be written" in result.output
