"""`anechoic config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anechoic import exits
from anechoic.config import FILE, Config, ConfigError, load


def run(*, file: Path | None, schema: bool, as_json: bool) -> None:
    """Print the configuration with the origin of each value, or the JSON schema."""
    if schema:
        print(document(), end="")
        return
    try:
        config, label = load(file)
    except ConfigError as error:
        exits.invalid(error)
    rows = list(flat(config))
    if as_json:
        print(json.dumps({"file": label, "values": {key: value for key, value, _ in rows}}, indent=2))
        return
    out = Console(highlight=False)
    out.print(escape(label) if label else f"no {FILE} here, and no [tool.anechoic] in a pyproject.toml: defaults only")
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("key", "value", "from"):
        drawn.add_column(column)
    for key, value, given in rows:
        drawn.add_row(key, escape("" if value is None else json.dumps(value)), escape(label or "") if given else "default")
    out.print(drawn)


def flat(table: Any, above: str = "") -> list[tuple[str, Any, bool]]:
    """Every key with its value, and whether somebody gave it."""
    out: list[tuple[str, Any, bool]] = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        if hasattr(value, "model_fields_set"):
            out += flat(value, f"{above}{name}.")
        else:
            out.append((above + name, value, name in table.model_fields_set))
    return out


def document() -> str:
    """The JSON schema for editors, as docs/anechoic.schema.json has it."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **Config.model_json_schema(), "title": "anechoic.toml"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
