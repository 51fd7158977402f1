"""`anechoic chaos`."""

from __future__ import annotations

from pathlib import Path

from anechoic import campaign, exits, gate
from anechoic.budget import NoDuration, seconds_of
from anechoic.commands import options
from anechoic.report.console import Console, reached, report, terminal
from anechoic.report.files import Reports
from anechoic.report.record import CAMPAIGN, Record, load, of_campaign
from chaos.plan import PlanError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.settings import Settings


def run(
    *, coordinator: str | None, command: str | None, url: list[str], container: list[str],
    container_port: int | None, proxy_host: str, instances: int | None, gateway: str, time: str, turns: int,
    seed: int | None, in_flight: int, toxiproxy: str | None, tools: str | None, env: list[str], setup_command: str | None,
    teardown_command: str | None, store: str, max_failures: int, only_round: int | None, report_dir: Path | None,
    junit: Path | None, summary: Path | None, baseline: Path | None,
) -> None:
    """Run, or go on with, a campaign; exit code of its worst round."""
    tested = options.coordinator(coordinator, command, url, container)
    try:
        seconds = seconds_of(time, "--for")
        settings = options.placed(Settings(
            coordinator=tested, gateway=options.profile(gateway), instances=options.instances(tested, instances),
            in_flight=in_flight, container_port=container_port, proxy_host=proxy_host,
            environ=options.environ(env), setup_command=setup_command, teardown_command=teardown_command, store=store,
            toxiproxy=toxiproxy, tools=tools,
            base_port=None if tested.started else options.URL_BASE_PORT, report_dir=options.report_dir(report_dir),
        ))
        going = campaign.resume(settings, seed, turns, lambda: options.seed_or_new(None))
    except (WireError, campaign.CampaignError, NoDuration) as error:
        exits.invalid(error)
    going.again = lambda number: options.reproduce_round(going.seed, number)
    going.baseline = options.baseline(baseline, gateway, update=False)
    reports = options.reports(settings.report_dir, junit, summary)
    out = terminal()
    if going.rounds:
        out.print(f"going on after {len(going.rounds)} rounds and {going.seconds:.0f} s")

    def done(made: campaign.Round, outcome: gate.Outcome) -> None:
        console.pause()
        out.print(str(made))
        if not made.good:
            if settings.report_dir is not None:
                folder = campaign.folder_of(settings.report_dir, made.number)
                Reports(folder).keep(Record(outcome.data, outcome.judgement.index))
            report(out, outcome.data, outcome.judgement, outcome.notes)
        console.again()

    with Console(heading=False) as console:
        try:
            if only_round is not None:
                exits.run(campaign.run_round(going, only_round, console, done))
            else:
                exits.run(campaign.run(going, seconds=seconds, max_failures=max_failures, observer=console, done=done))
        except (WireError, PlanError, ToxiproxyError) as error:
            console.pause()
            reports.refused(error, {"coordinator": tested.label, "gateway": gateway, "seed": going.seed})
            exits.invalid(error)
        except SystemExit:
            reports.write(_record(going))
            raise
        finally:
            console.pause()
            reached(out, dict(sorted(going.reached.items())))
            passed = len(going.rounds) - going.failures
            out.print(f"{passed} of {len(going.rounds)} rounds passed in {going.seconds:.0f} s   seed {going.seed}")
    reports.write(_record(going))
    raise SystemExit(going.exit_code)


def _record(going: campaign.Campaign) -> Record:
    """What reporters read of a campaign; rounds of an earlier process are read from their folders."""
    folder = going.settings.report_dir
    earlier = load(folder).parts if folder is not None and (folder / CAMPAIGN).exists() else {}
    made = {number: Record(o.data, o.judgement.index) for number, o in going.failed.items()}
    return of_campaign(going.to_json(), {**earlier, **made})
