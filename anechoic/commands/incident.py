"""`anechoic incident`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anechoic import exits, incident
from anechoic.commands import options
from anechoic.report.console import Console, terminal
from anechoic.report.incident import report
from chaos.plan import PlanError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError


def run(*, seed: int | None, toxiproxy: str | None, report_dir: Path | None) -> None:
    """Both coordinators, one after the other; exit code 0 when the incident was reproduced and the cure held."""
    seed = options.seed_or_new(seed)
    with tempfile.TemporaryDirectory(prefix="anechoic-incident-") as folder:
        where = options.report_dir(report_dir) or Path(folder)
        with Console() as console:
            try:
                deployed, hardened = exits.run(_both(seed, toxiproxy, where, console))
            except (WireError, PlanError, ToxiproxyError) as error:
                exits.invalid(error)
    report(terminal(), deployed, hardened)
    print(f"reproduce: anechoic incident --seed {seed}")
    if incident.reproduced(deployed) and incident.held(hardened):
        raise SystemExit(exits.PASS)
    raise SystemExit(max((t.outcome.judgement.exit_code for t in (deployed, hardened)), default=exits.FAIL) or exits.FAIL)


async def _both(
    seed: int, toxiproxy: str | None, where: Path, console: Console
) -> tuple[incident.Tuesday, incident.Tuesday]:
    deployed = await incident.run("as_deployed", seed, toxiproxy, where / "as_deployed", console)
    console.again()
    hardened = await incident.run("hardened", seed, toxiproxy, where / "hardened", console)
    return deployed, hardened
