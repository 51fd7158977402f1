"""The environment of one coordinator instance, read once and checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from coordinators.common.stores import Address, StoreUnsupported

REQUIRED = (
    "PORT",
    "INSTANCE_ID",
    "STATE_DIR",
    "ASSISTANTS_BASE_URL",
    "ASSISTANT_ID",
    "TOOL_GATEWAY_URL",
    "TOOL_RESULTS_URL",
    "STORE_URL",
)
ROLES = ("both", "coordinator", "handler")


class SettingsError(ValueError):
    """The environment is incomplete or wrong; the message names the variable, what was seen, and what is expected."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one instance was told. All times are in seconds."""

    port: int
    instance_id: str
    state_dir: str
    assistants_url: str
    assistant_id: str
    gateway_url: str
    results_url: str
    store: Address
    role: str = "both"
    """both, coordinator (takes turns and follows runs) or handler (takes tool results)"""
    poll_interval: float = 0.2
    """the first pause between two polls of a run"""
    tool_timeout: float = 5.0
    """how long a request to the tool gateway may take"""
    client_timeout: float = 10.0
    """how long a request to the Assistants API may take"""
    lease: float = 1.0
    """an owner that shows no sign of life for this long loses its turns"""
    in_doubt_after: float | None = None
    """how long a result that may never come is waited for; None means 3 x tool_timeout + 1"""
    api_key: str = "unused"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables of the coordinator protocol. Raises SettingsError."""
        missing = [name for name in REQUIRED if not environ.get(name)]
        if missing:
            raise SettingsError(
                f"missing in the environment: {', '.join(missing)}. A coordinator is started with {', '.join(REQUIRED)}"
            )
        role = environ.get("ROLE") or "both"
        if role not in ROLES:
            raise SettingsError(f"ROLE={role!r} is not one of {', '.join(ROLES)}")
        doubt = environ.get("IN_DOUBT_AFTER")
        return cls(
            port=_port(environ["PORT"]),
            instance_id=environ["INSTANCE_ID"],
            state_dir=environ["STATE_DIR"],
            assistants_url=_url(environ, "ASSISTANTS_BASE_URL"),
            assistant_id=environ["ASSISTANT_ID"],
            gateway_url=_url(environ, "TOOL_GATEWAY_URL"),
            results_url=_url(environ, "TOOL_RESULTS_URL"),
            store=_store(environ),
            role=role,
            poll_interval=_seconds(environ, "POLL_INTERVAL", 0.2),
            tool_timeout=_seconds(environ, "TOOL_TIMEOUT", 5.0),
            client_timeout=_seconds(environ, "CLIENT_TIMEOUT", 10.0),
            lease=_seconds(environ, "LEASE", 1.0),
            in_doubt_after=_seconds(environ, "IN_DOUBT_AFTER", 0.0) if doubt else None,
            api_key=environ.get("OPENAI_API_KEY") or "unused",
        )

    @property
    def secure(self) -> bool:
        """Whether any address needs TLS."""
        return any(u.startswith("https://") for u in (self.assistants_url, self.gateway_url, self.results_url))

    @property
    def patience(self) -> float:
        """Seconds that a result which may never come is waited for."""
        return 3 * self.tool_timeout + 1 if self.in_doubt_after is None else self.in_doubt_after


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise SettingsError(f"PORT={text!r} is not a port: expected a whole number from 0 to 65535")
    return int(text)


def _url(environ: Mapping[str, str], name: str) -> str:
    url = environ[name].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"{name}={environ[name]!r} is not an address: expected http://host:port/...")
    return url


def _store(environ: Mapping[str, str]) -> Address:
    address = Address(environ["STORE_URL"], environ.get("STORE_PREFIX", ""))
    try:
        address.check()
    except StoreUnsupported as error:
        raise SettingsError(str(error)) from None
    return address


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{name}={text!r} must be a number of seconds above 0")
    return seconds
