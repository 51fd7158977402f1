"""What a configuration file says, as defaults for the options of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anechoic import exits
from anechoic.config import ConfigError, load, options

WAYS = {"--coordinator": "coordinator", "--command": "command", "--url": "url", "--container": "container"}


def of(file: Path | None, command: str, words: Sequence[str]) -> dict[str, Any]:
    """The defaults by the names of options. What is tested, and true only of it, is left out where the command line says it."""
    try:
        config, label = load(file)
    except ConfigError as error:
        exits.invalid(error)
    given = options(config)
    if any(word.partition("=")[0] in WAYS for word in words):
        given = {name: value for name, value in given.items() if name not in (*WAYS.values(), "container_port", "tools")}
    if any(word.partition("=")[0] in ("--world", "--examples") for word in words):
        given.pop("plan", None)  # a search draws its own
    if command == "load":
        for name in ("plan", "in_flight"):  # there they are about windows, and the turns of a stream
            given.pop(name, None)
    if command != "gate" and (gateways := given.pop("gateway", [])):
        if len(gateways) == 1:
            given["gateway"] = gateways[0]
        elif not any(word.partition("=")[0] == "--gateway" for word in words):
            exits.invalid(
                f"{label}, gateway: {', '.join(gateways)}: a gate runs at several profiles, and `anechoic {command}` at one; "
                f"give it with --gateway {gateways[0]}"
            )
    return given
