"""A case: everything that is needed to run once what a search tried, in either world.

A case names its turns by shape (which tools, in which steps) and carries the fault rules of each turn; ids are made when
it is bound, so that many cases can be in flight in one world, and the same case can be tried again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from chaos.plan import FORMAT_VERSION as PLAN_FORMAT
from chaos.plan import Plan, PlanError, Rule, parse
from chaos.turns import Turn
from chaos.vocabulary import FAULTS
from chaos.words import unknown
from contracts.catalogue import UnknownContract, named
from contracts.profiles import RetryBudget
from fakes.gateway.profile import PROFILES, Profile
from fakes.ids import derived
from fakes.script import TOOLS, Script, ScriptedCall

REPEATS = ("400", "200", "409")
SETTINGS = ("poll_interval", "tool_timeout", "client_timeout", "clock_skew", "replica_lag")
"""Times that a case may set, in seconds; what it leaves out is the world's default. The last two are the simulation's."""
KNOWN_TOOLS = tuple(tool["function"]["name"] for tool in TOOLS)
TWIN = "twin"
USER = "U19384"
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "create_ticket": {"subject": "Damaged order"},
    "send_email": {"template": "ticket_confirmation"},
    "refund_payment": {"amount_cents": 500},
}


class CaseError(ValueError):
    """A case that cannot be read: where, what was seen, what was expected."""


@dataclasses.dataclass(frozen=True, slots=True)
class CaseTurn:
    """One turn: its steps, each with the tools that it asks for in parallel, and the fault rules for its conversation.

    The word `twin` among the tools is exactly the call before it once more, `reference` included: two calls, two effects.
    """

    steps: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...] = ()

    @property
    def calls(self) -> int:
        """How many calls it asks for."""
        return sum(map(len, self.steps))

    def script(self, conversation: str, turn: str) -> Script:
        """What the fake LLM is to ask for."""
        common = {"user_id": USER, "conversation_id": conversation}
        steps: list[tuple[ScriptedCall, ...]] = []
        for ordinal, step in enumerate(self.steps):
            calls: list[ScriptedCall] = []
            for position, tool in enumerate(step):
                if tool == TWIN:
                    calls.append(calls[-1])
                    continue
                arguments = {**common, **_ARGUMENTS[tool]}
                if position + 1 < len(step) and step[position + 1] == TWIN:
                    arguments["reference"] = derived(conversation, turn, TWIN, ordinal, position, length=12)
                calls.append(ScriptedCall(tool, arguments))
            steps.append(tuple(calls))
        return Script(turn, conversation, USER, tuple(steps))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything to run once, and what is demanded of it.

    `coordinator` is a name, a `module:attribute` or a command line; `settings` are times in seconds; `demand` names contracts,
    none for all that the gateway makes possible; with a `retry_budget` C12 is judged, too.
    """

    coordinator: str
    gateway: str
    turns: tuple[CaseTurn, ...]
    seed: int = 0
    instances: int = 2
    repeat_submit: str = "400"
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    demand: tuple[str, ...] = ()
    retry_budget: RetryBudget | None = None

    def __str__(self) -> str:
        lines = []
        for number, turn in enumerate(self.turns, 1):
            steps = ", then ".join(" + ".join(step) for step in turn.steps)
            lines.append(f"turn {number} asks for {steps}")
            lines += [f"  {rule}" for rule in turn.rules]
        return "\n".join(lines)

    @property
    def profile(self) -> Profile:
        """The gateway's profile."""
        return PROFILES[self.gateway]

    @property
    def calls(self) -> int:
        """How many calls are asked for in all."""
        return sum(turn.calls for turn in self.turns)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The fault rules of all turns."""
        return tuple(rule for turn in self.turns for rule in turn.rules)

    @property
    def key(self) -> str:
        """The case as one line of text: equal for equal cases."""
        return json.dumps(self.to_json(), sort_keys=True)

    def bound(self, salt: str = "") -> list[tuple[Turn, Plan]]:
        """The turns with ids, each with its rules as a plan. `salt` keeps the ids of several cases in one world apart."""
        out: list[tuple[Turn, Plan]] = []
        for number, turn in enumerate(self.turns, 1):
            conversation, turn_id, name = f"C{salt}{number}", f"turn_{salt}{number}", f"turn-{salt}{number}"
            rules = tuple(dataclasses.replace(rule, id=f"{name}/{i}") for i, rule in enumerate(turn.rules, 1))
            plan = Plan(name, f"the faults of turn {number}", rules)
            out.append((Turn(turn.script(conversation, turn_id), (name,)), plan))
        return out

    def to_json(self) -> dict[str, Any]:
        """The case as data: `from_json` of it gives the same case. What has its default value is left out of rules."""
        return {
            "coordinator": self.coordinator,
            "gateway": self.gateway,
            "instances": self.instances,
            "seed": self.seed,
            "repeat_submit": self.repeat_submit,
            "settings": dict(self.settings),
            "demand": list(self.demand),
            "retry_budget": dataclasses.asdict(self.retry_budget) if self.retry_budget else None,
            "turns": [
                {"steps": [list(step) for step in turn.steps], "rules": [rule_json(r) for r in turn.rules]}
                for turn in self.turns
            ],
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "case") -> Case:
        """A case from data. Raises CaseError."""
        table = _object(data, where, tuple(field.name for field in dataclasses.fields(cls)))
        for name in ("coordinator", "gateway", "turns"):
            if name not in table:
                raise CaseError(f"{where}: `{name}` is missing")
        if not isinstance(table["coordinator"], str) or not table["coordinator"]:
            raise CaseError(f"{where}: coordinator must be text, not {table['coordinator']!r}")
        if table["gateway"] not in PROFILES:
            raise CaseError(f"{where}: {unknown('gateway profile', table['gateway'], PROFILES)}")
        repeat = table.get("repeat_submit", "400")
        if repeat not in REPEATS:
            raise CaseError(f"{where}: {unknown('repeat_submit', repeat, REPEATS)}")
        if not isinstance(table["turns"], list) or not table["turns"]:
            raise CaseError(f"{where}: turns must be a list with at least one turn")
        return cls(
            coordinator=table["coordinator"], gateway=table["gateway"], repeat_submit=repeat,
            turns=tuple(_turn(t, f"{where}, turn {i}") for i, t in enumerate(table["turns"], 1)),
            seed=_whole(table.get("seed", 0), f"{where}: seed", 0),
            instances=_whole(table.get("instances", 2), f"{where}: instances", 1),
            settings=_settings(table.get("settings", {}), where),
            demand=_demand(table.get("demand", []), where),
            retry_budget=_budget(table.get("retry_budget"), where),
        )


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as data, without what has its default value; a plan file takes it as it is."""
    full = Plan("", "", (rule,)).to_json()["rules"][0]
    when = dict(full["when"])
    if when.get("nth") == [1]:
        del when["nth"]
    elif isinstance(when.get("nth"), list) and len(when["nth"]) == 1:
        when["nth"] = when["nth"][0]
    if when.get("per") == "conversation":
        del when["per"]
    todo = [
        {k: v for k, v in do.items() if k == "fault" or v != FAULTS[do["fault"]].params[k].default} for do in full["do"]
    ]
    return {"when": when, "do": todo[0] if len(todo) == 1 else todo}


