"""A run over time as SVG: the effects of each moment, the turns that were open, and what was broken when."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html import escape

from contracts.disturbances import MOMENTARY, Fault
from contracts.index import Index
from fakes.faults import FAKE_FAULTS

WIDTH, LEFT, BINS = 960, 96, 96
EFFECTS, OPEN, LINE = 110, 54, 15
"""Pixels: the height of the effects, of the open turns, and of one line of faults."""
MOST = 8
"""So many lines of faults that last are drawn."""
X = Callable[[float], float]
"""From seconds to pixels."""


def to_svg(index: Index) -> str:
    """The picture. Its colours are classes of the page that it stands in."""
    end = max(index.end, 0.001)

    def x(t: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 8) * min(t, end) / end, 1)

    lasting = _lines([f for f in index.faults.all if f.injected and not _momentary(f)])
    faults_at = EFFECTS + OPEN + 34
    height = faults_at + LINE * (1 + len(lasting)) + 34
    parts = [_quiesce(index, x(end), height, x)] if index.quiesce is not None else []
    parts += _effects(index, end)
    parts += _open_turns(index, x, EFFECTS + 22)
    parts += _faults(index, lasting, x, faults_at)
    parts += _axis(end, height, x)
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="What happened over time" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _quiesce(index: Index, right: float, height: int, x: X) -> str:
    assert index.quiesce is not None
    left = x(index.quiesce.t)
    return (
        f'<rect class="rest" x="{left}" y="4" width="{max(1.0, right - left)}" height="{height - 30}"/>'
        f'<text class="small" x="{left + 4}" y="15">quiesce</text>'
    )


def _effects(index: Index, end: float) -> Iterator[str]:
    again = {id(effect) for intent in index.intents for effect in sorted(intent.effects, key=lambda e: e.event.seq)[1:]}
    first: Counter[int] = Counter()
    more: Counter[int] = Counter()
    for effect in index.effects:
        place = min(BINS - 1, int(BINS * effect.event.t / end))
        (more if id(effect) in again else first)[place] += 1
    top = max((first[n] + more[n] for n in range(BINS)), default=0) or 1
    wide = (WIDTH - LEFT - 8) / BINS
    yield f'<text class="axis" x="{LEFT - 10}" y="{EFFECTS // 2}">effects</text>'
    yield f'<text class="small end" x="{LEFT - 10}" y="14">{top}</text>'
    yield f'<line class="base" x1="{LEFT}" y1="{EFFECTS}" x2="{WIDTH - 8}" y2="{EFFECTS}"/>'
    for n in range(BINS):
        one, two = (round((EFFECTS - 8) * count[n] / top, 1) for count in (first, more))
        left = round(LEFT + n * wide + 0.5, 1)
        for css, tall, base in (("once", one, EFFECTS), ("again", two, EFFECTS - one)):
            if tall:
                box = f'x="{left}" y="{round(base - tall, 1)}" width="{round(wide - 1, 1)}" height="{tall}"'
                yield f'<rect class="{css}" {box} rx="1"/>'


def _open_turns(index: Index, x: X, at: int) -> Iterator[str]:
    moves: list[tuple[float, int]] = []
    for turn in index.turns.values():
        if turn.planned is not None:
            moves.append((turn.planned.t, 1))
            moves.append((turn.ended.t if turn.ended is not None else index.end, -1))
    moves.sort()
    points: list[tuple[float, int]] = []
    count = top = 0
    for t, move in moves:
        count += move
        top = max(top, count)
        points.append((t, count))
    base = at + OPEN - 8
    path = [f"M{LEFT} {base}"]
    for t, n in points:
        path.append(f"H{x(t)}V{round(base - (OPEN - 10) * n / (top or 1), 1)}")
    yield f'<text class="axis" x="{LEFT - 10}" y="{at + OPEN // 2}">open turns</text>'
    yield f'<text class="small end" x="{LEFT - 10}" y="{at + 8}">{top}</text>'
    yield f'<path class="open" d="{"".join(path)}V{base}Z"/>'


def _faults(index: Index, lasting: Sequence[Sequence[Fault]], x: X, at: int) -> Iterator[str]:
    yield f'<text class="axis" x="{LEFT - 10}" y="{at + 10}">faults</text>'
    for fault in index.faults.all:
        if fault.injected and _momentary(fault):
            yield f'<rect class="tick" x="{x(fault.intended)}" y="{at}" width="1.6" height="{LINE - 3}">{_title(fault)}</rect>'
    for n, line in enumerate(lasting, 1):
        for fault in line:
            left, right = x(fault.intended), x(_until(fault, index.end))
            yield (
                f'<rect class="lasting" x="{left}" y="{at + n * LINE}" width="{max(2.5, round(right - left, 1))}" '
                f'height="{LINE - 4}" rx="2">{_title(fault)}</rect>'
            )


def _lines(faults: Sequence[Fault]) -> list[list[Fault]]:
    """Faults that last, on as few lines as keep them apart."""
    lines: list[list[Fault]] = []
    for fault in sorted(faults, key=lambda f: f.intended):
        free = next((line for line in lines if _until(line[-1], 0.0) <= fault.intended), None)
        if free is not None:
            free.append(fault)
        elif len(lines) < MOST:
            lines.append([fault])
    return lines


def _momentary(fault: Fault) -> bool:
    return fault.local or (fault.healed is None and (fault.name in MOMENTARY or fault.name in FAKE_FAULTS))


def _until(fault: Fault, end: float) -> float:
    return fault.healed if fault.healed is not None else max(end, fault.intended + fault.seconds)


def _title(fault: Fault) -> str:
    healed = f" to +{fault.healed:.2f} s" if fault.healed is not None else ""
    return f"<title>{escape(fault.name)} (rule {escape(fault.rule)}) at +{fault.intended:.2f} s{healed}</title>"


def _axis(end: float, height: int, x: X) -> Iterator[str]:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
    step = steps[min(len(steps) - 1, bisect.bisect_left(steps, end / 8))]
    n = 0
    while n * step <= end:
        yield f'<line class="grid" x1="{x(n * step)}" y1="4" x2="{x(n * step)}" y2="{height - 24}"/>'
        yield f'<text class="small mid" x="{x(n * step)}" y="{height - 8}">{n * step:g} s</text>'
        n += 1
