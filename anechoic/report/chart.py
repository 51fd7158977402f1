"""A line chart over time as SVG, with stretches of time shaded. Its colours are classes of the page that it stands in."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterator, Sequence
from html import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 64, 10, 20, 24
"""Pixels: the whole, and what is kept free for axes and names around the plot."""
POINTS = 480
"""Points of one line at most; more are put together."""
NICE = (1, 2, 2.5, 5, 10)
SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line: a value for every `step` seconds from 0 on, None where there is none.

    Where there are more values than pixels, `peaks` shows the highest of those put together, and otherwise their mean.
    """

    css: str
    values: Sequence[float | None]
    step: float
    peaks: bool = False
    area: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Shade:
    """A stretch of time, in seconds, with a name."""

    start: float
    end: float
    name: str
    css: str


def line_chart(lines: Sequence[Line], shades: Sequence[Shade] = (), *, unit: str, label: str, height: int = 200) -> str:
    """The picture. `unit` is written beside the axis of values, `label` is for those who cannot see it."""
    thinned = [(line, *_thin(line)) for line in lines]
    end = max([len(line.values) * line.step for line in lines] + [shade.end for shade in shades] + [1e-9])
    top = max((value for _, values, _ in thinned for value in values if value is not None), default=0.0) or 1.0
    ticks = _ticks(top)
    top = max(top, ticks[-1])

    def x(t: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(t, end) / end, 1)

    def y(value: float) -> float:
        return round(TOP + (height - TOP - BOTTOM) * (1 - value / top), 1)

    body: list[str] = []
    for shade in shades:
        wide = max(1.0, round(x(shade.end) - x(shade.start), 1))
        box = f'x="{x(shade.start)}" y="{TOP}" width="{wide}" height="{height - TOP - BOTTOM}"'
        body.append(f'<rect class="shade {shade.css}" {box}/>')
        if shade.name:
            body.append(f'<text class="small" x="{x(shade.start) + 4}" y="{TOP - 6}">{escape(shade.name)}</text>')
    for value in ticks:
        body.append(f'<line class="grid" x1="{LEFT}" y1="{y(value)}" x2="{WIDTH - RIGHT}" y2="{y(value)}"/>')
        body.append(f'<text class="small end" x="{LEFT - 8}" y="{y(value) + 4}">{value:g}</text>')
    body.append(f'<text class="small end" x="{LEFT - 8}" y="{TOP - 6}">{escape(unit)}</text>')
    body += _times(end, height)
    for line, values, step in thinned:
        body += _path(line, [(x((n + 0.5) * step), None if v is None else y(v)) for n, v in enumerate(values)], y(0))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _thin(line: Line) -> tuple[list[float | None], float]:
    """At most so many values as can be seen, and the seconds of each."""
    together = math.ceil(len(line.values) / POINTS) or 1
    out: list[float | None] = []
    for start in range(0, len(line.values), together):
        known = [value for value in line.values[start : start + together] if value is not None]
        out.append(None if not known else max(known) if line.peaks else sum(known) / len(known))
    return out, line.step * together


def _path(line: Line, points: Sequence[tuple[float, float | None]], base: float) -> Iterator[str]:
    """One path for each stretch without a gap."""
    stretch: list[tuple[float, float]] = []
    for x, y in [*points, (0.0, None)]:
        if y is not None:
            stretch.append((x, y))
            continue
        if stretch:
            drawn = "L".join(f"{a} {b}" for a, b in stretch)
            if line.area:
                yield f'<path class="area {line.css}" d="M{stretch[0][0]} {base}L{drawn}L{stretch[-1][0]} {base}Z"/>'
            elif len(stretch) == 1:
                yield f'<circle class="dot {line.css}" cx="{stretch[0][0]}" cy="{stretch[0][1]}" r="1.6"/>'
            else:
                yield f'<path class="line {line.css}" d="M{drawn}"/>'
        stretch = []


def _ticks(top: float) -> list[float]:
    """Three to six round values from 0 on, the last not below `top`."""
    rough = top / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(n * power for n in NICE if n * power >= rough * 0.999)
    return [round(n * step, 6) for n in range(math.ceil(top / step * 0.999) + 1)]


def _times(end: float, height: int) -> Iterator[str]:
    step = SECONDS[min(len(SECONDS) - 1, bisect.bisect_left(SECONDS, end / 10))]
    for n in range(int(end / step) + 1):
        at = round(LEFT + (WIDTH - LEFT - RIGHT) * n * step / end, 1)
        yield f'<text class="small mid" x="{at}" y="{height - 7}">{n * step:g} s</text>'
