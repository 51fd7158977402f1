"""`anechoic serve`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from anechoic import exits
from anechoic.commands import options
from anechoic.report.console import public
from chaos.plan import Plan
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings, by_url


def run(
    *, config: Path | None, gateway: str, plans: list[str], port: int, coordinator_url: str, seed: int | None,
    toxiproxy: str | None, as_json: bool, report_dir: Path | None,
) -> None:
    """Serve until interrupted, which is the way to end it: exit code 0."""
    try:
        settings = Settings(
            coordinator=by_url((coordinator_url,)), gateway=options.profile(gateway), seed=options.seed_or_new(seed),
            instances=1, toxiproxy=toxiproxy, base_port=port or None, report_dir=options.report_dir(report_dir),
        )
        exits.run(_serve(settings, options.plans(plans, config) or [], as_json))
    except (WireError, ToxiproxyError, OSError) as error:
        exits.invalid(error)
    except SystemExit as end:
        raise SystemExit(0 if end.code == exits.INTERRUPTED else end.code) from None


async def _serve(settings: Settings, plans: list[Plan], as_json: bool) -> None:
    async with Chamber(settings, alone=True) as chamber:
        for plan in plans:
            chamber.nemesis.arm(plan)
        (environ,) = chamber.addresses.values()
        told = {
            **public(environ),
            "LLM_URL": f"{chamber.llm_url}/v1",
            "TOXIPROXY_URL": chamber.toxiproxy_url,
            "ADMIN_TOKEN": chamber.token,
        }
        if as_json:
            print(json.dumps(told), flush=True)
        else:
            for key, value in told.items():
                print(f"{key}={value}", flush=True)
        await asyncio.Event().wait()
