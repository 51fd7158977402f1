"""`anechoic load`."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anechoic import exits, throughput
from anechoic.budget import NoDuration, seconds_of
from anechoic.commands import options
from anechoic.gate import check_bounds, check_usable, write
from anechoic.report import load_console
from anechoic.report.console import terminal
from anechoic.report.load_html import to_html
from chaos.plan import Plan, PlanError
from chaos.toxiproxy.client import ToxiproxyError
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, Settings, by_command, by_name, reference_coordinators
from chaos.words import unknown
from fakes.whole import write_whole
from load.arrivals import KINDS
from load.ceiling import Search
from load.process import Order
from load.run import Load, Run
from load.shapes import SHAPES
from load.timetable import Stage, TooShort, timetable

DEFAULT_P95 = 1000.0
"""Milliseconds that --find-max holds where --max-p95 does not say."""
STEP = 6.0
"""Seconds of one step of --find-max at least."""


def run(
    *, config: Path | None, coordinator: str | None, command: str | None, url: list[str], container: list[str],
    container_port: int | None, proxy_host: str, against: str | None, instances: int | None, gateway: str, rate: float,
    users: int | None, time: str, shape: str, arrivals: str, in_flight: int, plans: list[str], share: float, find_max: bool,
    max_p95: float | None, max_throughput_loss: float | None, max_duplicates: float | None, processes: int,
    remote_workers: int, master_port: int, seed: int | None, toxiproxy: str | None, tools: str | None, env: list[str],
    setup_command: str | None, teardown_command: str | None, store: str, ready_timeout: float, quiesce: float,
    base_port: int | None, report_dir: Path | None,
) -> None:
    """Check the words, run the load, and end with its exit code."""
    if importlib.util.find_spec("locust") is None:
        exits.invalid("anechoic load needs Locust, which is not installed; do: pip install 'anechoic[load]'")
    tested = options.coordinator(coordinator, command, url, container)
    if shape not in SHAPES:
        exits.invalid(unknown("--shape", shape, SHAPES))
    if arrivals not in KINDS:
        exits.invalid(unknown("--arrivals", arrivals, KINDS))
    for flag, value, low in (("--rate", rate, 0.01), ("--in-flight", in_flight, 1), ("--processes", processes, 1)):
        if value < low:
            exits.invalid(f"{flag} {value:g} must be at least {low:g}")
    if not 0 < share <= 1:
        exits.invalid(f"--share {share:g} must be above 0 and at most 1: the part of the turns that a plan is bound to")
    seed = options.seed_or_new(seed)
    workers = processes if processes > 1 or remote_workers else 0
    streams = users or remote_workers or processes
    order = Order(
        (), shape, streams=streams, workers=remote_workers or workers, remote=remote_workers,
        bind=("0.0.0.0" if remote_workers else "127.0.0.1", master_port),  # noqa: S104 - workers elsewhere have to reach it
        options={"arrivals": "closed" if users else arrivals, "in_flight": in_flight},
    )
    try:
        settings = options.placed(Settings(
            coordinator=tested, gateway=options.profile(gateway), seed=seed, container_port=container_port,
            proxy_host=proxy_host, instances=options.instances(tested, instances), tools=tools, environ=options.environ(env),
            setup_command=setup_command, teardown_command=teardown_command, store=store, toxiproxy=toxiproxy,
            base_port=base_port if base_port is not None else None if tested.started else options.URL_BASE_PORT,
            ready_timeout=ready_timeout, quiesce_budget=quiesce, report_dir=options.report_dir(report_dir),
        ))
        other = None if against is None else _other(against, settings)
        chosen = [] if find_max else _plans(plans, config, settings)
        stages, search = _course(seconds_of(time, "--for"), rate, chosen, 1 if other is None else 2, find_max, max_p95)
    except (WireError, PlanError, NoDuration, TooShort) as error:
        exits.invalid(error)
    if find_max and other is not None:
        exits.invalid("--find-max is about one coordinator; run it again for the other one, without --against")
    if search is not None:
        max_p95 = None  # it is what the search holds
    asked = Load(settings, order, stages, search, other, share, options.reproduce(seed))
    limits = throughput.Limits(max_p95, max_throughput_loss, max_duplicates)
    raise SystemExit(_go(asked, limits, settings.report_dir))


def _go(asked: Load, limits: throughput.Limits, report_dir: Path | None) -> int:
    out = terminal()
    with nullcontext(report_dir) if report_dir else TemporaryDirectory(prefix="anechoic-load-") as folder:
        with load_console.LoadConsole() as console:
            going = Run(asked, console, Path(folder))
            try:
                exits.run(going.go())
            except (WireError, ToxiproxyError) as error:
                exits.invalid(error)
            except SystemExit:
                if report_dir is not None and going.sides[0].series.phases:
                    out.print(f"interrupted; what happened until then is in {going.sides[0].history}, for anechoic check")
                raise
            judgements = [
                throughput.judged(side, asked.settings.gateway, asked.plans, console.judging) for side in going.sides
            ]
        data = throughput.document(going, judgements, limits)
        if report_dir is not None:
            write(report_dir / "load.json", data)
            write_whole(report_dir / "load.csv", _csv(data))
            write_whole(report_dir / "load.html", to_html(data))
        load_console.report(out, data)
    code: int = data["exit_code"]
    return code


def _other(text: str, settings: Settings) -> Coordinator:
    """The coordinator of --against: one that comes with the harness, or a command."""
    if settings.coordinator.urls or settings.coordinator.containers or settings.layout is not None:
        raise WireError("--against compares coordinators that this run starts: give both as a name or a command")
    return by_name(text) if text in reference_coordinators() or " " not in text else by_command(text)


def _plans(texts: list[str], config: Path | None, settings: Settings) -> list[Plan]:
    """The plans of the fault windows, in order; the incident where none is given, nothing for `none`."""
    chosen = options.plans(texts or ["incident"], config) or []
    check_usable(chosen, settings)
    check_bounds(chosen, settings)
    return [plan for plan in chosen if plan.rules]


def _course(
    seconds: float, rate: float, plans: list[Plan], sides: int, find_max: bool, max_p95: float | None
) -> tuple[list[Stage], Search | None]:
    if not find_max:
        return timetable(seconds, rate, plans, sides), None
    return [], Search(rate, max(STEP, seconds / 10), (max_p95 or DEFAULT_P95) / 1000)


def _csv(data: Mapping[str, Any]) -> str:
    """The series as a table, a row for each half second of each coordinator."""
    names = ("due", "ended", "dropped", "failed", "open", "p50_ms", "p95_ms")
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["coordinator", "second", "phase", *names])
    for side in data["sides"]:
        series = side["series"]
        for number, values in enumerate(zip(*(series[name] for name in names), strict=True)):
            at = number * series["slot"]
            said = next((p["name"] for p in reversed(side["phases"]) if p["start"] <= at < p["end"]), "")
            rows.writerow([side["coordinator"], at, said, *("" if v is None else v for v in values)])
    return text.getvalue()
