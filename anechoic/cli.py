"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="anechoic",
    help="Chaos and contract test harness for orchestration layers that run tool calls for an LLM: "
    "proves that every tool_call_id causes one external side effect, whatever breaks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback()
def configured(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Configuration to use instead of the anechoic.toml of the current folder.")] = None,
) -> None:
    """What a configuration says stands for options of gate, chaos, load and serve; the command line overrides it."""
    if context.invoked_subcommand in CONFIGURED and not {"-h", "--help"} & set(sys.argv):
        from anechoic.commands import defaults

        context.default_map = {context.invoked_subcommand: defaults.of(config, context.invoked_subcommand, sys.argv)}
    context.obj = config


CONFIGURED = ("gate", "chaos", "load", "serve")
"""The commands whose options a configuration can give."""
EXITS = "Exit codes: 0 pass, 1 fail, 2 invalid (usage, configuration, fault not injected), 3 unknown (vacuous), 130 interrupted."

Command = Annotated[str | None, typer.Option(help="The command line that starts one instance of yours.")]
Url = Annotated[list[str] | None, typer.Option(help="Address of an instance that runs already (repeatable).")]
Container = Annotated[list[str] | None, typer.Option(help="Name of a container in which an instance runs already, or a label K=V of all of them (repeatable); no other is touched.")]
ContainerPort = Annotated[int | None, typer.Option(help="Where the coordinator listens inside its container.")]
ProxyHost = Annotated[str, typer.Option(help="Address at which the proxies listen, which the coordinator's containers can reach.")]
InstanceCount = Annotated[int | None, typer.Option(help="How many instances to start [default: 3, or all that run already].")]
Env = Annotated[list[str] | None, typer.Option(help="K=V for the environment of the coordinator (repeatable).")]
Coordinator = Annotated[str | None, typer.Option(help="A coordinator that comes with the harness.")]
Tools = Annotated[str | None, typer.Option(help="How its tool calls are answered, sync or async [default: as GET /healthz says].")]
Gateway = Annotated[str, typer.Option(help="Gateway profile.")]
InFlight = Annotated[int, typer.Option(help="How many conversations run at once.")]
ReadyTimeout = Annotated[float, typer.Option(help="Seconds until an instance must be ready.")]
BasePort = Annotated[int | None, typer.Option(help="First of the fixed ports of the proxies (3 for each instance).")]
Store = Annotated[str, typer.Option(help="The coordinators' shared store: sqlite, redis (a server that the run starts), or redis://host:port/db.")]
Seed = Annotated[int | None, typer.Option(help="Seed of ids, turns and faults; a fresh one is drawn and printed when left out.")]
Toxiproxy = Annotated[
    str | None,
    typer.Option(envvar="TOXIPROXY_URL", help="Admin address of a real Toxiproxy to use instead of the embedded one."),
]
Junit = Annotated[Path | None, typer.Option(help="File for JUnit XML; --report-dir gets a junit.xml anyway.")]
Summary = Annotated[
    Path | None, typer.Option(help="File for a summary in Markdown; on GitHub Actions the job's summary page gets it anyway.")
]
BaselineFile = Annotated[
    Path | None, typer.Option("--baseline", help="File of violations that are known and accepted: only others fail.")
]
ReportDir = Annotated[
    Path | None, typer.Option(help="Folder for history.jsonl, verdict.json, plan.json, report.html, junit.xml and the logs of each process.")
]