def rules_of(data: Any, where: str = "rules") -> tuple[Rule, ...]:
    """Rules from data, as plan files have them. Raises CaseError."""
    try:
        return parse({"format_version": PLAN_FORMAT, "name": "r", "rules": data}, where).rules
    except PlanError as error:
        raise CaseError(str(error)) from None


def _turn(data: Any, where: str) -> CaseTurn:
    table = _object(data, where, ("steps", "rules"))
    steps = table.get("steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(s, list) and s for s in steps):
        raise CaseError(f'{where}: steps must be a list of lists of tools, such as [["create_ticket"]], not {steps!r}')
    for number, step in enumerate(steps, 1):
        for tool in step:
            if tool not in (*KNOWN_TOOLS, TWIN):
                raise CaseError(f"{where}, step {number}: {unknown('tool', tool, (*KNOWN_TOOLS, TWIN))}")
        if step[0] == TWIN:
            raise CaseError(f"{where}, step {number}: a twin repeats the call before it, and there is none")
    return CaseTurn(tuple(map(tuple, steps)), rules_of(table.get("rules", []), where))


def _settings(data: Any, where: str) -> dict[str, float]:
    table = _object(data, f"{where}, settings", SETTINGS)
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise CaseError(f"{where}, settings: {name}={value!r} must be a number of seconds above 0")
    return {name: float(value) for name, value in table.items()}


def _demand(data: Any, where: str) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(word, str) for word in data):
        raise CaseError(f"{where}: demand must be a list of contracts, not {data!r}")
    try:
        named(data)
    except UnknownContract as error:
        raise CaseError(f"{where}, demand: {error}") from None
    return tuple(data)


def _budget(data: Any, where: str) -> RetryBudget | None:
    if data is None:
        return None
    table = _object(data, f"{where}, retry_budget", ("max_attempts", "min_backoff"))
    for name, value in table.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise CaseError(f"{where}, retry_budget: {name}={value!r} must be a number, 0 or more")
    return RetryBudget(**table)


def _object(data: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise CaseError(f"{where}: expected an object, seen {type(data).__name__}")
    for key in data:
        if key not in known:
            raise CaseError(f"{where}: {unknown('word', key, known)}")
    return dict(data)


def _whole(value: Any, what: str, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise CaseError(f"{what}={value!r} must be a whole number, {low} or more")
    return value
