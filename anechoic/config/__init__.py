"""The configuration of a run: anechoic.toml, or [tool.anechoic] in pyproject.toml."""

from anechoic.config.model import WAYS, Config, load, options
from anechoic.config.source import FILE, ConfigError

__all__ = ["FILE", "WAYS", "Config", "ConfigError", "load", "options"]