@app.command(epilog=f"""\b
Examples:
  anechoic gate --coordinator hardened --gateway keyed --turns 200
  anechoic gate --coordinator hardened --gateway keyless --gateway keyed --report-dir report
  anechoic gate --command "node coordinator.mjs" --instances 3 --plan stale-polls --plan kill-after-commit
  anechoic gate --command "python my_coordinator.py" --plan stale-polls+slow-tool --seed 7 --report-dir report
  anechoic gate --url http://127.0.0.1:9000 --gateway keyed
  anechoic gate --world simulation --coordinator my_package.main:create_app --examples 1000 --report-dir report

{EXITS}
""")
def gate(
    context: typer.Context,
    coordinator: Annotated[str | None, typer.Option(help="A coordinator that comes with the harness: as_deployed, hardened.")] = None,
    command: Command = None,
    url: Url = None,
    container: Container = None,
    container_port: ContainerPort = None,
    proxy_host: ProxyHost = "127.0.0.1",
    instances: InstanceCount = None,
    gateway: Annotated[list[str] | None, typer.Option(help="Gateway profile: keyless, keyed, lookup, fenced (see `anechoic contracts`); several are run one after the other (repeatable) [default: keyless].")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Fault plan: a name, several joined by +, or a file (repeatable). "
                                                          "Left out: the built-in set, alone and in pairs.")] = None,
    turns: Annotated[int, typer.Option(help="How many turns to deliver.")] = 200,
    seed: Seed = None,
    in_flight: InFlight = 32,
    toxiproxy: Toxiproxy = None,
    tools: Tools = None,
    env: Env = None,
    setup_command: Annotated[str | None, typer.Option(help="Run this once, in the coordinator's environment, before it is started; servers that it leaves in the background are ended at the end.")] = None,
    teardown_command: Annotated[str | None, typer.Option(help="Run this at the end, whatever happened, when the coordinators have stopped.")] = None,
    store: Store = "sqlite",
    demand: Annotated[str | None, typer.Option(help="Contracts that must hold, such as C1,C7 or exactly_one_effect; "
                                                       "left out: all that the gateway profile makes possible.")] = None,
    repeat_submit: Annotated[str, typer.Option(help="What a second submit of the same outputs gets: 400, 200 or 409.")] = "400",
    ready_timeout: ReadyTimeout = 60.0,
    turn_budget: Annotated[float, typer.Option(help="Seconds to wait for open turns before faults are healed.")] = 30.0,
    quiesce: Annotated[float, typer.Option(help="Seconds that the system has to come to rest after everything was healed; a turn still open then was never answered.")] = 20.0,
    base_port: BasePort = None,
    world: Annotated[str | None, typer.Option(help="Where to search: simulation (virtual time, one process) or wire (real processes).")] = None,
    examples: Annotated[int | None, typer.Option(help="Search: draw so many cases instead of running plans [default in the simulation: 300].")] = None,
    max_time: Annotated[float | None, typer.Option(help="Search: seconds after which no further example is begun.")] = None,
    derandomize: Annotated[bool, typer.Option("--derandomize", help="Search: the same examples in every run, for CI.")] = False,
    database: Annotated[Path | None, typer.Option(help="Search: folder for failing cases, which are tried first the next time [default: .hypothesis/anechoic].")] = None,
    report_dir: ReportDir = None,
    junit: Junit = None,
    summary: Summary = None,
    baseline: BaselineFile = None,
    budget: Annotated[str | None, typer.Option(help="Wall time of the whole run, such as 90s or 5m; when it is over, what happened until then is judged.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write that file: with what is new, without what is fixed.")] = False,
) -> None:
    """Put a coordinator between the fakes, break things around it, and judge what it did."""
    from anechoic.commands import gate as do

    do.run(
        config=context.obj, coordinator=coordinator, command=command, url=url or [], container=container or [],
        container_port=container_port, proxy_host=proxy_host, instances=instances, gateway=gateway or [], plans=plan or [],
        turns=turns, seed=seed, in_flight=in_flight, toxiproxy=toxiproxy, tools=tools, env=env or [], setup_command=setup_command,
        teardown_command=teardown_command, store=store, demand=demand, repeat_submit=repeat_submit, ready_timeout=ready_timeout,
        turn_budget=turn_budget, quiesce=quiesce, base_port=base_port, report_dir=report_dir, junit=junit, summary=summary, baseline=baseline,
        update_baseline=update_baseline, budget=budget, world=world, examples=examples, max_time=max_time,
        derandomize=derandomize, database=database,
    )


