"""The words of fault plans as a document, made from the code: docs/plans.md is what this prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from chaos import builtin
from chaos.vocabulary import FAULTS, POINTS, WORLD_FAULTS
from fakes.faults import Param
from fakes.history import EVENTS, Event

_HEAD = """\
# Fault plans: every word

This page is what `anechoic plans --words` prints. A plan is a TOML or JSON file with `format_version`, `name`, `about` and
`rules`; a rule is `when = {...}` and `do = {...}`, or a list of faults.

In `when`, beside `event` (or `at`, seconds after the start):

| word | meaning | default |
|---|---|---|
| `nth` | which occurrence: a number from 1, a list of numbers, or `"every"` | 1 |
| `per` | what is counted by: `conversation`, `run`, `call` or `all` | `conversation` |
| `times` | at most so many firings in the whole run | no limit |
| `from`, `until` | only within this window, seconds after the start | always |
| `chance` | a seeded draw for each occurrence, between 0 and 1 | 1 |
| `spaced` | after the first firing, only while nothing else that lasts is broken | false |
| `conversation` | only this conversation_id | any |
| any field of the event | must have this value | any |
"""


def document() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *_faults(), *_events(), *_plans()])


def _faults() -> Iterator[str]:
    yield "## Faults\n"
    yield "| fault | what it does | at | parameters (default) |"
    yield "|---|---|---|---|"
    for kind in FAULTS.values():
        points = "any event, or a time" if kind.name in WORLD_FAULTS else ", ".join(f"`{p}`" for p in kind.points)
        params = "; ".join(f"`{name}`: {param.about} ({_default(param)})" for name, param in kind.params.items())
        yield f"| `{kind.name}` | {kind.about} | {points} | {params} |"
    yield ""


def _default(param: Param) -> str:
    if isinstance(param.type, tuple):
        return " or ".join(f"**{w}**" if w == param.default else w for w in param.type)
    return f"{param.default:g}" if isinstance(param.default, float) else f"{param.default}"


def _events() -> Iterator[str]:
    yield "## Events\n"
    yield "| event | when it is recorded | fields |"
    yield "|---|---|---|"
    for name in sorted(POINTS):
        cls = EVENTS[name]
        about = (cls.__doc__ or "").strip().split("\n\n", 1)[0].replace("\n", " ").replace("    ", "").replace("|", "\\|")
        fields = ", ".join(f"`{f.name}`" for f in dataclasses.fields(cls) if f.name not in _COMMON)
        yield f"| `{name}` | {about} | {fields} |"
    yield ""


_COMMON = frozenset(f.name for f in dataclasses.fields(Event))


def _plans() -> Iterator[str]:
    yield "## Built-in plans\n"
    yield "| plan | what happens |"
    yield "|---|---|"
    for plan in builtin.plans().values():
        yield f"| `{plan.name}` | {plan.about} |"
    yield ""
