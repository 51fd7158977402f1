"""Fault plans as data: rules `when <event> do <fault>`, read from TOML or JSON, validated before anything starts.

    format_version = 1
    name = "refunds-lose-their-reply"
    about = "The gateway commits the first refund of each conversation and its answer is lost."

    [[rules]]
    when = { event = "tool_requested", tool = "refund_payment", nth = 1, per = "conversation" }
    do = { fault = "commit_then_lose_reply" }

`when` names an event of the history (`event`), or a time (`at`, seconds after the start). Any other word in it is either
one of `nth` (a number, a list of numbers, or "every"; default 1), `per` (what is counted: conversation, run, call or all),
`times` (at most so many firings in all), `conversation` (an id), `from` and `until` (a window, seconds after the start),
`chance` (a seeded draw between 0 and 1 per occurrence), `spaced` (true: after its first firing only while nothing else that
lasts is broken, other occurrences are not even counted), or a field of the event that must have this value.
`do` is one fault or a list of faults, each with its parameters.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chaos.vocabulary import FAULTS, POINTS, applies
from chaos.words import unknown
from fakes.faults import Param
from fakes.history import EVENTS, Event

FORMAT_VERSION = 1
SCOPES = ("conversation", "run", "call", "all")
_COUNTING = ("nth", "per", "times", "conversation", "from", "until", "chance", "spaced")
_UNSEEN = ("seq", "t")


class PlanError(ValueError):
    """A fault plan that is wrong: where, what was seen, what was expected, the nearest known word."""


@dataclasses.dataclass(frozen=True, slots=True)
class Do:
    """One fault with its full set of parameters."""

    fault: str
    args: Mapping[str, Any]

    def __str__(self) -> str:
        defaults = FAULTS[self.fault].params
        shown = [f"{k}={v}" for k, v in self.args.items() if v != defaults[k].default]
        return " ".join([self.fault, *shown])


@dataclasses.dataclass(frozen=True, slots=True)
class When:
    """The protocol point: the `event` and its `fields`, the occurrences (`nth`, () for every one), what is counted."""

    event: str | None = None
    at: float | None = None
    fields: tuple[tuple[str, Any], ...] = ()
    nth: tuple[int, ...] = (1,)
    per: str = "conversation"
    times: int | None = None
    conversation: str | None = None
    window: tuple[float, float | None] = (0.0, None)
    chance: float = 1.0
    spaced: bool = False

    def __str__(self) -> str:
        if self.event is None:
            return f"after {self.at:g} s"
        words = [self.event, *(f"{k}={v}" for k, v in self.fields)]
        count = "every one" if not self.nth else "no. " + ",".join(map(str, self.nth))
        words.append(f"({count} per {self.per})" if self.per != "all" else f"({count})")
        if self.times is not None:
            words.append(f"at most {self.times} times")
        start, end = self.window
        if start or end is not None:
            words.append(f"from {start:g} s" + (f" until {end:g} s" if end is not None else ""))
        if self.chance < 1:
            words.append(f"with chance {self.chance:g}")
        if self.spaced:
            words.append("spaced")
        return " ".join(words)

    def matches(self, event: Event) -> bool:
        """Whether the event has the fields that the rule asks for; its kind is the caller's business."""
        if self.conversation is not None and event.conversation != self.conversation:
            return False
        return all(getattr(event, name) == value for name, value in self.fields)

    def scope(self, event: Event) -> object:
        """What occurrences are counted by."""
        if self.per == "all":
            return None
        if self.per == "conversation":
            return event.conversation
        if self.per == "run":
            return getattr(event, "run_id", None)
        return getattr(event, "tool_call_id", None) or getattr(event, "nonce", None)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """`when` a thing happens, `do` these faults. `id` is the plan's name and the rule's number."""

    id: str
    when: When
    do: tuple[Do, ...]

    def __str__(self) -> str:
        return f"when {self.when} do {' and '.join(map(str, self.do))}"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A named set of rules."""

    name: str
    about: str
    rules: tuple[Rule, ...]

    @property
    def needs_async(self) -> bool:
        """Whether every rule is about callbacks, which a coordinator with synchronous tools never gets."""
        return bool(self.rules) and all((r.when.event or "").startswith("callback_") for r in self.rules)

    @property
    def needs_streams(self) -> bool:
        """Whether every rule is about streams, which a coordinator that polls never opens."""
        return bool(self.rules) and all(("via", "stream") in r.when.fields for r in self.rules)

    @property
    def needs_server(self) -> str | None:
        """What the plan needs the store to be: `own` for a server that the run has started, `any` for a server, else None."""
        does = [do for rule in self.rules for do in rule.do]
        if any(do.args.get("target") == "store" for do in does):
            return "own"
        return "any" if any(do.args.get("proxy") == "store" for do in does) else None

    @property
    def needs_wire(self) -> bool:
        """Whether it breaks what the simulation does not have: a store that is a server, or containers."""
        return self.needs_server is not None or "disconnect" in self.faults

    @property
    def faults(self) -> frozenset[str]:
        """The fault words that the plan uses."""
        return frozenset(do.fault for rule in self.rules for do in rule.do)

    def to_json(self) -> dict[str, Any]:
        """The plan as data, complete: `parse` of it gives the same plan."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "about": self.about,
            "rules": [
                {"id": r.id, "when": _when_json(r.when), "do": [{"fault": d.fault, **d.args} for d in r.do]} for r in self.rules
            ],
        }


