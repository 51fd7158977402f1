"""The command lines of the fake LLM serving: `python -m fakes.llm.router`, and `python -m fakes.llm.replica`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fakes import loop
from fakes.faults import Nemesis
from fakes.history import History
from fakes.llm.fleet import Fleet
from fakes.llm.profiles import PROFILES
from fakes.llm.replica import serve
from fakes.llm.router import LlmRouter
from fakes.remote.main import USAGE, main, pairs, parser
from fakes.remote.session import Part


async def make(
    settings: Mapping[str, Any], history: History, nemesis: Nemesis, log: Callable[[str], None], token: str
) -> Part:
    """A router by `seed` and `replicas`: NAME=URL words, or a mapping."""
    replicas = settings["replicas"]
    fleet = Fleet(replicas if isinstance(replicas, Mapping) else pairs(replicas))
    router = LlmRouter(history, nemesis, fleet, seed=settings["seed"], log=log)
    return Part("fake LLM serving", router, router.aclose, replica=fleet.tell)


def router() -> int:
    """Be the router until SIGTERM; the exit code."""
    options = parser("fakes.llm.router", "The router before the replicas of the fake LLM serving.", 8105)
    options.add_argument(
        "replicas", nargs="+", metavar="NAME=URL", help="the replicas, such as serve-llm-1=http://127.0.0.1:8106"
    )
    return main(options.parse_args(), make)


def replica() -> int:
    """Be one replica until SIGTERM; the exit code."""
    options = argparse.ArgumentParser(
        prog="python -m fakes.llm.replica",
        description="One replica of the fake LLM serving: an OpenAI-compatible model server."
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on [default: 127.0.0.1]")
    options.add_argument("--port", type=int, default=8106, help="port, 0 takes a free one [default: 8106]")
    options.add_argument("--profile", default="ci", choices=PROFILES, help="latency profile [default: ci]")
    options.add_argument("--seed", default="0", help="of the latencies [default: 0]")
    given = options.parse_args()

    def ready(port: int) -> None:
        print(f"replica at http://{given.host}:{port}", flush=True)

    try:
        loop.run(serve(given.profile, given.seed, ready, host=given.host, port=given.port))
    except (OSError, OverflowError) as error:
        print(f"port {given.port} of {given.host} cannot be had: {error}. Give another one", file=sys.stderr)
        return USAGE
    return 0
