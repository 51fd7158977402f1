"""The command line of a fake in a process of its own: alone, for anybody, and tied to each harness that connects."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fakes import loop
from fakes.faults import NoFaults
from fakes.history import History
from fakes.remote.lines import LONGEST
from fakes.remote.session import Make, Sessions
from fakes.server import Server, bind, port_of
from fakes.skin import skin

TOKEN, TOKEN_FILE = "ANECHOIC_TOKEN", "ANECHOIC_TOKEN_FILE"
USAGE = 2


def parser(prog: str, about: str, port: int) -> argparse.ArgumentParser:
    """The options that every fake has; the fake adds its own."""
    made = argparse.ArgumentParser(
        prog=f"python -m {prog}", description=about,
        epilog=f"The admin interface under /admin, and a harness, take the token in the environment variable {TOKEN}; "
        f"without it a fresh one is drawn and printed, or kept in the file that {TOKEN_FILE} names, for who shares that file.",
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on [default: 127.0.0.1]")
    made.add_argument("--port", type=int, default=port, help=f"port of the fake, 0 takes a free one [default: {port}]")
    made.add_argument("--control", type=int, metavar="PORT", help="also take connections of a harness there")
    made.add_argument("--seed", type=int, default=0, help="seed of ids and latencies [default: 0]")
    return made


def main(options: argparse.Namespace, make: Make) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    try:
        loop.run(_serve(options, make))
    except (OSError, ValueError) as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return USAGE
    return 0


def log(line: str) -> None:
    """A line of the fake's log on standard output."""
    print(line, flush=True)


def shared_token(environ: Mapping[str, str]) -> str | None:
    """The token that several processes share: of the environment, or of a file that the first one to come makes.

    Raises OSError when that file can be neither read nor made.
    """
    path = environ.get(TOKEN_FILE)
    if environ.get(TOKEN) or not path:
        return environ.get(TOKEN)
    made = Path(f"{path}.{secrets.token_hex(4)}")
    made.touch(mode=0o600)
    made.write_text(secrets.token_urlsafe(24))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()
    return Path(path).read_text()


async def _serve(options: argparse.Namespace, make: Make) -> None:
    given = shared_token(os.environ)
    token = given or secrets.token_urlsafe(24)
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    history = History()
    part = await make(vars(options), history, NoFaults(), log, token)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(part.close)
        at = _bind(options.host, options.port)
        server = Server(skin(part.endpoint, title=part.title, history=history, token=token), [at])
        stack.push_async_callback(server.stop)
        await server.start()
        log(f"{part.title} at http://{options.host}:{port_of(at)}")
        if options.control is not None:
            control = _bind(options.host, options.control)
            sessions = Sessions(make, token, options.host)
            hub = await asyncio.start_server(sessions.serve, sock=control, limit=LONGEST)
            stack.push_async_callback(sessions.aclose)
            stack.callback(hub.close)
            log(f"a harness connects to {options.host}:{port_of(control)}")
        if given is None:
            log(f"{TOKEN}={token}")
        await done.wait()


def _bind(host: str, port: int) -> Any:
    try:
        return bind(host, port)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise OSError(f"port {port} of {host} cannot be had: {said}. Give another one") from None


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises ValueError."""
    out: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r} is not of the form NAME=URL")
        out[name] = value
    return out
