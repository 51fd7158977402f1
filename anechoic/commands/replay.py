"""`anechoic replay`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from anechoic import exits, replay
from anechoic.commands import options
from anechoic.report.console import terminal
from anechoic.report.search import reproduced
from chaos.plan import PlanError
from chaos.simulation.errors import SimulationError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.words import unknown
from contracts.case import CaseError
from contracts.counterexample import WORLDS, Counterexample
from contracts.story import story


def run(
    *, file: Path, world: str | None, times: int, coordinator: str | None, command: str | None, env: list[str],
    toxiproxy: str | None,
) -> None:
    """Read the file, run it, say how often it was reproduced."""
    if world is not None and world not in WORLDS:
        exits.invalid(unknown("--world", world, WORLDS))
    if times < 1:
        exits.invalid(f"--times {times} must be at least 1")
    environ = options.environ(env)
    out, err = terminal(), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        found = Counterexample.load(file)
        world = world or found.world
        more = {"toxiproxy": toxiproxy} if world == "wire" else {}
        run_in = replay.runner(
            found, world=world, coordinator=coordinator, command=command, environ=environ,
            say=lambda line: err.print(escape(line)), **more,
        )
        out.print(
            f"[bold]anechoic[/bold]  {escape(found.case.coordinator)}   gateway {found.case.gateway}   {world}   "
            f"expected {found.expect.contract} ({escape(found.expect.shape)})"
        )
        out.print(escape(str(found.case)))
        told = {True: "broken again", False: "holds"}
        result = replay.run(found, run_in, times, lambda number, broke: err.print(f"run {number} of {times}: {told[broke]}"))
    except (CaseError, SimulationError, WireError, PlanError, ToxiproxyError) as error:
        exits.invalid(error)
    except KeyboardInterrupt:
        exits.interrupted()
    violation = next((v for v in result.trial.violations if v.like(found.expect)), None)
    if violation is not None:
        out.print(f"\n[bold red]{violation.contract}[/bold red] {escape(violation.message)}")
        index = result.trial.judgement.index
        for line in story(index, violation) if index is not None else ():
            out.print(f"    {escape(line)}")
    if result.others:
        out.print(f"note: broken besides: {', '.join(result.others)}")
    if not result.seen and str(result.trial.judgement.verdict) == "invalid":
        exits.invalid(f"the run itself was not sound: {'; '.join(result.trial.judgement.reasons)}")
    holds = "" if result.seen else ": it holds now"
    out.print(f"{reproduced(result.seen, result.times)}{holds}")
    raise SystemExit(result.exit_code)
