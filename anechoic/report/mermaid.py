"""A sequence diagram as mermaid text, which GitHub draws."""

from __future__ import annotations

import re

from anechoic.report.sequence import Diagram, Message

WIDEST = 90
"""Characters of a label; a longer one is cut."""
_PLAIN = re.compile(r"[^A-Za-z0-9 _.,:/()=+-]")


def to_mermaid(diagram: Diagram) -> str:
    """The diagram; every label is escaped, so that nothing in it can end a statement or begin another."""
    names = {actor: f"p{n}" for n, actor in enumerate(diagram.actors)}
    lines = ["sequenceDiagram", *(f"    participant {name} as {escape(actor)}" for actor, name in names.items())]
    lines += [f"    {_line(message, names)}" for message in diagram.messages]
    return "\n".join(lines)


def escape(text: str) -> str:
    """A label: whatever could mean something to mermaid is an entity."""
    cut = text if len(text) <= WIDEST else text[: WIDEST - 2] + ".."
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", " ".join(cut.split()))


def _line(message: Message, names: dict[str, str]) -> str:
    label = escape(message.label)
    if message.sender is None:
        first, last = (*names.values(),)[0], (*names.values(),)[-1]
        return f"Note over {first},{last}: {label}" if first != last else f"Note over {first}: {label}"
    if message.receiver is None:
        return f"Note over {names[message.sender]}: {label}"
    arrow = "--x" if message.kind == "lost" else "->>"
    return f"{names[message.sender]}{arrow}{names[message.receiver]}: {label}"
