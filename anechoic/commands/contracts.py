"""`anechoic contracts`."""

from __future__ import annotations

import dataclasses
import json
import textwrap

from anechoic.commands import options
from anechoic.exits import invalid
from contracts.catalogue import UnknownContract
from contracts.profiles import ImpossibleDemand, demands
from contracts.profiles import demand as terms_for


def run(*, gateway: str, demand: str | None, as_json: bool) -> None:
    """Print what is demanded at this gateway and why; exit code 2 where an impossible set is asked for."""
    profile = options.profile(gateway)
    try:
        terms = terms_for(profile, options.wanted(demand))
    except (ImpossibleDemand, UnknownContract) as error:
        invalid(error)
    rows = [row for row in demands(profile) if demand is None or row.contract in terms.wanted]
    if as_json:
        print(json.dumps({"gateway": profile.name, "contracts": [dataclasses.asdict(row) for row in rows]}, indent=2))
        return
    print(f"Gateway profile {profile.name}: {profile.about}\n")
    for row in rows:
        head = f"{row.contract:<6} {row.name:<24} {row.status:<11} "
        lines = textwrap.wrap(row.reason, 110 - len(head)) or [""]
        print(head + lines[0])
        for line in lines[1:]:
            print(" " * len(head) + line)