@app.command(epilog=f"""
\b
Examples:
  anechoic load --coordinator hardened --gateway keyed --rate 30 --for 60s --report-dir load-report
  anechoic load --command "node coordinator.mjs" --rate 50 --for 5m --plan incident --plan kill-after-commit --max-p95 800
  anechoic load --coordinator hardened --against as_deployed --gateway keyed --rate 20 --for 3m --max-throughput-loss 5
  anechoic load --command "python app.py" --find-max --max-p95 500
  anechoic load --coordinator hardened --rate 10 --for 30m --plan none          # a soak

Turns arrive whether or not those before have ended, and latency counts from when a turn was due, so a stall shows.

{EXITS}
""")
def load(
    context: typer.Context,
    coordinator: Coordinator = None,
    command: Command = None,
    url: Url = None,
    container: Container = None,
    container_port: ContainerPort = None,
    proxy_host: ProxyHost = "127.0.0.1",
    against: Annotated[str | None, typer.Option(help="Another coordinator, a name or a command: both in turn in one run, with ratios of the first over it.")] = None,
    instances: InstanceCount = None,
    gateway: Gateway = "keyless",
    rate: Annotated[float, typer.Option(help="Turns per second; with --find-max, where the search begins.")] = 10.0,
    users: Annotated[int | None, typer.Option(help="So many users who each wait for their turn to end before the next, instead of a rate: a closed loop, which hides stalls.")] = None,
    time: Annotated[str, typer.Option("--for", help="How long, warm-up and quiesce not counted: 60s, 5m.")] = "60s",
    shape: Annotated[str, typer.Option(help="Shape of the turns: support-desk (a mixture), single-call, parallel-calls, multi-step.")] = "support-desk",
    arrivals: Annotated[str, typer.Option(help="How turns arrive: poisson or constant.")] = "poisson",
    in_flight: Annotated[int, typer.Option(help="Open turns of one stream over which more are dropped.")] = 1000,
    plan: Annotated[list[str] | None, typer.Option(help="What is broken in a fault window: a name, several joined by +, or a file (repeatable: one window each); none for no window [default: incident].")] = None,
    share: Annotated[float, typer.Option(help="The part of the turns in a fault window that its plan is bound to.")] = 1.0,
    find_max: Annotated[bool, typer.Option("--find-max", help="Look for the highest rate that holds --max-p95 [default: 1000] without a backlog.")] = False,
    max_p95: Annotated[float | None, typer.Option(help="Fail when the healthy p95 is above so many milliseconds.")] = None,
    max_throughput_loss: Annotated[float | None, typer.Option(help="Fail when more percent of throughput are lost: against the other coordinator, else in the worst fault window.")] = None,
    max_duplicates: Annotated[float | None, typer.Option(help="Fail above so many duplicates per 1,000 calls, and accept up to as many; without it none is accepted.")] = None,
    processes: Annotated[int, typer.Option(help="Locust processes that share the work of the client.")] = 1,
    remote_workers: Annotated[int, typer.Option(help="So many Locust workers come from elsewhere: locust -f load/locustfile.py --worker --master-host HERE.")] = 0,
    master_port: Annotated[int, typer.Option(help="Where Locust's master listens for workers [default: any, or 5557 for workers from elsewhere].")] = 0,
    seed: Seed = None,
    toxiproxy: Toxiproxy = None,
    tools: Tools = None,
    env: Env = None,
    setup_command: Annotated[str | None, typer.Option(help="Run this once before the coordinator is started.")] = None,
    teardown_command: Annotated[str | None, typer.Option(help="Run this at the end, whatever happened.")] = None,
    store: Store = "sqlite",
    ready_timeout: ReadyTimeout = 60.0,
    quiesce: Annotated[float, typer.Option(help="Seconds that the system has to come to rest after everything was healed.")] = 20.0,
    base_port: BasePort = None,
    report_dir: Annotated[Path | None, typer.Option(help="Folder for load.html, load.json, load.csv, history.jsonl and the logs of each process.")] = None,
) -> None:
    """Measure throughput and latency under load, healthy and broken, and judge the contracts over all of it."""
    from anechoic.commands import load as do

    do.run(
        config=context.obj, coordinator=coordinator, command=command, url=url or [], container=container or [],
        container_port=container_port,
        proxy_host=proxy_host, against=against, instances=instances, gateway=gateway, rate=rate, users=users, time=time,
        shape=shape, arrivals=arrivals, in_flight=in_flight, plans=plan or [], share=share, find_max=find_max,
        max_p95=max_p95, max_throughput_loss=max_throughput_loss, max_duplicates=max_duplicates, processes=processes,
        remote_workers=remote_workers, master_port=master_port or (5557 if remote_workers else 0), seed=seed,
        toxiproxy=toxiproxy, tools=tools, env=env or [], setup_command=setup_command, teardown_command=teardown_command,
        store=store, ready_timeout=ready_timeout, quiesce=quiesce, base_port=base_port, report_dir=report_dir,
    )


