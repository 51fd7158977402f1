"""How long a generation takes: latency profiles of known hardware, and seeded draws from them.

Source of the ranges: the reference tables of llm-d-inference-sim (docs/latency-profiles.md; prompt of 256 tokens, batch
size 1, FP16/BF16, compiled there from published vLLM, MLPerf and vendor benchmarks; orders of magnitude, not promises):

| profile        | model, hardware    | time to first token | inter-token latency |
|----------------|--------------------|---------------------|---------------------|
| `8b-h100`      | 8B on one H100     | 60-120 ms           | 10-15 ms            |
| `70b-h100-tp4` | 70B on four H100   | 250-400 ms          | 25-40 ms            |
| `70b-a100-tp4` | 70B on four A100   | 400-700 ms          | 40-60 ms            |
| `ci`           | `8b-h100` x 0.01   | 0.6-1.2 ms          | 0.10-0.15 ms        |

The standard deviation around a mean is 5-15 % of it, from the same tables; five sequences at once and a queue of 1000
are that simulator's defaults.
"""

from __future__ import annotations

import dataclasses
import difflib
import random

MAX_NUM_SEQS = 5
"""Generations that one replica runs at the same time."""

MAX_WAITING = 1000
"""Requests that may wait for a replica; the next one is answered 503."""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """Ranges of the means, in seconds: time to first token, and latency between two tokens."""

    name: str
    ttft: tuple[float, float]
    itl: tuple[float, float]

    def draw(self, dice: random.Random) -> tuple[float, float]:
        """(time to first token, inter-token latency) of one generation, in seconds, both above 0."""
        return _around(dice, *self.ttft), _around(dice, *self.itl)


def _around(dice: random.Random, low: float, high: float) -> float:
    mean = dice.uniform(low, high)
    return max(0.1 * mean, dice.gauss(mean, dice.uniform(0.05, 0.15) * mean))


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("8b-h100", ttft=(0.060, 0.120), itl=(0.010, 0.015)),
        Profile("70b-h100-tp4", ttft=(0.250, 0.400), itl=(0.025, 0.040)),
        Profile("70b-a100-tp4", ttft=(0.400, 0.700), itl=(0.040, 0.060)),
        Profile("ci", ttft=(0.0006, 0.0012), itl=(0.00010, 0.00015)),
    )
}


def named(name: str) -> Profile:
    """The profile of that name. Raises ValueError, with the nearest known name, when there is none."""
    found = PROFILES.get(name)
    if found is None:
        near = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown latency profile {name!r}; known: {', '.join(PROFILES)}{hint}")
    return found
