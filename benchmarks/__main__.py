"""All benchmarks of the parts, one after the other, and one table of what they found.

    python -m benchmarks                    everything: about 15 minutes on 2 cores
    python -m benchmarks proxy history      these only
    python -m benchmarks --quick            a few seconds each, to see that they work: the figures mean little

Each runs in a process of its own, and has options of its own: `python -m benchmarks.proxy --help`. Exit 0 whatever is measured,
1 when a benchmark broke, that is, ended without figures. One that needs what is not here is said to be left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.figures import ABSENT, Figure, load, table

BENCHMARKS = {
    "proxy": "the embedded proxy beside the real Toxiproxy, in 18 kinds of work",
    "routes": "the fakes' hot routes beside bare Starlette and a raw ASGI app",
    "history": "what an event costs: recorded, written, read, checked, as histories grow",
    "partition": "a history file judged whole and in parts: seconds and memory",
    "simulation": "run lifecycles in virtual time, with more turns, instances and faults",
    "store": "round trips to Redis per tool call",
}
ROOT = Path(__file__).parent.parent


def run(name: str, quick: bool, folder: Path) -> list[Figure] | int:
    """The figures of one benchmark, whose output goes to the terminal; its exit code when it ended without any."""
    path = folder / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path), *(["--quick"] if quick else [])]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return load(path) if path.exists() else code


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    names = "\n".join(f"    {name:12}{about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__}\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all of them without a name")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that they work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE, too")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    rows = [("benchmark", "figure", "value", "unit", "target", "")]
    broken, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(dict.fromkeys(given.names)) or list(BENCHMARKS)
        for number, name in enumerate(chosen, start=1):
            print(f"--- {number} of {len(chosen)}: {name}: {BENCHMARKS[name]}", flush=True)
            began = time.monotonic()
            figures = run(name, given.quick, Path(folder))
            print(f"--- {name}: {time.monotonic() - began:.0f} s\n", flush=True)
            if isinstance(figures, int):
                lost = "left out: not here, see above" if figures == ABSENT else f"BROKEN: exit code {figures}, see above"
                rows.append((name, lost, "", "", "", ""))
                broken += [name] if figures != ABSENT else []
            else:
                rows += [(name, *figure.cells()) for figure in figures]
                found[name] = [figure.as_json() for figure in figures]
    print(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
