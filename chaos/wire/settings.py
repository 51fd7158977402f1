"""What a run on the wire is made of: one record, checked before any process starts."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.wire import store as stores
from chaos.wire.errors import WireError
from chaos.words import unknown
from fakes.gateway.profile import Profile

if TYPE_CHECKING:
    from chaos.containers.layout import Layout


TOOLS = ("sync", "async")
"""How a tool call is answered: in the reply of its own request, or later, at the submission handler."""


@dataclasses.dataclass(frozen=True, slots=True)
class Coordinator:
    """The coordinator under test: a command that starts one instance, or the addresses of instances that run already."""

    label: str
    command: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    """names of containers, one for each instance, or labels (K=V) that they carry"""

    @property
    def killable(self) -> bool:
        """Whether this run may kill it: it starts it, or was given its containers."""
        return not self.urls

    @property
    def started(self) -> bool:
        """Whether this run starts it, and so tells it where everything is."""
        return bool(self.command)


def reference_coordinators() -> list[str]:
    """Names of the coordinators that come with the harness: packages of `coordinators` that can be run."""
    spec = importlib.util.find_spec("coordinators")
    folders = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    return sorted(p.parent.name for folder in folders for p in folder.glob("*/__main__.py"))


def by_name(name: str) -> Coordinator:
    """A coordinator that comes with the harness. Raises WireError with the nearest name."""
    known = reference_coordinators()
    if name not in known:
        raise WireError(f"{unknown('coordinator', name, known)}. Your own is given with --command or --url.")
    return Coordinator(name, (sys.executable, "-m", f"coordinators.{name}"))


def by_command(command: str) -> Coordinator:
    """A coordinator started by a command line. Raises WireError when its program does not exist."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise WireError(f"--command {command!r} cannot be split into words: {error}") from None
    if not words:
        raise WireError("--command is empty; give the program that starts one instance, with its arguments")
    if shutil.which(words[0]) is None:
        raise WireError(f"--command {command!r}: no program {words[0]!r} on PATH or at that path")
    return Coordinator(command, tuple(words))


def by_containers(names: tuple[str, ...]) -> Coordinator:
    """Instances that run in containers already: their names or ids, or one label K=V that all of them carry."""
    return Coordinator(", ".join(names), containers=names)


def by_url(urls: tuple[str, ...]) -> Coordinator:
    """Instances that run already. Raises WireError for what is no http address."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise WireError(f"--url {url!r} is no http:// address of a running coordinator")
    return Coordinator(", ".join(urls), urls=urls)


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFakes:
    """Fakes in processes of their own: host:port of each one's control port, and the token that they all know."""

    assistants: str
    gateway: str
    router: str
    token: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All of it. Times are seconds."""

    coordinator: Coordinator
    gateway: Profile
    seed: int = 0
    instances: int = 3
    in_flight: int = 32
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tools: str | None = None
    """how its tool calls are answered: sync or async; None takes its own word for it"""
    setup_command: str | None = None
    teardown_command: str | None = None
    store: str = "sqlite"
    """sqlite, redis (a server that the run starts), or redis://host:port/db"""
    toxiproxy: str | None = None
    base_port: int | None = None
    """first of the fixed ports of the edges; None takes free ones"""
    proxy_host: str = "127.0.0.1"
    """the address at which the proxies listen; the coordinators are to reach it"""
    fakes: RemoteFakes | None = None
    """where the fakes are; None has them in this process"""
    layout: Layout | None = None
    """the project of containers that the harness is a part of"""
    container_port: int | None = None
    """where the coordinator listens inside its container; None finds out"""
    replicas: int = 3
    latency_profile: str = "ci"
    repeat_submit: str = "400"
    poll_interval: float = 0.05
    tool_timeout: float = 0.5
    client_timeout: float = 2.0
    ready_timeout: float = 60.0
    turn_budget: float = 30.0
    quiesce_budget: float = 20.0
    report_dir: Path | None = None
    keep_events: bool = True
    """False for a run longer than memory: the history is in the file of `report_dir` only"""

    def __post_init__(self) -> None:
        """Raises WireError for numbers that make no sense."""
        for name, low in (("instances", 1), ("in_flight", 1), ("replicas", 1)):
            if getattr(self, name) < low:
                raise WireError(f"{name}={getattr(self, name)} must be at least {low}")
        for name in ("poll_interval", "tool_timeout", "client_timeout", "ready_timeout", "turn_budget", "quiesce_budget"):
            if getattr(self, name) <= 0:
                raise WireError(f"{name}={getattr(self, name)} must be more than 0 seconds")
        if self.tools not in (None, *TOOLS):
            raise WireError(unknown("--tools", self.tools, TOOLS))
        if not self.keep_events and self.report_dir is None:
            raise WireError("a run that keeps no events in memory needs a report_dir, where its history.jsonl is written")
        stores.check(self.store)
