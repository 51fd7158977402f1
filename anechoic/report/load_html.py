"""A load as one HTML page that needs nothing else, from load.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from anechoic.report.chart import Line, Shade, line_chart
from anechoic.report.html import environment

WORDS = {0: "pass", 1: "fail", 2: "invalid", 3: "unknown"}
HEADLINE = {
    "pass": "Every limit and every demanded contract held under this load.",
    "fail": "A limit or a contract did not hold under this load.",
    "unknown": "What was asked for did not come about, so nothing can be said about it.",
    "invalid": "The run broke down before its end.",
}


def to_html(data: Mapping[str, Any]) -> str:
    """The page, some tens of kilobytes, light or dark as its reader's system is."""
    word = WORDS.get(data["exit_code"], "invalid")
    page: str = environment().get_template("load.html").render(
        data=data, word=word, headline=HEADLINE[word],
        sides=[(side, _charts(side), _rows(side)) for side in data["sides"]],
        memory=_memory(data["usage"]), roles=list(data["usage"].items()),
    )
    return page


def _charts(side: Mapping[str, Any]) -> list[tuple[str, Markup, list[tuple[str, str]]]]:
    series, step = side["series"], side["series"]["slot"]
    shades = [
        Shade(p["start"], p["end"], p["plan"] or ("warm-up" if p["kind"] == "warm-up" else ""), p["kind"])
        for p in side["phases"] if p["kind"] in ("fault", "recovery", "warm-up")
    ]
    per_second = {name: [count / step for count in series[name]] for name in ("due", "ended", "dropped")}
    latency = [Line("p95", series["p95_ms"], step, peaks=True), Line("p50", series["p50_ms"], step)]
    rates = [Line("due", per_second["due"], step), Line("ended", per_second["ended"], step)]
    named = [("due", "due"), ("ended", "ended")]
    if any(series["dropped"]):
        rates.append(Line("dropped", per_second["dropped"], step))
        named.append(("dropped", "dropped"))
    return [
        ("Latency, by the time at which a turn was due", _svg(latency, shades, "ms", "latency over time"),
         [("p95", "p95 of half a second"), ("p50", "p50"), ("fault", "fault window")]),
        ("Throughput", _svg(rates, shades, "turns/s", "throughput over time"), named),
        ("Open turns", _svg([Line("", series["open"], step, peaks=True, area=True)], shades, "turns", "open turns", 120), []),
    ]


def _svg(lines: Sequence[Line], shades: Sequence[Shade], unit: str, label: str, height: int = 200) -> Markup:
    return Markup(line_chart(lines, shades, unit=unit, label=label, height=height))  # noqa: S704 - every text in it is escaped


def _memory(usage: Mapping[str, Any]) -> Markup:
    lines: list[Line] = []
    for number, role in enumerate(usage.values(), 1):
        points = role["memory"]
        if len(points) > 1:
            step = (points[-1][0] - points[0][0]) / (len(points) - 1)
            lines.append(Line(f"r{number}", [mib for _, mib in points], max(step, 0.1)))
    return _svg(lines, [], "MiB", "memory over time", 160)


def _rows(side: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [phase for phase in side["phases"] if phase["kind"] != "warm-up"]
