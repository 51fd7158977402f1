"""A baseline: violations that are known and accepted, so that a gate fails for new ones only.

A violation is known by its contract, its shape and the plans that were bound to its conversation. The file is TOML, for people
to read and to give reasons in; what a plan-less entry accepts is accepted under every plan.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anechoic import exits
from chaos.words import unknown
from contracts.catalogue import CONTRACTS
from contracts.result import Status, Violation
from contracts.verdict import Judgement, excusing

FORMAT_VERSION = 1
_HEAD = """\
# Violations that are known and accepted: `anechoic gate --baseline` fails for others only.
# Say in `reason` why each one may stay. An entry without `plan` is accepted under every fault plan.
"""
_KEYS = ("contract", "shape", "plan", "reason", "seen")


class BaselineError(ValueError):
    """A baseline that cannot be used: what was seen, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """One entry. `seen` is an example in words, which nothing is compared with, and no more is `reason`."""

    contract: str
    shape: str
    plans: frozenset[str] = frozenset()
    reason: str = dataclasses.field(default="", compare=False)
    seen: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        under = f" under {self.plan}" if self.plans else ""
        return f"{self.contract} {CONTRACTS[self.contract].name} ({self.shape}){under}"

    @property
    def plan(self) -> str:
        """Its plans, as --plan takes them."""
        return "+".join(sorted(self.plans))

    def covers(self, other: Known) -> bool:
        """Whether what `other` tells is accepted by this one: the same, under these plans or these and more."""
        return (self.contract, self.shape) == (other.contract, other.shape) and self.plans <= other.plans


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A run held against a baseline: which entries were seen again, what is new, what is fixed, what was not put to the test.

    `reasons` has for each violation of the run the reason why it is accepted, None where it is new.
    """

    reasons: Sequence[str | None]
    seen: Sequence[Known]
    new: Sequence[Known]
    fixed: Sequence[Known]
    untested: Sequence[Known]


@dataclasses.dataclass(frozen=True, slots=True)
class Baseline:
    """The entries of a file, in its order. `gateway` is the profile that it was written at."""

    path: Path
    gateway: str
    entries: Sequence[Known] = ()

    def accepting(self, found: Known) -> Known | None:
        """The entry that accepts this, if there is one."""
        return next((entry for entry in self.entries if entry.covers(found)), None)

    def accepts(self, violation: Violation) -> bool:
        """Whether a violation under plans that have no name is accepted."""
        return self.accepting(Known(violation.contract, violation.shape)) is not None

    def compare(self, found: Iterable[Known], tested: Callable[[Known], bool]) -> Comparison:
        """Hold what was found against the entries. `tested` says whether an entry would have been seen if it were still so."""
        reasons: list[str | None] = []
        seen: dict[Known, None] = {}
        new: dict[Known, Known] = {}
        for one in found:
            entry = self.accepting(one)
            reasons.append(entry.reason if entry else None)
            if entry is not None:
                seen[entry] = None
            else:
                new.setdefault(one, one)
        gone = [entry for entry in self.entries if entry not in seen]
        return Comparison(
            reasons, [e for e in self.entries if e in seen], _smallest(new.values()),
            [e for e in gone if tested(e)], [e for e in gone if not tested(e)],
        )

    def updated(self, compared: Comparison) -> Baseline:
        """With what is new, and without what is fixed."""
        kept = [entry for entry in self.entries if entry not in compared.fixed]
        return dataclasses.replace(self, entries=[*kept, *compared.new])

    def save(self) -> None:
        """Write the file, whole or not at all. Raises OSError."""
        tables = [{key: getattr(entry, key) for key in _KEYS if key != "plan" or entry.plans} for entry in self.entries]
        parts = ["[[accepted]]\n" + "".join(f"{key} = {_quoted(value)}\n" for key, value in table.items()) for table in tables]
        text = "\n".join([f"{_HEAD}format_version = {FORMAT_VERSION}\ngateway = {_quoted(self.gateway)}\n", *parts])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".tmp")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path)

    @classmethod
    def load(cls, path: Path, gateway: str) -> Baseline:
        """Read a file. Raises BaselineError for what cannot be read, and for one of another gateway profile."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BaselineError(f"no such baseline: {path}. --update-baseline writes it from this run") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(f"baseline {path} cannot be read: {error}") from None
        except ValueError as error:
            raise BaselineError(f"baseline {path} is not TOML: {error}") from None
        version = data.get("format_version")
        if version != FORMAT_VERSION:
            raise BaselineError(f"baseline {path}: format_version is {version!r}; this anechoic reads {FORMAT_VERSION}")
        for key in data:
            if key not in ("format_version", "gateway", "accepted"):
                raise BaselineError(f"baseline {path}: {unknown('word', key, ('format_version', 'gateway', 'accepted'))}")
        if data.get("gateway", gateway) != gateway:
            raise BaselineError(
                f"baseline {path} was written at gateway {data['gateway']!r}, and this run is at {gateway!r}: "
                "what is accepted at one says nothing at another. Give each its own file"
            )
        tables = data.get("accepted", [])
        if not isinstance(tables, list):
            raise BaselineError(f"baseline {path}: accepted must be a list of tables ([[accepted]])")
        return cls(path, gateway, [_entry(table, f"baseline {path}, entry {n}") for n, table in enumerate(tables, 1)])


