"""`python -m fakes.gateway`: the fake tool gateway in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from fakes.faults import Nemesis
from fakes.gateway.callbacks import CallbackPoster
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.gateway.profile import PROFILES, profile_named
from fakes.history import History
from fakes.ids import Ids
from fakes.remote.main import main, parser
from fakes.remote.session import Part


async def make(
    settings: Mapping[str, Any], history: History, nemesis: Nemesis, log: Callable[[str], None], token: str
) -> Part:
    """A gateway by `seed` and `gateway`, the name of its profile."""
    post = CallbackPoster()
    core = GatewayCore(profile_named(settings["gateway"]), clock=time.time, ids=Ids(settings["seed"], "gateway"))
    endpoint = GatewayEndpoint(
        core, history, nemesis, post=post, log=log, admin_token=token, clock=time.time, seed=settings["seed"]
    )

    async def close() -> None:
        await endpoint.aclose()
        await post.aclose()

    return Part("fake tool gateway", endpoint, close)


if __name__ == "__main__":
    options = parser("fakes.gateway", "The fake tool gateway, with its ledger of effects.", 8103)
    known = ", ".join(PROFILES)
    options.add_argument("--gateway", default="keyless", metavar="PROFILE", help=f"one of {known} [default: keyless]")
    sys.exit(main(options.parse_args(), make))