@app.command(epilog=f"""
\b
Examples:
  anechoic chaos --coordinator hardened --gateway keyed --for 30m --report-dir chaos-run
  anechoic chaos --command "node coordinator.mjs" --for 10m --max-failures 1

With --report-dir an interrupted run goes on where it stopped when the same command is given again.

{EXITS}
""")
def chaos(
    coordinator: Coordinator = None,
    command: Command = None,
    url: Url = None,
    container: Container = None,
    container_port: ContainerPort = None,
    proxy_host: ProxyHost = "127.0.0.1",
    instances: InstanceCount = None,
    gateway: Gateway = "keyless",
    time: Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 2h.")] = "10m",
    turns: Annotated[int, typer.Option(help="Turns in each round.")] = 100,
    seed: Seed = None,
    in_flight: InFlight = 32,
    toxiproxy: Toxiproxy = None,
    tools: Tools = None,
    env: Env = None,
    setup_command: Annotated[str | None, typer.Option(help="Run this before the coordinators of each round.")] = None,
    teardown_command: Annotated[str | None, typer.Option(help="Run this after the coordinators of each round.")] = None,
    store: Store = "sqlite",
    max_failures: Annotated[int, typer.Option(help="Stop after so many rounds that did not pass.")] = 3,
    only_round: Annotated[int | None, typer.Option(help="Run this round again, alone.")] = None,
    report_dir: ReportDir = None,
    junit: Junit = None,
    summary: Summary = None,
    baseline: BaselineFile = None,
) -> None:
    """Pre-release chaos run: round after round of random plans, kills and rolling stops, for as long as you say."""
    from anechoic.commands import chaos as do

    do.run(
        coordinator=coordinator, command=command, url=url or [], container=container or [],
        container_port=container_port, proxy_host=proxy_host, instances=instances, gateway=gateway, time=time, turns=turns,
        seed=seed, in_flight=in_flight, toxiproxy=toxiproxy, tools=tools, env=env or [], setup_command=setup_command,
        teardown_command=teardown_command, store=store, max_failures=max_failures, only_round=only_round, report_dir=report_dir,
        junit=junit, summary=summary, baseline=baseline,
    )


