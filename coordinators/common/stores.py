"""The shared store, whatever it is: which one an address means, and how it fails."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Mapping
from typing import TypeVar

S = TypeVar("S")

SCHEMES = ("sqlite", "redis")


class StoreUnavailable(Exception):
    """The shared store did not say that it did what was asked.

    A store in a file has changed nothing then. A server may have made the change and lost its answer, or may make it later,
    when the command comes out of a slow network: so whatever is asked of a store can be asked again, and does no harm late.
    """


class StoreUnsupported(ValueError):
    """There is no such store, or not for this coordinator; the message says what was seen and expected."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where the store is: STORE_URL, and the `prefix` of all keys in a server that others use too (STORE_PREFIX)."""

    url: str
    prefix: str = ""

    @property
    def scheme(self) -> str:
        """sqlite or redis."""
        return self.url.partition("://")[0]

    @property
    def path(self) -> str:
        """The file of an SQLite store: that of sqlite:////tmp/s.db is /tmp/s.db."""
        return "/" + self.url.partition("://")[2].lstrip("/")

    def check(self) -> None:
        """Raises StoreUnsupported for an address that is none."""
        scheme, _, rest = self.url.partition("://")
        if scheme not in SCHEMES or (scheme == "sqlite" and not os.path.isabs(rest)) or not rest:
            raise StoreUnsupported(
                f"STORE_URL={self.url!r} is not supported: expected sqlite:// and an absolute path, as in sqlite:////tmp/s.db, "
                "or redis://host:port/db"
            )


def open_store(wanted: type[S], address: Address, implementations: Mapping[str, str]) -> S:
    """The store at that address, as `wanted`: the interface itself, a change to it, or one implementation.

    Args:
        implementations: by scheme the class, as module:name, made with the address; only the one that is used is imported.

    Raises StoreUnsupported when `wanted` is made for another kind of store.
    """
    found: dict[str, type[S]] = {}
    for scheme, where in implementations.items():
        module, _, name = where.partition(":")
        if scheme == address.scheme:
            found[scheme] = getattr(importlib.import_module(module), name)
        elif any(c.__module__ == module for c in wanted.__mro__):
            raise StoreUnsupported(
                f"{wanted.__module__}.{wanted.__name__} works on {scheme} only, and STORE_URL={address.url!r} is another store"
            )
    base = found[address.scheme]
    if issubclass(base, wanted):
        made = base
    elif issubclass(wanted, base):
        made = wanted
    else:
        made = type(wanted.__name__, (wanted, base), {})
    return made(address)  # type: ignore[call-arg]
