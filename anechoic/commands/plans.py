"""`anechoic plans`."""

from __future__ import annotations

import json
from pathlib import Path

from anechoic.commands import options
from anechoic.exits import invalid
from anechoic.report.vocabulary import document
from chaos import builtin
from chaos.plan import Plan, PlanError


def run(*, config: Path | None, name: str | None, as_json: bool, words: bool) -> None:
    """Print all plans, or one, or the whole vocabulary."""
    if words:
        print(document(), end="")
        return
    try:
        own = options.own_plans(config)
        chosen = [builtin.find(name, own)] if name else [*builtin.plans().values(), *own.values()]
    except PlanError as error:
        invalid(error)
    if as_json:
        data = [plan.to_json() for plan in chosen]
        print(json.dumps(data[0] if name else data, indent=2))
        return
    for plan in chosen:
        _explain(plan)
    if name is None:
        print("A gate without --plan runs the built-in ones alone and in pairs, but for `none` and `incident`. Write your own:")
        print("  anechoic plans stale-polls --json > mine.json && anechoic gate --coordinator hardened --plan mine.json")
        print("  or as a table [[plan]] of anechoic.toml, and --plan NAME")


def _explain(plan: Plan) -> None:
    print(plan.name)
    print(f"    {plan.about}")
    for rule in plan.rules:
        print(f"      {rule}")
    print()
