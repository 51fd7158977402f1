"""The simulation: run lifecycles per CPU-second, and how that changes with turns, instances and faults.

    python -m benchmarks.simulation [--turns 100] [--rounds 12] [--profile http|plain|hardened|as_deployed]

A lifecycle is one turn from its delivery to its end: a thread, a message, a run, its polls, one tool call, one submit; about
10 requests of the coordinator, and those of the driver besides. `http` is a small coordinator that sends them through the
in-memory HTTP transport, `plain` the same one on plain clients; the reference coordinators are shown beside them, each with
its store and its logs. Turns grow from a tenth of so many to ten times as many, instances from 1 to 4. Exit 1 when `http`
stays below 250 or `plain` below 800 in its best round, or when more turns, or a second fault in every turn, cost clearly more
than in proportion.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import time

from benchmarks.common.coordinator import Plain, create_app
from benchmarks.common.figures import Figure, command_line, finish
from chaos import builtin
from chaos.simulation import Settings, simulate
from chaos.turns import Turn
from fakes.gateway.profile import PROFILES
from fakes.history import TurnEnded, of_kind
from fakes.script import Script, ScriptedCall

TARGETS = {"http": 250, "plain": 800}
LINEAR = 0.6
"""What is left, at least, of the rate when there are ten times as many turns."""


COORDINATORS: dict[str, object] = {"http": create_app, "plain": Plain, "hardened": "hardened", "as_deployed": "as_deployed"}


def turns(count: int, plans: tuple[str, ...] = ()) -> list[Turn]:
    """So many turns of one call each."""
    made = []
    for number in range(count):
        call = ScriptedCall("create_ticket", {"user_id": "U1", "conversation_id": f"C{number}", "subject": "Damaged order"})
        made.append(Turn(Script(f"turn_{number}", f"C{number}", "U1", ((call,),)), plans))
    return made


def run(name: str, asked: list[Turn], instances: int = 3) -> tuple[float, int]:
    """One simulation: its CPU-seconds, and how many events it has. Raises RuntimeError unless every turn came to an end."""
    plans = [builtin.plans()[plan] for plan in (asked[0].plans if asked else ())]
    settings = Settings(coordinator=COORDINATORS[name], gateway=PROFILES["keyed"], seed=1, instances=instances)
    began = time.process_time()
    history = simulate(settings, asked, plans)
    took = time.process_time() - began
    done = sum(1 for event in of_kind(history.events, TurnEnded) if event.status == "done")
    if done < len(asked) and not plans:
        raise RuntimeError(f"{name}: only {done} of {len(asked)} turns are done")
    return took, len(history.events)


def rate(name: str, count: int, rounds: int, plans: tuple[str, ...] = (), instances: int = 3) -> float:
    """The best of some rounds, in lifecycles per CPU-second: other load on the machine only ever adds to a figure."""
    asked = turns(count, plans)
    figures = [count / run(name, asked, instances)[0] for _ in range(rounds)]
    shown = f"{name} under {', '.join(plans)}" if plans else name
    median = statistics.median(figures)
    print(
        f"{shown:<45} {count:>5} turns, {instances} instance{'s' if instances > 1 else ' '} {median:>6,.0f} per CPU-second "
        f"(best {max(figures):,.0f})",
        flush=True,
    )
    return max(figures)


def measured(count: int, rounds: int) -> list[Figure]:
    """Measure all of it; the figures."""
    unit = "lifecycles per CPU-second, best round"
    best = {name: rate(name, count, rounds) for name in COORDINATORS}
    found = [Figure(name, figure, unit, at_least=TARGETS.get(name)) for name, figure in best.items()]
    few = max(1, rounds // 4)
    growing = {factor: rate("http", factor * count // 10, few) for factor in (1, 10, 100)}
    found += [Figure(f"http, turns x{factor}", figure, unit) for factor, figure in growing.items()]
    found.append(Figure("http, turns x100 / x10", growing[100] / growing[10], "of the rate", at_least=LINEAR))
    for name in ("http", "hardened"):
        found += [Figure(f"{name}, instances: {number}", rate(name, count, few, (), number), unit) for number in (1, 2, 4)]
    faulty = rate("hardened", count, few, ("commit-then-500",))
    twice = rate("hardened", count, few, ("commit-then-500", "stale-polls"))
    found.append(Figure("hardened, a second fault in every turn", twice / faulty, "of the rate with one", at_least=0.5))
    small = min(run("hardened", turns(1))[0] for _ in range(rounds * 2))
    return [*found, Figure("hardened, a simulation of one turn", small * 1000, "ms of CPU")]


def main() -> int:
    """Measure, print, and say whether the targets are met."""
    parser = command_line(__doc__)
    parser.add_argument("--turns", type=int, help="default 100")
    parser.add_argument("--rounds", type=int, help="of the first figures; a quarter of them elsewhere (default 12)")
    parser.add_argument("--profile", choices=COORDINATORS, help="show where the time of one simulation goes instead")
    given = parser.parse_args()
    for name in COORDINATORS:
        run(name, turns(2))  # imports
    count = given.turns or (10 if given.quick else 100)
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(run, given.profile, turns(count))
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return 0
    return finish(given, measured(count, given.rounds or (1 if given.quick else 12)))


if __name__ == "__main__":
    sys.exit(main())
