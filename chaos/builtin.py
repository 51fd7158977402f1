"""The built-in fault plans, by name: one file each in `chaos/plans/`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from chaos.plan import Plan, PlanError, combine, load
from chaos.words import unknown

APART = ("none", "incident")
"""Plans that the default set leaves out: nothing at all, and a scenario with a clock of its own."""

FILES = (".toml", ".json")
"""How the name of a plan file ends."""


@functools.cache
def plans() -> dict[str, Plan]:
    """Every built-in plan by name, in alphabetical order, `none` first."""
    folder = resources.files("chaos").joinpath("plans")
    found = {p.name.removesuffix(".toml"): load(Path(str(p))) for p in folder.iterdir() if p.name.endswith(".toml")}
    return {name: found[name] for name in sorted(found, key=lambda n: (n != "none", n))}


def find(text: str, own: Mapping[str, Plan] = MappingProxyType({})) -> Plan:
    """The plan that `--plan TEXT` means: a file (.toml, .json), a name of `own` or a built-in one, or several joined by "+".

    Raises PlanError with the nearest known name.
    """
    if text.endswith(FILES):
        return load(Path(text))
    if "+" in text:
        return combine(find(part.strip(), own) for part in text.split("+"))
    known = {**plans(), **own}
    if text not in known:
        raise PlanError(f"{unknown('plan', text, known)}. A file ends in .toml or .json")
    return known[text]


def default_set() -> list[Plan]:
    """The plans that cover every fault point once."""
    return [plan for name, plan in plans().items() if name not in APART]
