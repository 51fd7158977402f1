"""The page of a load, and its charts."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from anechoic.report.chart import Line, Shade, line_chart
from anechoic.report.load_html import to_html

SVG = "{http://www.w3.org/2000/svg}"


def phase(kind: str, start: float, end: float, plan: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind, "plan": plan, "start": start, "end": end, "calm": None, "seconds": end - start, "due": 10, "ended": 10,
        "dropped": 0, "failed": 0, "redelivered": 0, "asked": 5.0, "offered": 5.0, "throughput": 5.0, "p50_ms": 200.0,
        "p95_ms": 300.0, "p99_ms": None, "most_open": 3, **more,
    }


def data(**more: Any) -> dict[str, Any]:
    side = {
        "coordinator": "<b>mine</b>", "healthy": phase("healthy", 0, 10), "http": [], "at_rest": True,
        "phases": [phase("warm-up", 0, 2), phase("healthy", 2, 10), phase("fault", 10, 15, "incident"), phase("recovery", 15, 20)],
        "recoveries": [{"plan": "incident", "seconds": None, "healed_at": 14.0, "limit_ms": 450.0}],
        "per_1000_calls": {"duplicates": 3.5, "lost": 0.0, "repeated_requests": 4.0}, "cpu_ms_per_lifecycle": {"locust": 3.0},
        "series": {"slot": 0.5, **{k: [1, 2] * 20 for k in ("due", "ended", "dropped", "failed", "open")},
                   "p50_ms": [200.0] * 40, "p95_ms": [300.0, None] * 20},
        "verdict": {"safe": "fail", "live": "pass", "honest": "pass", "verdict": "fail", "counts": {"turns": 40, "tool_calls": 1234},
                    "violations": [{"contract": "C1", "message": "two <effects>"}] * 9},
    }
    return {
        "exit_code": 1, "coordinator": "<b>mine</b>", "against": None, "gateway": "keyless", "instances": 3, "store": "sqlite",
        "seed": 5, "shape": "support-desk", "arrivals": "poisson", "machine": {"cores": 2, "python": "3.12"}, "sides": [side],
        "ratios": [], "ceiling": None, "limits": [{"name": "p95", "limit": 250.0, "seen": 300.0, "unit": "ms", "held": False}],
        "usage": {"locust": {"cpu_seconds": 3.0, "memory_mib": 50.0, "memory_mib_per_minute": 0.1, "open_files_at_first": 5,
                             "open_files": 6, "memory": [[0.0, 49.0], [1.0, 50.0]]}},
        "tasks": {"at_first": 11, "at_the_end": 11}, "notes": ["the rate was not reached"], "reproduce": "anechoic load", **more,
    }


def test_the_page_says_what_load_json_says_and_needs_nothing_else() -> None:
    page = to_html(data())
    for said in ("A limit or a contract did not hold", "3.5", "1,234 calls", "did not recover of", "two &lt;effects&gt;",
                 "and 1 more in load.json", "the rate was not reached", "at most 250.0 ms"):
        assert said in page, said
    assert "<b>mine</b>" not in page
    assert not re.search(r'(src|href)="?https?:|@import|url\(', page)
    assert page.count("<svg") == 4


def test_the_other_words_for_other_ends() -> None:
    for code, said in ((0, "Every limit"), (2, "broke down"), (3, "did not come about")):
        assert said in to_html(data(exit_code=code))


def test_a_search_for_the_highest_rate_has_its_steps() -> None:
    step = {**phase("step", 0, 6), "rate": 10.0, "held": True, "why": None}
    page = to_html(data(ceiling={"rate": 10.0, "max_p95_ms": 500.0, "beyond": "a backlog: 3 open turns, then 40",
                                 "steps": [step, {**step, "rate": 16.0, "held": False, "why": "a backlog"}]}))
    assert "The highest rate: 10.0 turns/s" in page
    assert "a backlog: 3 open turns, then 40" in page


def test_a_chart_puts_values_and_shades_where_they_belong() -> None:
    svg = ElementTree.fromstring(line_chart(
        [Line("p95", [0.0, 100.0, None, 50.0, 50.0], 1.0)], [Shade(2.0, 4.0, "kill <x>", "fault")], unit="ms", label="latency",
    ))
    path, second = (p.get("d") for p in svg.iter(f"{SVG}path"))
    assert path is not None
    assert second is not None
    (x1, y1), (x2, y2) = ([float(n) for n in point.split()] for point in path[1:].split("L"))
    assert x1 < x2
    assert y1 > y2  # 100 is higher than 0
    shade = next(r for r in svg.iter(f"{SVG}rect"))
    assert x2 < float(shade.get("x", 0)) < float(second[1:].split()[0])
    assert "kill <x>" in [t.text for t in svg.iter(f"{SVG}text")]


def test_long_series_are_thinned_and_keep_their_peaks() -> None:
    values: list[float | None] = [1.0] * 10_000
    values[5_000] = 80.0
    peaks = line_chart([Line("p95", values, 0.5, peaks=True)], unit="ms", label="x")
    mean = line_chart([Line("p95", values, 0.5)], unit="ms", label="x")
    assert len(peaks) < 20_000
    assert ">80<" in peaks
    assert ">80<" not in mean


def test_nothing_is_a_chart_too() -> None:
    ElementTree.fromstring(line_chart([Line("p95", [], 0.5), Line("p50", [None], 0.5)], unit="ms", label="x"))
