"""What it takes to judge a history file: whole, and dealt out into parts, each in a process of its own.

    python -m benchmarks.partition [--events 3_000_000]

Turns of three calls and a dozen polls, of which every 50th does everything twice, in a history of a third of so many events,
and all of them. Exit 1 when the two do not judge alike, or when it takes more than 400 MB in parts, whatever the size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.figures import Figure, command_line, finish, table
from benchmarks.common.processes import python
from benchmarks.history import events_of
from contracts import judge
from contracts.partition import dealt_out
from fakes.gateway.profile import PROFILES
from fakes.history import HistoryFile, read, save

MOST_MB = 400.0
WAYS = ("whole", "in parts")
UNIT = 1e6 if sys.platform == "darwin" else 1e6 / 1024
"""Of the peak that the system tells, in a megabyte."""


def one(path: Path, way: str) -> dict[str, Any]:
    """Judge the file in this process; what came out, and what it took."""
    began = time.process_time()
    if way == "whole":
        judgement, parts = judge(read(path)[1], PROFILES["keyed"]), 1
    else:
        with dealt_out(HistoryFile(path)) as dealt:
            judgement, parts = dealt.judge(PROFILES["keyed"]), len(dealt)
    took = time.process_time() - began
    return {
        "s": took, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT, "parts": parts,
        "said": [str(judgement.verdict), [v.message for v in judgement.violations], dict(judgement.counts)],
    }


def measure(size: int) -> dict[str, dict[str, Any]]:
    """Both ways over a history of so many events. Raises RuntimeError when they do not judge alike."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        save(path, {}, events_of(size, 50))
        found: dict[str, dict[str, Any]] = {}
        for way in WAYS:
            done = subprocess.run(
                python("benchmarks.partition", "--judge", str(path), way), check=True, stdout=subprocess.PIPE
            )
            found[way] = json.loads(done.stdout)
    said = [made.pop("said") for made in found.values()]
    if said[0] != said[1] or not said[0][1]:
        raise RuntimeError(f"judged otherwise in parts than whole: {str(said)[:400]}")
    return found


def main() -> int:
    """Measure, print, and say whether the target is met."""
    parser = command_line(__doc__)
    parser.add_argument("--events", type=int, help="of the longer history (default 3,000,000)")
    parser.add_argument("--judge", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        print(json.dumps(one(Path(given.judge[0]), given.judge[1])))
        return 0
    most = given.events or (90_000 if given.quick else 3_000_000)
    rows, figures = [("events", "way", "parts", "s of CPU", "us per event", "peak MB")], list[Figure]()
    for size in (most // 3, most):
        for way, made in measure(size).items():
            rows.append((
                f"{size:,}", way, str(made["parts"]), f"{made['s']:.1f}", f"{made['s'] / size * 1e6:.1f}", f"{made['MB']:.0f}"
            ))
            print(f"{size:,} events {way}: {made['s']:.1f} s of CPU, {made['MB']:.0f} MB", flush=True)
            bound = MOST_MB if way == "in parts" else None
            figures += [
                Figure(f"{size:,} events {way}", made["s"], "s of CPU"),
                Figure(f"{size:,} events {way}: memory", made["MB"], "MB at the peak", at_most=bound),
            ]
    print()
    print(table(rows))
    return finish(given, figures)


if __name__ == "__main__":
    sys.exit(main())
