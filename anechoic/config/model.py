"""The configuration: every key with its type, its default and what it is for. The schema and the documents are made of it.

A key is another word for an option of the command line, which overrides it; so nothing here knows what it does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from anechoic.budget import NoDuration, seconds_of
from anechoic.config.errors import refuse
from anechoic.config.source import find, read
from chaos import builtin
from chaos.containers.selection import CONFIG_FILES, SERVICE
from chaos.plan import FORMAT_VERSION, Plan, PlanError, parse
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings, by_url
from chaos.wire.store import check as check_store
from chaos.words import unknown
from contracts.catalogue import HEADLINE, UnknownContract, named
from fakes.gateway.profile import PROFILES

WAYS = ("command", "name", "url", "container", "service")
"""The keys of which exactly one says what is tested."""
_WIRE: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}

_TABLES = {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
_RULE = {"type": "object", "required": ["when", "do"], "properties": {"id": {"type": "string"}, "when": {"type": "object"}, "do": _TABLES}}
PLAN: dict[str, Any] = {
    "type": "object", "required": ["name", "rules"], "additionalProperties": False,
    "properties": {
        "format_version": {"const": FORMAT_VERSION}, "name": {"type": "string", "minLength": 1}, "about": {"type": "string"},
        "rules": {"type": "array", "items": _RULE},
    },
}
"""A plan as the schema has it; `anechoic plans --words` has its words, and `chaos.plan.parse` the last one."""


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        return seconds_of(value, "the time")
    except NoDuration as error:
        raise ValueError(str(error)) from None


def _known(words: Callable[[str], object]) -> AfterValidator:
    """Checked by what knows the words, whose error becomes the message."""

    def check(value: str) -> str:
        try:
            words(value)
        except (WireError, UnknownContract, PlanError) as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


def _gateway(value: str) -> str:
    if value not in PROFILES:
        raise ValueError(unknown("gateway profile", value, PROFILES))
    return value


class _OneOrMany:
    """Written by itself, one is a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(lambda v: [v] if isinstance(v, str) else v, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


T = TypeVar("T")
Many = Annotated[list[T], Field(min_length=1), _OneOrMany()]

Seconds = Annotated[
    float, Field(gt=0), BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?[smh]?$"}]}),
]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Gateway = Annotated[str, AfterValidator(_gateway), WithJsonSchema({"enum": list(PROFILES)})]
File = Annotated[Text, WithJsonSchema({"type": "string", "format": "path"})]


class Table(BaseModel):
    """A table of the file. What is not known is an error, and nothing is converted: "3" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Coordinator(Table):
    """The coordinator under test: exactly one of command, name, url, container and service, and what it needs."""

    command: Text | None = Field(None, description="The command line that starts one instance.")
    name: Text | None = Field(
        None, description="A coordinator that comes with the harness (hardened, as_deployed), or in the simulation module:attribute."
    )
    url: Many[Annotated[str, _known(lambda url: by_url((url,)))]] | None = Field(
        None, description="Address of an instance that runs already, or a list of them."
    )
    container: Many[Text] | None = Field(
        None, description="Name of a container in which an instance runs already, a list of them, or a label K=V of all of them."
    )
    service: Text | None = Field(None, description="Name of a compose service whose containers, running already, are the instances.")
    compose_file: Many[File] | None = Field(
        None, description="Compose file that the service is of, or a list of those given with -f, where several projects have one of its name."
    )
    container_port: Count | None = Field(None, description="Where the coordinator listens inside its container.")
    instances: Count | None = Field(
        None, description="How many instances to start; left out: 3, or all that run already."
    )
    tools: Literal["sync", "async"] | None = Field(
        None, description="How its tool calls are answered: in their own reply, or later. Left out: as GET /healthz says."
    )
    environment: dict[str, str] = Field({}, description="Variables for the environment of every instance.")
    setup: Text | None = Field(None, description="Run once in the coordinator's environment, before it is started.")
    teardown: Text | None = Field(None, description="Run at the end, whatever happened.")
    store: Annotated[str, _known(check_store)] | None = Field(
        None, description="The store that all instances share: sqlite, redis or redis://host:port/db."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Coordinator:
        given = [way for way in WAYS if getattr(self, way)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} beside each other; give one of {', '.join(WAYS)}")
        if self.compose_file and not self.service:
            raise ValueError("compose_file says of which file the service is; give service as well")
        return self

    @property
    def containers(self) -> list[str] | None:
        """The names of its containers, or the labels that they carry."""
        if self.service is None:
            return self.container
        files = ",".join(str(Path(file).absolute()) for file in self.compose_file or ())
        return [f"{SERVICE}={self.service}", *([f"{CONFIG_FILES}={files}"] if files else ())]


class Budgets(Table):
    """Times, in seconds or as text such as "90s", "5m", "2h"."""

    poll_interval: Seconds | None = Field(None, description="POLL_INTERVAL of every instance: the pause between two polls of a run.")
    tool_timeout: Seconds | None = Field(None, description="TOOL_TIMEOUT of every instance: how long to wait for the gateway.")
    client_timeout: Seconds | None = Field(None, description="CLIENT_TIMEOUT of every instance: how long to wait for the API.")
    ready_timeout: Seconds = Field(_WIRE["ready_timeout"], description="How long an instance may take until it is ready.")
    turn: Seconds = Field(_WIRE["turn_budget"], description="How long open turns are waited for before faults are healed.")
    quiesce: Seconds = Field(_WIRE["quiesce_budget"], description="How long the system has to come to rest after everything was healed.")
    total: Seconds | None = Field(None, description="Wall time of a whole gate; what happened until then is judged.")


class Config(Table):
    """All of it."""

    coordinator: Coordinator = Field(Coordinator(), description="The coordinator under test, and what it needs.")
    gateway: Many[Gateway] = Field(
        ["keyless"], description="Gateway profile (see `anechoic contracts`), or a list of them: a gate runs at one after the other."
    )
    plans: Many[Text] | None = Field(
        None, description="Fault plans: names, several joined by +, or files. Left out: the built-in set, alone and in pairs."
    )
    plan: list[Annotated[dict[str, Any], WithJsonSchema(PLAN)]] = Field([], description="A fault plan of your own, as a table [[plan]] with name, about and rules.")
    demand: Many[Annotated[str, _known(lambda name: named([name]))]] | None = Field(
        None, description=f"Contracts that must hold, such as C1 or {HEADLINE}. Left out: all that are possible."
    )
    turns: Count | None = Field(None, description="How many turns a gate, or a round of a chaos run, delivers.")
    in_flight: Count = Field(_WIRE["in_flight"], description="How many conversations run at once.")
    seed: int | None = Field(None, description="Seed of ids, turns and faults. Left out: a fresh one is drawn and printed.")
    repeat_submit: Literal["400", "200", "409"] = Field("400", description="What a second submit of the same outputs gets.")
    toxiproxy: Text | None = Field(None, description="Admin address of a real Toxiproxy to use instead of the embedded one.")
    base_port: Count | None = Field(None, description="First of the fixed ports of the proxies.")
    proxy_host: Text = Field(_WIRE["proxy_host"], description="Address at which the proxies listen.")
    report_dir: File | None = Field(None, description="Folder for the history, the verdict and the logs.")
    baseline: File | None = Field(None, description="File of violations that are known and accepted: only others fail.")
    budgets: Budgets = Field(Budgets(), description="How long things may take.")

    @functools.cached_property
    def own_plans(self) -> dict[str, Plan]:
        """The plans that are written in it, by name. Raises PlanError."""
        own: dict[str, Plan] = {}
        for number, table in enumerate(self.plan, 1):
            if "name" not in table:
                raise PlanError(f"plan.{number}: `name` is missing; it is what --plan calls it")
            plan = parse(table, f"plan.{number}")
            if plan.name in own or plan.name in builtin.plans():
                raise PlanError(f"plan.{number}: another plan is called {plan.name!r} already; give it a name of its own")
            if "+" in plan.name or plan.name.endswith(builtin.FILES):
                raise PlanError(f"plan.{number}: {plan.name!r} is no name: + joins plans, and {' or '.join(builtin.FILES)} ends a file")
            own[plan.name] = plan
        return own

    @model_validator(mode="after")
    def _plans(self) -> Config:
        try:
            own = self.own_plans
        except PlanError as error:
            raise ValueError(str(error)) from None
        for number, name in enumerate(self.plans or (), 1):
            try:
                builtin.find(name, own)
            except PlanError as error:
                raise ValueError(f"plans.{number}: {error}") from None
        return self


def load(path: Path | None = None) -> tuple[Config, str | None]:
    """The configuration of a file, or of the current folder's where it has one; and what that file is called.

    Raises ConfigError for a file that is not there, and with all the mistakes in one that is.
    """
    found = path or find(Path())
    if found is None:
        return Config(), None
    label, data = read(found)
    try:
        return Config.model_validate(data), label
    except ValidationError as error:
        raise refuse(error, label, Config) from None


def options(config: Config) -> dict[str, Any]:
    """The options of the command line that it stands for, by their names; what was not given is left out."""
    coordinator, budgets = config.coordinator, config.budgets
    times = {
        "POLL_INTERVAL": budgets.poll_interval, "TOOL_TIMEOUT": budgets.tool_timeout, "CLIENT_TIMEOUT": budgets.client_timeout,
    }
    environ = {name: f"{seconds:g}" for name, seconds in times.items() if seconds is not None} | dict(coordinator.environment)
    given = {
        "command": coordinator.command, "coordinator": coordinator.name, "url": coordinator.url,
        "container": coordinator.containers, "container_port": coordinator.container_port,
        "instances": coordinator.instances, "tools": coordinator.tools, "env": [f"{name}={value}" for name, value in environ.items()],
        "setup_command": coordinator.setup, "teardown_command": coordinator.teardown, "store": coordinator.store,
        "plan": config.plans, "demand": ",".join(config.demand) if config.demand else None,
        "ready_timeout": budgets.ready_timeout, "turn_budget": budgets.turn, "quiesce": budgets.quiesce,
        "budget": f"{budgets.total:g}s" if budgets.total else None,
        **{name: getattr(config, name) for name in (
            "gateway", "turns", "in_flight", "seed", "repeat_submit", "toxiproxy", "base_port", "proxy_host", "report_dir",
            "baseline",
        )},
    }
    written = config.model_fields_set
    mine = {
        "gateway", "in_flight", "repeat_submit", "proxy_host"
    } - written | ({"ready_timeout", "turn_budget", "quiesce"} if "budgets" not in written else set())
    return {name: value for name, value in given.items() if value not in (None, []) and name not in mine}
