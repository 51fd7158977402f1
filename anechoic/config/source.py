"""Where a configuration is written: anechoic.toml, or the table [tool.anechoic] of pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE, PYPROJECT = "anechoic.toml", "pyproject.toml"
TABLE = ("tool", "anechoic")


class ConfigError(ValueError):
    """A configuration that cannot be used: where, what was seen, what is expected, the nearest word."""


def find(folder: Path) -> Path | None:
    """The folder's anechoic.toml, or its pyproject.toml where that has a table [tool.anechoic]."""
    if (folder / FILE).is_file():
        return folder / FILE
    path = folder / PYPROJECT
    return path if path.is_file() and _table(path) is not None else None


def read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """What a file is called in messages, and its data. Raises ConfigError."""
    if path.name != PYPROJECT:
        return str(path), _load(path)
    table = _table(path)
    if table is None:
        raise ConfigError(f"{path} has no table [tool.anechoic]")
    return f"{path} [tool.anechoic]", table


def _table(path: Path) -> Mapping[str, Any] | None:
    found: Any = _load(path)
    for key in TABLE:
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{path}, tool.anechoic: {found!r} must be a table")
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}. `anechoic init` writes an {FILE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
