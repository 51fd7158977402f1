"""What is printed and what is written in the documents is the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from anechoic import selftest

Inside = Callable[..., Result]
ROOT = Path(__file__).parents[2]


def test_the_vocabulary_page_is_what_the_command_prints(inside: Inside) -> None:
    """docs/plans.md is made from the code: `anechoic plans --words > docs/plans.md`."""
    assert inside("plans", "--words").stdout == (ROOT / "docs" / "plans.md").read_text()


def test_the_readme_shows_every_mutant_as_it_is_expected() -> None:
    """The table is made by `anechoic selftest --write README.md`; a cell without an expectation is left empty."""
    rows = re.findall(r"^\| ?(\d*) \| `(\w+)`: (.*) \| (.*) \| (.*) \| (.*) \| (.*) \|$", (ROOT / "README.md").read_text(), re.M)
    subjects = selftest.subjects()
    assert [(row[0], row[1]) for row in rows] == [(str(s.number or ""), s.name) for s in subjects]
    for subject, row in zip(subjects, rows, strict=True):
        assert row[2].startswith(subject.about)
        for gateway, cell in zip(selftest.GATEWAYS, row[3:], strict=True):
            assert re.fullmatch(r"C\w+'? @\d+" if subject.expected[gateway] == "fail" else "·", cell), (subject.name, gateway)


def test_plans_lists_and_explains_every_plan(inside: Inside) -> None:
    """Name, sentence and rules; one plan as data can be the start of a plan file."""
    listed = inside("plans").stdout
    assert "stale-polls" in listed
    assert "when submit_accepted (every one per run) do stale_status" in listed
    assert json.loads(inside("plans", "stale-polls", "--json").stdout)["name"] == "stale-polls"


@pytest.mark.parametrize("gateway", ["keyless", "keyed", "lookup", "fenced", "keyed-short-ttl", "lookup-unbounded", "fence-only"])
def test_contracts_says_what_is_demanded_and_why(inside: Inside, gateway: str) -> None:
    """The headline is possible or impossible as the table of profiles says."""
    data = json.loads(inside("contracts", "--gateway", gateway, "--json").stdout)
    headline = next(row for row in data["contracts"] if row["name"] == "exactly_one_effect")
    assert headline["status"] == ("demanded" if gateway in ("keyed", "lookup", "fenced") else "impossible")
    assert headline["reason"]


@pytest.mark.parametrize("command", ["gate", "chaos", "incident", "check", "serve", "proxy", "plans", "contracts"])
def test_every_command_has_help_with_examples(inside: Inside, command: str) -> None:
    """--help shows at least one line that can be copied."""
    shown = inside(command, "--help")
    assert shown.exit_code == 0
    assert f"\n    anechoic {command}" in shown.stdout
