"""The campaign behind `anechoic chaos`: one gate after the other with random plans, for as long as was asked for.

What has been done is in `chaos.json` of the report directory after each round, so an interrupted campaign goes on where it
stopped, and every round can be run again alone: its plans, turns and ids are a function of the seed and its number.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anechoic import gate
from anechoic.baseline import Baseline
from chaos import schedule
from chaos.wire.settings import Settings
from contracts.verdict import Verdict

FORMAT_VERSION = 1
_EXIT = {"pass": 0, "fail": 1, "invalid": 2, "unknown": 3}


class CampaignError(ValueError):
    """A campaign that cannot be run or gone on with: what was seen, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One gate of a campaign, in short."""

    number: int
    seed: int
    verdict: str
    seconds: float
    counts: dict[str, int]
    faults: int
    restarts: int
    accepted: bool = False
    """its only violations are those of the baseline"""

    @property
    def good(self) -> bool:
        """Whether it passed, or nothing about it is new."""
        return self.verdict == Verdict.PASS or self.accepted

    def __str__(self) -> str:
        accepted = " (accepted)" if self.accepted else ""
        rate = self.counts["turns"] / self.seconds if self.seconds else 0.0
        c = self.counts
        return (
            f"round {self.number}: {self.verdict}{accepted}   {c['turns']} turns ({rate:.1f}/s), {c['effects']} effects, "
            f"{c['duplicates']} duplicates, {c['lost']} lost, {self.faults} faults, {self.restarts} restarts"
        )


@dataclasses.dataclass(slots=True)
class Campaign:
    """All rounds so far. `seed` makes every round; `turns` is how many each has."""

    settings: Settings
    seed: int
    turns: int
    rounds: list[Round] = dataclasses.field(default_factory=list)
    reached: Counter[str] = dataclasses.field(default_factory=Counter)
    failed: dict[int, gate.Outcome] = dataclasses.field(default_factory=dict)
    """what came of the rounds that did not pass, where there is no report directory to find it in"""
    again: Callable[[int], str] = lambda number: ""
    """the command that runs a round again, by its number"""
    baseline: Baseline | None = None

    @property
    def seconds(self) -> float:
        """How long the rounds have taken together."""
        return sum(r.seconds for r in self.rounds)

    @property
    def failures(self) -> int:
        """How many rounds did not pass."""
        return sum(not r.good for r in self.rounds)

    @property
    def exit_code(self) -> int:
        """That of the worst round; 3 when no round was run, or in none of them any fault fired."""
        verdicts = {r.verdict for r in self.rounds if not r.good}
        worst = next((v for v in ("fail", "invalid", "unknown") if v in verdicts), "pass")
        return 3 if worst == "pass" and not sum(r.faults for r in self.rounds) else _EXIT[worst]

    def to_json(self) -> dict[str, Any]:
        """The content of chaos.json."""
        return {
            "format_version": FORMAT_VERSION, "coordinator": self.settings.coordinator.label,
            "gateway": self.settings.gateway.name, "seed": self.seed, "turns": self.turns, "exit_code": self.exit_code,
            "rounds": [dataclasses.asdict(r) for r in self.rounds], "reached": dict(sorted(self.reached.items())),
        }


def resume(settings: Settings, seed: int | None, turns: int, new_seed: Callable[[], int]) -> Campaign:
    """The campaign in the report directory, or a new one. Raises CampaignError when what is there is another's, or damaged."""
    path = settings.report_dir / "chaos.json" if settings.report_dir else None
    if path is None or not path.exists():
        return Campaign(settings, new_seed() if seed is None else seed, turns)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        mine = (FORMAT_VERSION, settings.coordinator.label, settings.gateway.name, turns)
        theirs = (data["format_version"], data["coordinator"], data["gateway"], data["turns"])
        found = Campaign(
            settings, data["seed"], turns, [Round(**r) for r in data["rounds"]], Counter(data["reached"])
        )
    except (ValueError, KeyError, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise CampaignError(f"{path} cannot be gone on with: {said}. Choose another --report-dir") from None
    if mine != theirs or seed not in (None, found.seed):
        raise CampaignError(
            f"{path} is of another campaign: {data['coordinator']} at {data['gateway']}, seed {data['seed']}, "
            f"{data['turns']} turns a round. Give the same, or another --report-dir"
        )
    return found


Done = Callable[[Round, gate.Outcome], None]


async def run(campaign: Campaign, *, seconds: float, max_failures: int, observer: gate.Observer, done: Done) -> None:
    """Round after round until the time is over or so many did not pass. Raises as `gate.run` does."""
    while campaign.seconds < seconds and campaign.failures < max_failures:
        await run_round(campaign, len(campaign.rounds) + 1, observer, done)


def folder_of(report_dir: Path, number: int) -> Path:
    """The folder of one round."""
    return report_dir / f"round-{number:04}"


async def run_round(campaign: Campaign, number: int, observer: gate.Observer, done: Done) -> None:
    """One round. Its folder `round-N` is kept when it did not pass; chaos.json is written either way."""
    seed = random.Random(f"campaign/{campaign.seed}/{number}").randrange(1_000_000)
    whole = campaign.settings.report_dir
    folder = None if whole is None else folder_of(whole, number)
    settings = dataclasses.replace(campaign.settings, seed=seed, report_dir=folder)
    plans, _ = gate.usable_plans(settings)
    asked = gate.Gate(
        settings, turns=campaign.turns, schedule=schedule.scatter(plans, campaign.turns, seed),
        reproduce=campaign.again(number), baseline=campaign.baseline,
    )
    start = time.monotonic()
    outcome = await gate.run(asked, observer)
    data = outcome.data
    made = Round(
        number, seed, data["verdict"], round(time.monotonic() - start, 1), data["counts"],
        sum(f["fired"] for f in data["faults"]), data["reached"].get("instances ended by a fault", 0),
        data["exit_code"] == 0 and data["verdict"] != Verdict.PASS,
    )
    campaign.rounds.append(made)
    if not made.good and folder is None:
        campaign.failed[number] = outcome
    campaign.reached.update(data["reached"])
    if whole is not None:
        gate.write(whole / "chaos.json", campaign.to_json())
        if made.good and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    done(made, outcome)
