"""A sequence diagram as SVG: actors are columns, and each message has a row of its own, so that its label may be wide."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from anechoic.report.sequence import Diagram, Message

LEFT, LANE, HEAD, ROW, FAULT = 84, 190, 50, 38, 30
"""Pixels: the column of times, the distance of two actors, the actors' names, a message, a fault."""
CHAR = 7.3
"""Pixels of an average character of a label."""


def to_svg(diagram: Diagram, *, twice: bool = False) -> str:
    """The picture. Its colours are classes of the page that it stands in; `twice` marks every effect but the first."""
    width = LEFT + LANE * max(1, len(diagram.actors))
    x = {actor: LEFT + LANE * n + LANE // 2 for n, actor in enumerate(diagram.actors)}
    body: list[str] = []
    y, effects = HEAD, 0
    for message in diagram.messages:
        tall = FAULT if message.sender is None else ROW
        effects += message.kind == "effect"
        kind = "again" if twice and message.kind == "effect" and effects > 1 else message.kind
        body += _row(message, kind, x, y, tall, width)
        y += tall
    height = y + 12
    lines = [f'<line class="life" x1="{at}" y1="{HEAD - 14}" x2="{at}" y2="{height - 6}"/>' for at in x.values()]
    heads = [
        f'<rect class="actor" x="{at - LANE // 2 + 12}" y="6" width="{LANE - 24}" height="30" rx="8"/>'
        f'<text class="name" x="{at}" y="26">{escape(actor)}</text>'
        for actor, at in x.items()
    ]
    return (
        f'<svg class="sequence" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Sequence diagram of the violation" xmlns="http://www.w3.org/2000/svg">'
        + "".join([*lines, *heads, *body]) + "</svg>"
    )


def _row(message: Message, kind: str, x: dict[str, int], y: int, tall: int, width: int) -> Iterator[str]:
    middle = y + tall // 2
    yield f'<text class="t" x="{LEFT - 14}" y="{middle + 4}">+{message.t:.3f}</text>'
    if message.sender is None:
        yield f'<rect class="band {kind}" x="{LEFT}" y="{y + 3}" width="{width - LEFT - 8}" height="{tall - 6}" rx="6"/>'
        yield _text(message.label, (LEFT + width) // 2, middle + 4, width, f"label {kind}")
    elif message.receiver is None:
        shown = _cut(message.label, width)
        wide = int(len(shown) * CHAR) + 22
        at = _inside(x[message.sender], wide, width)
        yield f'<rect class="note {kind}" x="{at - wide // 2}" y="{y + 6}" width="{wide}" height="{tall - 12}" rx="6"/>'
        yield _text(message.label, at, middle + 4, width, f"label {kind}")
    else:
        yield from _arrow(message, kind, x[message.sender], x[message.receiver], middle + 8, width)


def _arrow(message: Message, kind: str, start: int, end: int, y: int, width: int) -> Iterator[str]:
    way = 1 if end > start else -1
    tip = end - 2 * way if kind != "lost" else (start + end) // 2
    yield f'<line class="arrow {kind}" x1="{start}" y1="{y}" x2="{tip}" y2="{y}"/>'
    if kind == "lost":
        yield f'<path class="cross" d="M{tip - 5} {y - 5}l10 10m0 -10l-10 10"/>'
    else:
        yield f'<path class="tip {kind}" d="M{tip} {y}l{-9 * way} -4.5v9z"/>'
    wide = int(len(_cut(message.label, width)) * CHAR)
    yield _text(message.label, _inside((start + end) // 2, wide, width), y - 7, width, f"label {kind}")


def _inside(at: int, wide: int, width: int) -> int:
    """The middle of something so wide, moved so that it stays within the picture."""
    return max(LEFT + wide // 2, min(at, width - 6 - wide // 2))


def _text(label: str, at: int, y: int, width: int, css: str) -> str:
    shown = _cut(label, width)
    full = f"<title>{escape(label)}</title>" if shown != label else ""
    return f'<text class="{css}" x="{at}" y="{y}">{full}{escape(shown)}</text>'


def _cut(label: str, width: int) -> str:
    most = int((width - LEFT - 30) / CHAR)
    return label if len(label) <= most else label[: most - 2] + ".."