def load(path: Path) -> Plan:
    """Read a plan file (.toml or .json). Raises PlanError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"plan file {path} cannot be read: {error}") from None
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise PlanError(f"plan file {path} is not {kind}: {error}") from None
    if isinstance(data, Mapping):
        data = {"name": path.stem, **data}
    return parse(data, where=str(path))


def parse(data: Any, where: str = "plan") -> Plan:
    """A plan from data. Raises PlanError that names the place and the nearest known word."""
    table = _table(data, where, ("format_version", "name", "about", "rules"))
    version = table.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise PlanError(f"{where}: format_version is {version!r}, this version of anechoic reads {FORMAT_VERSION}")
    name = table.get("name", "plan")
    rules = table.get("rules", [])
    if not isinstance(name, str) or not name:
        raise PlanError(f"{where}: name must be text, not {name!r}")
    if not isinstance(rules, list):
        raise PlanError(f"{where}: rules must be a list of tables ([[rules]]), not {type(rules).__name__}")
    about = str(table.get("about", "")).strip()
    return Plan(name, about, tuple(_rule(r, f"{where}, rule {i}", f"{name}/{i}") for i, r in enumerate(rules, 1)))


def combine(plans: Iterable[Plan]) -> Plan:
    """Several plans at once, named a+b."""
    parts = list(plans)
    return Plan(
        "+".join(p.name for p in parts),
        " Together with: ".join(p.about for p in parts),
        tuple(rule for p in parts for rule in p.rules),
    )


def _rule(data: Any, where: str, default_id: str) -> Rule:
    table = _table(data, where, ("id", "when", "do"))
    for key in ("when", "do"):
        if key not in table:
            raise PlanError(f"{where}: `{key}` is missing; a rule is `when = {{ event = ... }}` and `do = {{ fault = ... }}`")
    when = _when(table["when"], f"{where}, when")
    todo = table["do"] if isinstance(table["do"], list) else [table["do"]]
    if not todo:
        raise PlanError(f"{where}, do: expected at least one fault")
    rule_id = table.get("id", default_id)
    if not isinstance(rule_id, str) or not rule_id:
        raise PlanError(f"{where}: id must be text, not {rule_id!r}")
    return Rule(rule_id, when, tuple(_do(d, f"{where}, do", when) for d in todo))


def _when(data: Any, where: str) -> When:
    table = dict(_table(data, where, None))
    at = table.pop("at", None)
    if at is not None:
        if isinstance(at, bool) or not isinstance(at, int | float) or at < 0:
            raise PlanError(f"{where}: at={at!r} must be a number of seconds, 0 or more")
        if table:
            raise PlanError(f"{where}: `at` stands alone, but {', '.join(table)} stands beside it")
        return When(at=float(at), per="all")
    event = table.pop("event", None)
    if event is None:
        raise PlanError(f"{where}: `event` is missing (or `at`, seconds after the start)")
    if event not in POINTS:
        raise PlanError(f"{where}: {unknown('event', event, POINTS)}")
    names = [f.name for f in dataclasses.fields(EVENTS[event]) if f.name not in _UNSEEN]
    for key in table:
        if key not in (*_COUNTING, *names):
            raise PlanError(f"{where}: {unknown(f'word for event {event!r}', key, [*_COUNTING, *names])}")
    nth = table.pop("nth", 1)
    per = table.pop("per", "conversation")
    times = table.pop("times", None)
    conversation = table.pop("conversation", None)
    start, end = _number(table, "from", 0.0, where), _number(table, "until", None, where)
    chance = _number(table, "chance", 1.0, where)
    if chance is None or chance > 1:
        raise PlanError(f"{where}: chance={chance!r} must be between 0 and 1")
    spaced = table.pop("spaced", False)
    if not isinstance(spaced, bool):
        raise PlanError(f"{where}: spaced={spaced!r} must be true or false")
    if per not in SCOPES:
        raise PlanError(f"{where}: {unknown('scope in `per`', per, SCOPES)}")
    if times is not None and not _whole(times):
        raise PlanError(f"{where}: times={times!r} must be a whole number, 1 or more")
    window = (start or 0.0, end)
    fields = tuple(sorted(table.items()))
    return When(event, None, fields, _nth(nth, where), per, times, conversation, window, chance, spaced)


def _number(table: dict[str, Any], key: str, default: float | None, where: str) -> float | None:
    value = table.pop(key, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise PlanError(f"{where}: {key}={value!r} must be a number, 0 or more")
    return float(value)


def _nth(nth: Any, where: str) -> tuple[int, ...]:
    if nth == "every":
        return ()
    numbers = nth if isinstance(nth, list) else [nth]
    if not numbers or not all(_whole(n) for n in numbers):
        raise PlanError(f'{where}: nth={nth!r} must be a whole number from 1, a list of them, or "every"')
    return tuple(numbers)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _do(data: Any, where: str, when: When) -> Do:
    table = dict(_table(data, where, None))
    fault = table.pop("fault", None)
    if fault is None:
        raise PlanError(f"{where}: `fault` is missing. Known: {', '.join(sorted(FAULTS))}")
    kind = FAULTS.get(fault)
    if kind is None:
        raise PlanError(f"{where}: {unknown('fault', fault, FAULTS)}")
    if not applies(kind, when.event or ""):
        at = repr(when.event) if when.event else "a time"
        raise PlanError(f"{where}: fault {fault!r} cannot happen at {at}; it happens at {' or '.join(kind.points)}")
    for key in table:
        if key not in kind.params:
            raise PlanError(f"{where}: {unknown(f'parameter of {fault!r}', key, kind.params)}")
    args = {key: _value(table.get(key, param.default), param, f"{where}, {fault}.{key}") for key, param in kind.params.items()}
    return Do(fault, args)


def _value(value: Any, param: Param, where: str) -> Any:
    if isinstance(param.type, tuple):
        if value not in param.type:
            raise PlanError(f"{where}: {unknown('value', value, param.type)}")
        return value
    if param.type is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise PlanError(f"{where}: {value!r} must be a number, 0 or more ({param.about})")
        return float(value)
    if not isinstance(value, param.type) or isinstance(value, bool) or (isinstance(value, int) and value < 1):
        expected = {int: "a whole number, 1 or more", dict: "a table"}.get(param.type, param.type.__name__)
        raise PlanError(f"{where}: {value!r} must be {expected} ({param.about})")
    return value


def _table(data: Any, where: str, known: tuple[str, ...] | None) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise PlanError(f"{where}: expected a table, got {data!r}")
    for key in data:
        if known is not None and key not in known:
            raise PlanError(f"{where}: {unknown('word', key, known)}")
    return data


def _when_json(when: When) -> dict[str, Any]:
    if when.event is None:
        return {"at": when.at}
    out: dict[str, Any] = {"event": when.event, **dict(when.fields), "nth": list(when.nth) or "every", "per": when.per}
    if when.times is not None:
        out["times"] = when.times
    if when.conversation is not None:
        out["conversation"] = when.conversation
    if when.window[0]:
        out["from"] = when.window[0]
    if when.window[1] is not None:
        out["until"] = when.window[1]
    if when.chance < 1:
        out["chance"] = when.chance
    if when.spaced:
        out["spaced"] = True
    return out
