"""Workflow commands of GitHub Actions: what becomes an annotation of the job, one line each on standard output."""

from __future__ import annotations

from collections.abc import Iterator

from anechoic.report.record import Record
from contracts.catalogue import CONTRACTS

SHOWN = 8
"""GitHub shows ten errors and ten notices of a step; one is kept for the verdict."""


def commands(record: Record) -> Iterator[str]:
    """An error for the verdict and each kind of new violation, a notice for each entry of the baseline that is fixed."""
    for run in record.runs:
        yield from _commands(run)


def _commands(record: Record) -> Iterator[str]:
    data = record.data
    if data["exit_code"] != 0:
        reasons = "; ".join(data.get("reasons", ())[:3]) if data["verdict"] != "fail" else ""
        who = f"{data['coordinator']} at gateway {data['gateway']}"
        yield command("error", f"anechoic: {data['verdict']}", f"{who}{': ' if reasons else ''}{reasons}")
    kinds: dict[tuple[str, str], list[str]] = {}
    for source in (data, *(part.data for part in record.below)):
        for violation in source.get("violations", ()):
            if "accepted" not in violation:
                kinds.setdefault((violation["contract"], violation["shape"]), []).append(violation["message"])
    for (contract, _), messages in list(kinds.items())[:SHOWN]:
        more = f" (and {len(messages) - 1} more like it)" if len(messages) > 1 else ""
        yield command("error", f"{contract} {CONTRACTS[contract].name}", messages[0] + more)
    for entry in data.get("baseline", {}).get("fixed", ())[:SHOWN]:
        yield command("notice", "anechoic: fixed", f"{entry} is not broken any more; take it out of the baseline")


def command(kind: str, title: str, message: str) -> str:
    """One workflow command; nothing in the texts can end it or begin another."""
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
