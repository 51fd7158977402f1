"""JUnit XML: a suite for each fault plan, a case for each contract in it, and a suite about the run itself."""

from __future__ import annotations

import datetime
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as Xml

from anechoic.report.cells import Cell, cells
from anechoic.report.record import Record
from contracts.story import story

SHOWN = 10
"""How many violations of a cell are listed."""
RUN = "run"
"""The suite about the run itself, and about the rounds of a chaos run."""
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_xml(record: Record) -> str:
    """The document. Accepted violations are skipped cases, as expected failures are; what is unknown or invalid is an error."""
    title = f"{record.data['coordinator']} at gateway {record.data['gateway']}"
    root = Xml.Element("testsuites", name=_clean(f"anechoic: {title}"))
    for name, run in record.gateways.items():
        _run(root, f"{name}: ", run)
    if not record.gateways:
        _run(root, "", record)
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{record.data.get('seconds', 0.0):.3f}")
    Xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _run(root: Xml.Element, prefix: str, record: Record) -> None:
    title = f"{record.data['coordinator']} at gateway {record.data['gateway']}"
    told = {(v.contract, v.shape): "\n".join(story(index, v)) for index, v in record.told()}
    if record.rounds:
        _suite(root, prefix + RUN, title, record.data, [_round(r, record) for r in record.rounds], told)
        for number, part in record.parts.items():
            _plans(root, f"{prefix}round {number}: ", title, part.data, told)
    else:
        _suite(root, prefix + RUN, title, record.data, [_sound(record.data)], told)
        _plans(root, prefix, title, record.data, told)


def _plans(root: Xml.Element, prefix: str, title: str, data: Mapping[str, Any], told: dict[tuple[str, str], str]) -> None:
    by_plan: dict[str, list[Cell]] = {}
    for cell in cells(data):
        by_plan.setdefault(cell.plan, []).append(cell)
    for plan, found in by_plan.items():
        _suite(root, prefix + plan, title, data, found, told)


def _suite(
    root: Xml.Element, name: str, title: str, data: Mapping[str, Any], found: Sequence[Cell],
    told: dict[tuple[str, str], str],
) -> None:
    count = {status: sum(c.status == status for c in found) for status in ("failed", "error", "skipped", "accepted")}
    suite = Xml.SubElement(
        root, "testsuite", name=_clean(name), tests=str(len(found)), failures=str(count["failed"]), errors=str(count["error"]),
        skipped=str(count["skipped"] + count["accepted"]),
        time=f"{data.get('seconds', 0.0):.3f}" if found[0].plan == RUN else "0.000",
        timestamp=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"), hostname=socket.gethostname(),
    )
    if found[0].plan == RUN:
        properties = Xml.SubElement(suite, "properties")
        for key in ("coordinator", "gateway", "seed", "verdict", "exit_code", "safe", "live", "honest", "reproduce"):
            if data.get(key) is not None:
                Xml.SubElement(properties, "property", name=key, value=_clean(str(data[key])))
    for cell in found:
        case = Xml.SubElement(
            suite, "testcase", classname=_clean(f"{title}.{name}"), name=_clean(f"{cell.contract} {cell.name}"), time="0.000"
        )
        if cell.status == "failed":
            _said(case, "failure", cell, "contract", _detail(cell, told))
        elif cell.status == "error":
            _said(case, "error", cell, "vacuous" if cell.why.startswith("vacuous") else "unsound", cell.why)
        elif cell.status != "passed":
            Xml.SubElement(case, "skipped", message=_clean(cell.why))


def _said(case: Xml.Element, tag: str, cell: Cell, kind: str, text: str) -> None:
    Xml.SubElement(case, tag, type=kind, message=_clean(cell.why)).text = _clean(text)


def _detail(cell: Cell, told: dict[tuple[str, str], str]) -> str:
    """The violations of a cell; the story of each kind is told once in the document."""
    lines: list[str] = []
    for violation in cell.violations[:SHOWN]:
        under = " + ".join(violation.get("plans", ()))
        lines.append(violation["message"] + (f" [under {under}]" if under else ""))
        if text := told.pop((violation["contract"], violation.get("shape", "")), None):
            lines += ["", text, ""]
    if (more := len(cell.violations) - SHOWN) > 0:
        lines.append(f"... and {more} more in verdict.json")
    return "\n".join(lines)


def _sound(data: Mapping[str, Any]) -> Cell:
    why = "; ".join(data.get("unsound", ()))
    return Cell(RUN, "is sound", RUN, "error" if why else "passed", why)


def _round(made: Mapping[str, Any], record: Record) -> Cell:
    status = {"pass": "passed", "fail": "failed"}.get(made["verdict"], "error")
    part = record.parts.get(made["number"])
    violations = [v for v in part.data["violations"] if "accepted" not in v][:1] if part else []
    why = "" if status == "passed" else f"verdict {made['verdict']}" + "".join(f": {v['message']}" for v in violations)
    if made.get("accepted"):
        status, why = "accepted", "its only violations are accepted by the baseline"
    return Cell("round", str(made["number"]), RUN, status, why, violations)


def _clean(text: str) -> str:
    """Without the characters that no XML document can hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