@app.command(epilog="""\b
Examples:
  anechoic replay report/counterexample.json
  anechoic replay report/counterexample.json --world wire --times 5
  anechoic replay report/counterexample.json --world wire --command "node coordinator.mjs"

Exit codes: 0 it holds now, 1 reproduced, 2 invalid (no such file, newer format, another coordinator), 130 interrupted.
""")
def replay(
    file: Annotated[Path, typer.Argument(help="A counterexample.json that a search wrote.")],
    world: Annotated[str | None, typer.Option(help="simulation or wire; left out: where it was found.")] = None,
    times: Annotated[int, typer.Option(help="How often to run it.")] = 1,
    coordinator: Annotated[str | None, typer.Option(help="The coordinator that is meant, to be sure; it must be the file's.")] = None,
    command: Annotated[str | None, typer.Option(help="The command that starts one instance, where the file was found with one.")] = None,
    env: Env = None,
    toxiproxy: Toxiproxy = None,
) -> None:
    """Run a counterexample again and say whether it still breaks the contract."""
    from anechoic.commands import replay as do

    do.run(file=file, world=world, times=times, coordinator=coordinator, command=command, env=env or [], toxiproxy=toxiproxy)


@app.command(epilog="""\b
Examples:
  anechoic selftest
  anechoic selftest --mutant check_then_set --gateway keyless
  anechoic selftest --json > matrix.json
  anechoic selftest --write README.md

Exit code 0 when every cell is as expected, 1 when any differs.
""")
def selftest(
    mutant: Annotated[list[str] | None, typer.Option(help="Only this one, or hardened (repeatable).")] = None,
    gateway: Annotated[list[str] | None, typer.Option(help="Only at this gateway profile (repeatable).")] = None,
    examples: Annotated[int, typer.Option(help="How many cases to try in each cell, at most; a third of them where a mutant is expected to survive.")] = 300,
    jobs: Annotated[int, typer.Option(help="How many processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the searches; the same one finds the same.")] = 0,
    state: Annotated[Path | None, typer.Option(help="File in which finished cells are kept, so that a stopped self-test goes on there.")] = None,
    write: Annotated[Path | None, typer.Option(help="A document whose table of mutants is made anew from what came out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the matrix as JSON.")] = False,
) -> None:
    """Test this harness: coordinators that are wrong in one way each, at every gateway profile, must be told from the right one."""
    from anechoic.commands import selftest as do

    do.run(
        mutants=mutant or [], gateways=gateway or [], examples=examples, jobs=jobs, seed=seed, state=state, into=write,
        as_json=as_json,
    )


