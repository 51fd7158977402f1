"""What reporters read: verdict.json, and the index of the history that it was made from, where there is one."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anechoic import exits
from contracts.index import Index
from contracts.result import Violation
from contracts.story import Source
from contracts.verdict import WORST_FIRST
from fakes.history import HistoryError, read

VERDICT, HISTORY, CAMPAIGN = "verdict.json", "history.jsonl", "chaos.json"
THREE = ("safe", "live", "honest")
"""The verdicts that stand beside each other."""


class RecordError(ValueError):
    """A report directory that cannot be reported on: what was seen, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One run. `rounds` are the rounds of a chaos run; then `parts` are the records of those that did not pass.

    `gateways` are the runs at each profile where there were several; then the data is only what they come to together.
    """

    data: Mapping[str, Any]
    index: Source | None = None
    rounds: Sequence[Mapping[str, Any]] = ()
    parts: Mapping[int, Record] = dataclasses.field(default_factory=dict)
    gateways: Mapping[str, Record] = dataclasses.field(default_factory=dict)

    @property
    def runs(self) -> Sequence[Record]:
        """The record of each gateway profile, or just this one."""
        return list(self.gateways.values()) or [self]

    @property
    def below(self) -> Sequence[Record]:
        """The records that this one is made of."""
        return [*self.parts.values(), *self.gateways.values()]

    @property
    def first(self) -> tuple[Source, Violation] | None:
        """The first violation that nobody has accepted, with the history that tells its story."""
        return next(self.told(), None)

    def told(self) -> Iterator[tuple[Source, Violation]]:
        """One violation of each kind that nobody has accepted, that with the shortest story, in the order of the contracts."""
        if self.index is not None:
            kinds: dict[Violation, Violation] = {}
            for found in self.data.get("violations", ()):
                violation = _violation(found)
                before = kinds.get(violation)
                if "accepted" not in found and (before is None or len(violation.events) < len(before.events)):
                    kinds[violation] = violation
            yield from ((self.index, violation) for violation in kinds.values())
        seen: set[Violation] = set()
        for index, violation in (told for part in self.below for told in part.told()):
            if violation not in seen:
                seen.add(violation)
                yield index, violation


def load(folder: Path) -> Record:
    """What a run left in its report directory. Raises RecordError."""
    campaign = folder / CAMPAIGN
    if campaign.exists():
        return of_campaign(_object(campaign), {
            int(path.parent.name.removeprefix("round-")): load(path.parent)
            for path in sorted(folder.glob(f"round-[0-9]*/{VERDICT}"))
        })
    path = folder / VERDICT
    if not path.exists():
        raise RecordError(f"{folder} holds neither {VERDICT} nor {CAMPAIGN}; give the --report-dir of a run that has ended")
    data = _object(path)
    if rows := data.get("gateways"):
        return Record(data, gateways={row["gateway"]: load(folder / row["gateway"]) for row in rows})
    return Record(data, _index(folder / HISTORY))


def refused(error: object, about: Mapping[str, Any]) -> Record:
    """The record of a run that ended before there was anything to judge. `about` says what was to be run."""
    reasons = [str(error)]
    return Record({
        "format_version": 1, "verdict": "invalid", "exit_code": 2, "contracts": [], "violations": [], "plans": [],
        **about, "reasons": reasons, "unsound": reasons,
    })


def of_gateways(made: Mapping[str, Record], left: Sequence[str], reproduce: str) -> Record:
    """The record of the same run at several gateway profiles; `left` are those that an interruption has left out."""
    every = [record.data for record in made.values()]
    counts: Counter[str] = Counter()
    for data in every:
        counts.update(data.get("counts", {}))
    code = exits.worst(data["exit_code"] for data in every)
    verdict = _worst([data["verdict"] for data in every] + (["unknown"] if left else []))
    row = ("verdict", *THREE, "exit_code", "counts")
    whole = {
        "format_version": 1, "verdict": verdict, "exit_code": 130 if left else code,
        "coordinator": every[0]["coordinator"], "gateway": ", ".join(made), "seed": every[0]["seed"],
        "seconds": round(sum(data.get("seconds", 0.0) for data in every), 1), "counts": dict(counts),
        **{name: _worst([data[name] for data in every]) for name in THREE if all(name in data for data in every)},
        "gateways": [
            {"gateway": name, **{key: record.data[key] for key in row if key in record.data}} for name, record in made.items()
        ],
        "reproduce": reproduce,
    }
    if left:
        whole["notes"] = [f"interrupted: not run, or not to the end, at gateway {', '.join(left)}"]
    return Record(whole, gateways=made)


def _worst(verdicts: Sequence[str]) -> str:
    return str(next(verdict for verdict in WORST_FIRST if verdict in verdicts))


def of_campaign(data: Mapping[str, Any], parts: Mapping[int, Record]) -> Record:
    """The record of a chaos run out of chaos.json and the records of the rounds that did not pass."""
    rounds = data["rounds"]
    counts = {key: sum(r["counts"][key] for r in rounds) for key in (rounds[0]["counts"] if rounds else ())}
    verdicts = [r["verdict"] for r in rounds]
    worst = next((v for v in ("fail", "invalid", "unknown") if v in verdicts), "pass" if data["exit_code"] == 0 else "unknown")
    whole = {
        **data, "verdict": worst, "counts": counts, "seconds": round(sum(r["seconds"] for r in rounds), 1),
        "reproduce": next((part.data["reproduce"] for part in parts.values()), ""),
        **{name: _worst_of(parts, name, worst) for name in ("safe", "live", "honest")},
    }
    return Record(whole, None, rounds, parts)


def _worst_of(parts: Mapping[int, Record], name: str, worst: str) -> str:
    seen = [str(part.data.get(name, "unknown")) for part in parts.values()]
    return next((v for v in ("fail", "invalid", "unknown") if v in seen), "pass" if parts or worst == "pass" else "unknown")


def _violation(data: Mapping[str, Any]) -> Violation:
    return Violation(
        data["contract"], data.get("shape", ""), data["message"], data.get("run_id"), data.get("tool_call_id"),
        tuple(data.get("effects", ())), tuple(data.get("events", ())),
    )


def _index(path: Path) -> Source | None:
    if not path.exists():
        return None
    try:
        _, events, _ = read(path)
        return Index(events)
    except HistoryError as error:
        raise RecordError(str(error)) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict) or data.get("format_version") != 1:
        seen = data.get("format_version") if isinstance(data, dict) else type(data).__name__
        raise RecordError(f"{path}: format_version is {seen!r}; this version of anechoic reads 1")
    return data
