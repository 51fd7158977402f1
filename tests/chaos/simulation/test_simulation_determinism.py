"""The same seed gives the same history, byte for byte, in every process and under every PYTHONHASHSEED."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from chaos import builtin
from chaos.simulation import Settings, jsonl, simulate
from chaos.turns import make
from fakes.gateway.profile import PROFILES

SEEDS = int(os.environ.get("ANECHOIC_SEEDS", "20"))
"""The default keeps the suite short; ANECHOIC_SEEDS=100 is the long form."""


def history_of(seed: int) -> bytes:
    """Five turns under two plans each, of a coordinator and a gateway that depend on the seed."""
    plans = [plan for name, plan in builtin.plans().items() if name != "incident" and not plan.needs_wire]
    chosen = [(plans[(seed * 7 + n * 3) % len(plans)], plans[(seed + n * 5) % len(plans)]) for n in range(5)]
    turns = [dataclasses.replace(make(seed, n), plans=tuple(p.name for p in pair)) for n, pair in enumerate(chosen)]
    used = list({plan.name: plan for pair in chosen for plan in pair}.values())
    settings = Settings(
        coordinator=("hardened", "as_deployed")[seed % 2], gateway=list(PROFILES.values())[seed % 4], seed=seed,
        clock_skew=0.5,
    )
    return jsonl(simulate(settings, turns, used))


def digests(seeds: list[int]) -> dict[str, str]:
    """A digest for each seed."""
    return {str(seed): hashlib.sha256(history_of(seed)).hexdigest() for seed in seeds}


def elsewhere(seeds: list[int], hash_seed: str) -> dict[str, str]:
    """The digests out of another process."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, seeds)], text=True, capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_history_is_a_function_of_the_seed() -> None:
    """Other processes, other hash seeds, other things done before: the same bytes."""
    seeds = list(range(SEEDS))
    first = elsewhere(seeds, "0")
    assert len(set(first.values())) == SEEDS
    assert elsewhere(seeds[::-1], "4242") == first
    assert digests(seeds[:5]) == {seed: first[seed] for seed in map(str, seeds[:5])}


if __name__ == "__main__":
    print(json.dumps(digests([int(word) for word in sys.argv[1:]])))