@app.command(epilog="""\b
Examples:
  anechoic init
  anechoic init --language node
""")
def init(
    language: Annotated[str | None, typer.Option(help="python or node; left out: what the files of the folder say.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write an anechoic.toml and a minimal coordinator, which passes a gate without faults, into the current folder."""
    from anechoic.commands import init as do

    do.run(language=language, force=force)


@app.command(epilog="""\b
Examples:
  anechoic config
  anechoic --config ci.toml config --json
  anechoic config --schema > anechoic.schema.json
""")
def config(
    context: typer.Context,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the file, for editors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print the configuration that counts here, and where each value is from."""
    from anechoic.commands import config as do

    do.run(file=context.obj, schema=schema, as_json=as_json)


@app.command(epilog="""\b
Examples:
  anechoic incident
  anechoic incident --seed 7 --report-dir tuesday

Exit code 0 when the incident was reproduced and the cure held.
""")
def incident(
    seed: Seed = None,
    toxiproxy: Toxiproxy = None,
    report_dir: ReportDir = None,
) -> None:
    """Reproduce the incident with the design as deployed, then show that the hardened one withstands the same."""
    from anechoic.commands import incident as do

    do.run(seed=seed, toxiproxy=toxiproxy, report_dir=report_dir)


@app.command(epilog=f"""\b
Examples:
  anechoic check report/history.jsonl
  anechoic check report/history.jsonl --gateway keyed --json

{EXITS}
""")
def check(
    history: Annotated[Path, typer.Argument(help="A history.jsonl that a run wrote.")],
    gateway: Annotated[str | None, typer.Option(help="Gateway profile; left out: the one in the history's header.")] = None,
    demand: Annotated[str | None, typer.Option(help="Contracts that must hold; left out: all that are possible.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict.json instead of the report.")] = False,
    parts: Annotated[int | None, typer.Option(help="Judge it in so many parts; left out: whole, or as memory needs when it is larger than 64 MiB.")] = None,
) -> None:
    """Judge a recorded history again, however large it is."""
    from anechoic.commands import check as do

    do.run(history=history, gateway=gateway, demand=demand, as_json=as_json, parts=parts)


@app.command(epilog="""\b
Examples:
  anechoic report report
  anechoic report chaos-run --out public --summary summary.md
""")
def report(
    folder: Annotated[Path, typer.Argument(help="The --report-dir of a gate, a search or a chaos run.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and junit.xml; left out: the same one.")] = None,
    junit: Junit = None,
    summary: Summary = None,
) -> None:
    """Write the reports of a run again, from its verdict.json and history.jsonl."""
    from anechoic.commands import report as do

    do.run(folder=folder, out=out, junit=junit, summary=summary)


@app.command(epilog="""\b
Examples:
  anechoic serve
  anechoic serve --gateway keyed --plan stale-polls --json

Stop it with Ctrl-C.
""")
def serve(
    context: typer.Context,
    gateway: Gateway = "keyless",
    plan: Annotated[list[str] | None, typer.Option(help="Fault plan in force for every conversation (repeatable).")] = None,
    port: Annotated[int, typer.Option(help="Port of the Assistants API; the tool gateway has the next one, then the result "
                                           "callbacks. 0 takes free ports.")] = 8701,
    coordinator_url: Annotated[str, typer.Option(help="Where your coordinator listens, for asynchronous results.")] = "http://127.0.0.1:8080",
    seed: Seed = None,
    toxiproxy: Toxiproxy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one JSON object.")] = False,
    report_dir: ReportDir = None,
) -> None:
    """Run the fakes and proxies alone, for development; prints their addresses as KEY=VALUE lines."""
    from anechoic.commands import serve as do

    do.run(
        config=context.obj, gateway=gateway, plans=plan or [], port=port, coordinator_url=coordinator_url, seed=seed,
        toxiproxy=toxiproxy,
        as_json=as_json, report_dir=report_dir,
    )


@app.command(epilog="""\b
Examples:
  anechoic proxy
  anechoic proxy --port 8474 --seed 7 --config proxies.json
""")
def proxy(
    host: Annotated[str, typer.Option(help="Address of the admin interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the admin interface; 0 takes a free one.")] = 8474,
    seed: Seed = None,
    config: Annotated[Path | None, typer.Option(help="JSON file with proxies to start with, as POST /populate takes it.")] = None,
) -> None:
    """Run the embedded Toxiproxy alone."""
    from anechoic.commands import proxy as do

    do.run(host=host, port=port, seed=seed, config=config)


@app.command(epilog="""\b
Examples:
  anechoic plans
  anechoic plans kill-after-commit --json > my-plan.json
""")
def plans(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One plan; left out: all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as data, to start a plan file from.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Print every event, fault and parameter that a plan can use.")] = False,
) -> None:
    """List the fault plans, built in and of the configuration, and explain them."""
    from anechoic.commands import plans as do

    do.run(config=context.obj, name=name, as_json=as_json, words=words)


@app.command(epilog="""\b
Examples:
  anechoic contracts --gateway keyless
  anechoic contracts --gateway lookup --demand exactly_one_effect
""")
def contracts(
    gateway: Gateway = "keyless",
    demand: Annotated[str | None, typer.Option(help="Ask whether these contracts can be demanded, such as C1,C2.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say which contracts a gateway profile makes possible, which not, and why."""
    from anechoic.commands import contracts as do

    do.run(gateway=gateway, demand=demand, as_json=as_json)


def main() -> None:
    """The entry point `anechoic`. SIGINT interrupts it also where a shell's background job inherits it as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
