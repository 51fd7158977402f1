"""The embedded server, started alone from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from chaos.toxiproxy import body
from chaos.toxiproxy.embedded import EmbeddedToxiproxy
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.proxy import Proxy


class StartError(Exception):
    """The server cannot start as asked; the message says why and what to do."""


async def run(host: str, port: int, seed: int, config: Path | None, announce: Callable[[str], None]) -> None:
    """Serve until cancelled; cancelling is the clean way to end, and gives every port back.

    Args:
        config: a JSON file with a list of proxies, as for `POST /populate`.
        announce: is told one line for the admin API and one for each proxy, when they are ready.

    Raises:
        StartError: the address is taken, or the configuration cannot be used.
    """
    proxies = _load(config) if config is not None else None
    server = EmbeddedToxiproxy(seed)
    try:
        try:
            await server.start(host, port)
        except OSError as error:
            reason = error.strerror or error
            raise StartError(
                f"cannot listen on {host}:{port}: {reason}. Another Toxiproxy may be running there: "
                "end it, or choose another port (0 takes a free one)."
            ) from None
        announce(f"Toxiproxy admin API (embedded, seed {seed}): {server.url}")
        if proxies is not None:
            for proxy in await _populate(server, proxies, config):
                state = "" if proxy.enabled else " (disabled)"
                announce(f"proxy {proxy.name}: {proxy.listen} -> {proxy.upstream}{state}")
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _load(config: Path) -> object:
    try:
        return body.decode(config.read_bytes())
    except OSError as error:
        raise StartError(f"cannot read the proxies in {config}: {error.strerror or error}") from None
    except ApiError as error:
        raise _unusable(config, error) from None


async def _populate(server: EmbeddedToxiproxy, proxies: object, config: Path | None) -> list[Proxy]:
    done: list[Proxy] = []
    try:
        await server.collection.populate(proxies, done)
    except ApiError as error:
        raise _unusable(config, error) from None
    return done


def _unusable(config: Path | None, error: ApiError) -> StartError:
    return StartError(
        f"cannot use the proxies in {config}: {error.message}. "
        'Expected a list such as [{"name": "store", "listen": "127.0.0.1:26379", "upstream": "127.0.0.1:6379"}].'
    )
