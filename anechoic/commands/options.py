"""Turning words of the command line into settings; every mistake is an error with the nearest known word."""

from __future__ import annotations

import itertools
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from anechoic.baseline import Baseline, BaselineError
from anechoic.budget import Budget, NoDuration, seconds_of
from anechoic.config import ConfigError, load
from anechoic.exits import invalid
from anechoic.report.files import Reports
from chaos import builtin
from chaos.containers.layout import REPORT, Layout
from chaos.containers.selection import count
from chaos.plan import Plan, PlanError
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, Settings, by_command, by_containers, by_name, by_url
from chaos.words import unknown
from fakes.gateway.profile import PROFILES, Profile

SEEDS = 1_000_000
URL_BASE_PORT = 8701
"""First port of the edges where the coordinator runs already: whoever started it has to know them."""


def seed_or_new(seed: int | None) -> int:
    """The seed given, or a fresh one: the same dice in every run would find the same things in every run."""
    return secrets.randbelow(SEEDS) if seed is None else seed


def profile(name: str) -> Profile:
    """The gateway profile of that name."""
    if name not in PROFILES:
        invalid(unknown("gateway profile", name, PROFILES))
    return PROFILES[name]


def profiles(names: Sequence[str]) -> list[Profile]:
    """The gateway profiles of these names, each once; keyless where there is none."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        invalid(f"--gateway {twice} is given twice: each profile is run once, so leave one of them out")
    return [profile(name) for name in names or ["keyless"]]


def place(folder: Path | None, gateway: Profile, gateways: Sequence[Profile]) -> Path | None:
    """Where a run at this profile leaves what it makes: in the report directory, one of several in its own folder there."""
    return report_dir(folder and folder / gateway.name) if len(gateways) > 1 else folder


def plans(texts: Sequence[str], config: Path | None) -> list[Plan] | None:
    """The plans that --plan named, also those of the configuration; None where it was not given."""
    try:
        return [builtin.find(text, own_plans(config)) for text in texts] or None
    except PlanError as error:
        invalid(error)


def own_plans(config: Path | None) -> Mapping[str, Plan]:
    """The plans of that configuration, or of the one of the current folder."""
    try:
        return load(config)[0].own_plans
    except ConfigError as error:
        invalid(error)


def coordinator(
    name: str | None, command: str | None, urls: Sequence[str], containers: Sequence[str] = ()
) -> Coordinator:
    """The one coordinator that was asked for; in a compose project that of the project."""
    ways = (("--coordinator", name), ("--command", command), ("--url", urls), ("--container", containers))
    given = [flag for flag, value in ways if value]
    layout = project()
    if layout is not None:
        if given:
            invalid(f"{given[0]} beside the containers of {layout.project}: the compose file says what runs there")
        return layout.coordinator()
    if len(given) != 1:
        seen = " and ".join(given) if given else "none of them"
        invalid(f"give one of --coordinator, --command, --url or --container; seen: {seen}")
    try:
        if containers:
            return by_containers(tuple(containers))
        if name:
            return by_name(name)
        return by_command(command) if command else by_url(tuple(urls))
    except WireError as error:
        invalid(error)


def project() -> Layout | None:
    """The compose project that this process is a part of."""
    return Layout.from_environ(os.environ)


def placed(settings: Settings) -> Settings:
    """The same settings, in the compose project where there is one."""
    layout = project()
    return settings if layout is None else layout.applied(settings)


def instances(tested: Coordinator, asked: int | None) -> int:
    """How many instances: as many as run already, or of those with a label as many as were asked for; else that, or 3.

    Raises WireError where no container has the label, or no engine answers.
    """
    if any("=" in name for name in tested.containers):
        return asked or count(tested.containers)
    named = len(tested.urls) or len(tested.containers)
    if named and asked not in (None, named):
        invalid(f"--instances {asked} beside {named} that run already: each has its own --url or --container")
    return named or (3 if asked is None else asked)


def environ(pairs: Sequence[str]) -> dict[str, str]:
    """K=V pairs as a mapping."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            invalid(f"--env {pair!r} is not of the form NAME=VALUE")
        out[key] = value
    return out


def wanted(demand: str | None) -> list[str] | None:
    """Contract names out of a comma-separated list."""
    if demand is None:
        return None
    names = [name.strip() for name in demand.split(",") if name.strip()]
    if not names:
        invalid("--demand is empty; give contracts such as C1,C7 or exactly_one_effect")
    return names


def reproduce(seed: int, gateway: str | None = None) -> str:
    """The line that runs this again: the command as it was given, with its seed, and at this gateway profile alone."""
    words = ["anechoic", *sys.argv[1:]]
    if gateway is not None:
        words = [*_without("--seed", _without("--gateway", words)), "--gateway", gateway]
    if not any(word == "--seed" or word.startswith("--seed=") for word in words):
        words += ["--seed", str(seed)]
    return shlex.join(words)


def reproduce_round(seed: int, number: int) -> str:
    """The line that runs one round of this campaign again, by itself and nowhere reported."""
    words = ["anechoic", *sys.argv[1:]]
    for flag in ("--seed", "--only-round", "--for", "--max-failures", "--report-dir", "--junit", "--summary"):
        words = _without(flag, words)
    return shlex.join([*words, "--seed", str(seed), "--only-round", str(number)])


def _without(flag: str, words: Sequence[str]) -> list[str]:
    """The words without an option and its values."""
    return [
        word for before, word in itertools.pairwise(["", *words])
        if flag not in (before, word) and not word.startswith(f"{flag}=")
    ]


def report_dir(path: Path | None) -> Path | None:
    """The report directory, made if need be; that of the compose project where none is given."""
    if path is None and project() is not None:
        path = REPORT
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            invalid(f"--report-dir {path} cannot be made: {error}")
        return path.absolute()
    return None


def reports(folder: Path | None, junit: Path | None, summary: Path | None) -> Reports:
    """What is to be written at the end; a file that cannot be is an error before anything is started."""
    for flag, path in (("--junit", junit), ("--summary", summary)):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a"):
                pass
        except OSError as error:
            invalid(f"{flag} {path} cannot be written: {error}")
    return Reports(folder, junit, summary)


def budget(text: str | None) -> Budget | None:
    """The wall time of the whole run; it begins here."""
    try:
        return None if text is None else Budget(seconds_of(text, "--budget"))
    except NoDuration as error:
        invalid(error)


def baselines(path: Path | None, gateways: Sequence[Profile], update: bool) -> dict[str, Baseline | None]:
    """The baseline of each profile: `{gateway}` in the file's name stands for the profile, and has to be there for several."""
    if path is not None and len(gateways) > 1 and "{gateway}" not in str(path):
        invalid(
            f"--baseline {path} is one file for {len(gateways)} gateway profiles, and what is accepted at one says nothing at "
            "another. Give each its own, such as --baseline known-{gateway}.toml"
        )
    return {p.name: baseline(path and Path(str(path).replace("{gateway}", p.name)), p.name, update) for p in gateways}


def baseline(path: Path | None, gateway: str, update: bool) -> Baseline | None:
    """The baseline that was asked for; with `update` one that does not exist yet is an empty one."""
    if path is None:
        if update:
            invalid("--update-baseline writes the file that --baseline names; give both")
        return None
    if update and not path.exists():
        return Baseline(path, gateway)
    try:
        return Baseline.load(path, gateway)
    except BaselineError as error:
        invalid(error)

