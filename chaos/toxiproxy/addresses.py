"""Addresses as Toxiproxy writes them: "host:port", "[::1]:port", ":port"; an empty host means every interface."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket

BACKLOG = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, resolved. `str()` gives it back as "host:port"."""

    family: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split(address: str) -> tuple[str, str]:
    """Host and port of "host:port". Raises ValueError when there is no port, or too many colons without brackets."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError(f"address {address}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if ":" in host:
        raise ValueError(f"address {address}: too many colons in address")
    return host, port


async def resolve(address: str) -> Address:
    """Where "host:port" is; "" and ":0" are a free port of every interface, as in Go. Prefers IPv4 for a name with both.

    Raises:
        ValueError: it is no address.
        OSError: the name or the port's name is unknown.
    """
    host, port = split(address) if address else ("", "0")
    if port.isdigit() and int(port) > 65535:
        raise ValueError(f"address {port}: invalid port")
    if not host:
        return Address(socket.AF_INET6, "::", int(port) if port else 0)
    try:  # without a thread: all threads may be waiting for what this call is a part of
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    family, _, _, _, where = found[0]
    return Address(family, str(where[0]), int(where[1]))


def listen(address: Address) -> socket.socket:
    """A listening socket; its real port is in `bound(...)`. Raises OSError when the address is taken or not ours."""
    if address.host == "::":
        with contextlib.suppress(OSError):
            return _listen(address, dual=True)
        address = Address(socket.AF_INET, "0.0.0.0", address.port)  # noqa: S104  every interface is what was asked for
    return _listen(address, dual=False)


def _listen(address: Address, dual: bool) -> socket.socket:
    made = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if dual:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address.host, address.port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def bound(listening: socket.socket) -> Address:
    """Where a listening socket really listens."""
    name = listening.getsockname()
    return Address(listening.family, name[0], name[1])
