"""Runs the gates of examples.toml and compares what comes out with what is declared there; makes README.md from it.

    python coordinators/examples/verify.py                          every example under every plan: some minutes
    python coordinators/examples/verify.py --only dbos --plan none  one gate
    python coordinators/examples/verify.py --write                  README.md from examples.toml; runs no gate

Exit codes: 0 all as declared, 1 something differs, 2 wrong usage.
"""

import argparse
import collections
import importlib.metadata
import json
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE / "README.md"
HOW = "--turns 4 --seed 4 --in-flight 1 --instances 2".split()
Example = dict[str, Any]

HEAD = """\
# Coordinators on published libraries

<!-- made from examples.toml: python coordinators/examples/verify.py --write -->

Each is what the library's own documentation shows, under 60 lines with the coordinator's HTTP interface. None of them
passes `tool_call_id` or a key to the tool; effects are attributed by the `reference` in each call's arguments. All pass
while nothing goes wrong, and that is what most tests of such code see.

Python ones need `pip install "anechoic[examples]"`, the Node one `npm ci --prefix coordinators/examples/openai_node` and
Node 22 or later (20 was seen to work too). Then, for example:

```
anechoic gate --command "python coordinators/examples/openai_python/coordinator.py" --plan none
anechoic gate --command "python coordinators/examples/openai_python/coordinator.py" --plan stale-polls
```

## What comes out

`pass`, or which of SAFE, LIVE and HONEST fails, and the most effects that one tool call had where it is not 1. `turn fails`
marks plans under which the coordinator says that the turn failed. Run again, and compared with this, by
`python coordinators/examples/verify.py`.
"""
TAIL = """\
None of them sends a key, so a gateway that honours keys changes nothing. The `hardened` coordinator of this repository holds
under all of it at a keyed gateway: `anechoic gate --coordinator hardened --gateway keyed`.

## What that means for users
"""


def load() -> dict[str, Any]:
    """What is declared: the plans in words, and for each example its packages, its verdicts and what they mean."""
    return tomllib.loads((HERE / "examples.toml").read_text(encoding="utf-8"))


def command(example: Example) -> str:
    """The command that starts one instance."""
    program = "node" if example["file"].endswith(".mjs") else sys.executable
    return shlex.join([program, str(HERE / example["folder"] / example["file"])])


def installed(example: Example) -> str:
    """The versions that are there."""
    if example["file"].endswith(".mjs"):
        lock = json.loads((HERE / example["folder"] / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        return ", ".join(f"{name} {lock[f'node_modules/{name}']['version']}" for name in example["packages"])
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in example["packages"])


def gate(example: Example, plan: str) -> str:
    """Run one gate; what came out, in the words of examples.toml."""
    name, _, gateway = plan.partition("@")
    with tempfile.TemporaryDirectory() as folder:
        words = ["--command", command(example), "--plan", name, "--gateway", gateway or "keyless", *HOW, "--report-dir", folder]
        done = subprocess.run([sys.executable, "-m", "anechoic", "gate", *words], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            return f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        verdict = json.loads((Path(folder) / "verdict.json").read_text(encoding="utf-8"))
        lines = (Path(folder) / "history.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    events = [json.loads(line) for line in lines]
    effects = collections.Counter(event["nonce"] for event in events if event["kind"] == "effect_committed")
    ended = sorted({event["status"] for event in events if event["kind"] == "turn_ended"})
    broken = [word for word in ("SAFE", "LIVE", "HONEST") if verdict[word.lower()] != "pass"]
    return f"{' '.join(['fails', *broken]) if broken else 'pass'}, effects {max(effects.values())}, turns {' '.join(ended)}"


def verify(examples: list[Example], plans: list[str]) -> bool:
    """Run the gates and print what came out; whether all of it is as declared."""
    same = True
    for example in examples:
        there = installed(example)
        print(f"{example['folder']}: {there}" + ("" if there == example["seen"] else f" (declared with {example['seen']})"))
        for plan, declared in example["verdicts"].items():
            if plan in plans:
                came = gate(example, plan)
                same = same and came == declared
                print(f"  {plan:20} {came}" + ("" if came == declared else f"\n  {'':20} declared: {declared}"), flush=True)
    return same


def page(data: dict[str, Any]) -> str:
    """README.md."""
    plans, examples = data["plans"], data["examples"]
    rows = [["", *(f"`{plan}`".replace("@", "`, `") for plan in plans)], ["---"] * (len(plans) + 1)]
    for e in examples:
        rows.append([f"[{e['name']}]({e['folder']}/{e['file']})", *(_cell(e["verdicts"].get(plan)) for plan in plans)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    words = "\n".join(f"- `{plan}`: {about}." for plan, about in plans.items())
    means = "\n\n".join(f"### {e['name']}\n\nSeen with {e['seen']}.\n{e['means']}" for e in examples)
    return "\n".join([HEAD, table, "", words, "", TAIL, means, ""])


def _cell(verdict: str | None) -> str:
    if verdict is None:
        return "no stream"
    judged, effects, turns = verdict.split(", ")
    count = effects.removeprefix("effects ")
    said = "pass" if judged == "pass" else f"**{judged}**"
    return said + (f", {count} effects" if count != "1" else "") + (", turn fails" if "failed" in turns else "")


def main() -> int:
    """The command line."""
    data = load()
    folders, plans = [e["folder"] for e in data["examples"]], list(data["plans"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=folders, action="append", help="this example (repeatable)")
    parser.add_argument("--plan", choices=plans, action="append", help="this plan (repeatable)")
    parser.add_argument("--write", action="store_true", help="write README.md instead")
    given = parser.parse_args()
    if given.write:
        README.write_text(page(data), encoding="utf-8")
        return 0
    chosen = [e for e in data["examples"] if e["folder"] in (given.only or folders)]
    return 0 if verify(chosen, given.plan or plans) else 1


if __name__ == "__main__":
    sys.exit(main())
