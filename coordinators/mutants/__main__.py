"""`python -m coordinators.mutants NAME` starts one instance of a mutant from the environment."""

from __future__ import annotations

import importlib
import sys

from coordinators.common.process import main
from coordinators.mutants import UnknownMutant, named


def start(arguments: list[str]) -> int:
    """Serve one instance of the mutant that is named; returns the exit code (2 for a wrong name or environment)."""
    if len(arguments) != 1:
        print("usage: python -m coordinators.mutants NAME", file=sys.stderr)
        return 2
    try:
        mutant = named(arguments[0])
    except UnknownMutant as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    module, _, attribute = mutant.module_attribute.partition(":")
    return main(getattr(importlib.import_module(module), attribute))


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
