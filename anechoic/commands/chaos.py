"""`anechoic chaos`."""

from __future__ import annotations

import shlex
from pathlib import Path

from anechoic import campaign, exits, gate
from anechoic.commands import options
from anechoic.report.console import Console, reached, report, terminal
from chaos.plan import PlanError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings


def run(
    *, coordinator: str | None, command: str | None, url: list[str], instances: int, gateway: str, time: str, turns: int,
    seed: int | None, in_flight: int, toxiproxy: str | None, env: list[str], setup_command: str | None, max_failures: int,
    only_round: int | None, report_dir: Path | None,
) -> None:
    """Run, or go on with, a campaign; exit code of its worst round."""
    tested = options.coordinator(coordinator, command, url)
    try:
        seconds = campaign.seconds_of(time)
        settings = Settings(
            coordinator=tested, gateway=options.profile(gateway), instances=len(tested.urls) or instances, in_flight=in_flight,
            environ=options.environ(env), setup_command=setup_command, toxiproxy=toxiproxy,
            base_port=options.URL_BASE_PORT if tested.urls else None, report_dir=options.report_dir(report_dir),
        )
        going = campaign.resume(settings, seed, turns, lambda: options.seed_or_new(None))
    except (WireError, campaign.CampaignError) as error:
        exits.invalid(error)
    out = terminal()
    if going.rounds:
        out.print(f"going on after {len(going.rounds)} rounds and {going.seconds:.0f} s")

    def done(made: campaign.Round, outcome: gate.Outcome) -> None:
        console.pause()
        out.print(str(made))
        if made.verdict != "pass":
            outcome.data["reproduce"] = _again(coordinator, command, url, gateway, turns, going.seed, made.number)
            report(out, outcome.data, outcome.judgement, outcome.notes)
        console.again()

    with Console(heading=False) as console:
        try:
            if only_round is not None:
                exits.run(campaign.run_round(going, only_round, console, done))
            else:
                exits.run(campaign.run(going, seconds=seconds, max_failures=max_failures, observer=console, done=done))
        except (WireError, PlanError, ToxiproxyError) as error:
            exits.invalid(error)
        finally:
            console.pause()
            reached(out, dict(sorted(going.reached.items())))
            passed = len(going.rounds) - going.failures
            out.print(f"{passed} of {len(going.rounds)} rounds passed in {going.seconds:.0f} s   seed {going.seed}")
    raise SystemExit(going.exit_code)


def _again(
    coordinator: str | None, command: str | None, url: list[str], gateway: str, turns: int, seed: int, number: int
) -> str:
    words = ["anechoic", "chaos"]
    words += ["--coordinator", coordinator] if coordinator else ["--command", command] if command else []
    words += [word for address in url for word in ("--url", address)]
    words += ["--gateway", gateway, "--turns", str(turns), "--seed", str(seed), "--only-round", str(number)]
    return shlex.join(words)