def settle(baseline: Baseline, judgement: Judgement, data: dict[str, Any], *, update: bool = False) -> None:
    """Hold a judgement against a baseline, and write into verdict.json (`data`) what is accepted, new and fixed.

    The verdicts stay what they are, since a fact is a fact; `exit_code` is that of the run without what is accepted. With
    `update` the file is written, and what was new is accepted from then on. Raises OSError.
    """
    found = [Known(v.contract, v.shape, _parts(v.plans), seen=v.message) for v in judgement.violations]

    def code(accepting: Baseline) -> int:
        accepted = {id(v) for v, one in zip(judgement.violations, found, strict=True) if accepting.accepting(one)}
        return excusing(judgement, lambda v: id(v) in accepted)[1]

    record(baseline, found, lambda entry: _tested(entry, judgement), data, code, update=update)


def record(
    baseline: Baseline, found: Sequence[Known], tested: Callable[[Known], bool], data: dict[str, Any],
    code: Callable[[Baseline], int], *, update: bool = False,
) -> None:
    """As `settle`, for what was found one by one: `found` are the violations of `data` in their order.

    A run that is invalid or was interrupted says too little to update a baseline by; then the file is left alone.
    """
    compared = baseline.compare(found, tested)
    said: dict[str, Any] = {"file": str(baseline.path), "new": [str(e) for e in compared.new]}
    after = baseline.updated(compared)
    if update and code(after) in (exits.PASS, exits.UNKNOWN):
        after.save()
        baseline, reasons = after, after.compare(found, tested).reasons
        said |= {"new": [], "added": [str(e) for e in compared.new], "removed": [str(e) for e in compared.fixed]}
    else:
        reasons = compared.reasons
    for violation, why in zip(data["violations"], reasons, strict=True):
        if why is not None:
            violation["accepted"] = why
    said |= {
        "accepted": sum(why is not None for why in reasons), "fixed": [str(e) for e in compared.fixed],
        "untested": [str(e) for e in compared.untested],
    }
    data["exit_code"], data["baseline"] = code(baseline), said


def _tested(entry: Known, judgement: Judgement) -> bool:
    """Whether its contract was decided, in a sound run in which all its plans met and all their rules fired."""
    decided = judgement.result(entry.contract).status in (Status.PASS, Status.FAIL) and not judgement.flaws.run
    met = any(entry.plans <= _parts(together) for together in judgement.together)
    silent = {rule.rsplit("/", 1)[0] for rule, fired in judgement.fired.items() if not fired}
    return decided and met and not entry.plans & silent


def _parts(plans: Iterable[str]) -> frozenset[str]:
    """The plans, with those that were joined by + taken apart."""
    return frozenset(part for plan in plans for part in plan.split("+"))


def _smallest(found: Iterable[Known]) -> list[Known]:
    """Without those that another one covers."""
    kept: list[Known] = []
    for one in sorted(found, key=lambda k: len(k.plans)):
        if not any(other.covers(one) for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda k: (list(CONTRACTS).index(k.contract), k.shape, k.plan))


def _entry(table: Any, where: str) -> Known:
    if not isinstance(table, Mapping):
        raise BaselineError(f"{where}: expected a table, got {table!r}")
    for key, value in table.items():
        if key not in _KEYS:
            raise BaselineError(f"{where}: {unknown('word', key, _KEYS)}")
        if not isinstance(value, str):
            raise BaselineError(f"{where}: {key} must be text, not {value!r}")
    for key in ("contract", "shape"):
        if not table.get(key):
            raise BaselineError(f"{where}: {key} is missing; an entry is known by its contract and shape")
    if table["contract"] not in CONTRACTS:
        raise BaselineError(f"{where}: {unknown('contract', table['contract'], CONTRACTS)}")
    plans = frozenset(part.strip() for part in table.get("plan", "").split("+") if part.strip())
    return Known(table["contract"], table["shape"], plans, table.get("reason", ""), table.get("seen", ""))


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
