"""A counterexample file: a case, what it is expected to break, and the versions it was found with. Small, readable JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.words import unknown
from contracts.case import Case, CaseError
from contracts.catalogue import CONTRACTS
from contracts.result import Violation
from fakes.whole import write_whole

FORMAT_VERSION = 1
WORLDS = ("simulation", "wire")
WAYS = ("name", "command")
"""How a coordinator is named: a word of this harness or a `module:attribute`, or the command that starts an instance."""


def versions() -> dict[str, str]:
    """What it was found with."""
    return {"anechoic": importlib.metadata.version("anechoic"), "python": platform.python_version()}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """A case that breaks a contract. `expect` compares by contract and shape, `world` is where it was found."""

    case: Case
    expect: Violation
    world: str = "simulation"
    way: str = "name"
    versions: Mapping[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        """The file's content as data."""
        return {
            "format_version": FORMAT_VERSION,
            "expect": {
                "contract": self.expect.contract, "shape": self.expect.shape, "message": self.expect.message,
                **({"liveness": True} if self.expect.liveness else {}),
            },
            "world": self.world,
            "coordinator_by": self.way,
            **self.case.to_json(),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "counterexample") -> Counterexample:
        """Read the file's content. Raises CaseError that says what is wrong, for a newer format before anything else."""
        if not isinstance(data, dict):
            raise CaseError(f"{where}: expected an object, seen {type(data).__name__}")
        table = dict(data)
        version = table.pop("format_version", None)
        if version != FORMAT_VERSION:
            found = table.get("versions")
            by = f", written by anechoic {found['anechoic']}" if isinstance(found, dict) and "anechoic" in found else ""
            raise CaseError(
                f"{where}: format_version is {version!r}{by}; anechoic {versions()['anechoic']} reads {FORMAT_VERSION}"
            )
        expect, world, way = table.pop("expect", None), table.pop("world", "simulation"), table.pop("coordinator_by", "name")
        found_with = table.pop("versions", {})
        if world not in WORLDS:
            raise CaseError(f"{where}: {unknown('world', world, WORLDS)}")
        if way not in WAYS:
            raise CaseError(f"{where}: {unknown('word in coordinator_by', way, WAYS)}")
        if not isinstance(found_with, dict):
            raise CaseError(f"{where}: versions must be an object, not {found_with!r}")
        return cls(
            case=Case.from_json(table, where), expect=_expected(expect, where), world=world, way=way, versions=found_with
        )

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, readable(self.to_json()) + "\n")

    @classmethod
    def load(cls, path: Path) -> Counterexample:
        """Read a file. Raises CaseError."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CaseError(f"no such file: {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CaseError(f"{path} cannot be read: {error}") from None
        except ValueError as error:
            raise CaseError(f"{path} is not JSON: {error}") from None
        return cls.from_json(data, str(path))


class Kept:
    """The database of failing cases: a folder of counterexample files for each subject, kept from one search to the next."""

    def __init__(self, folder: Path, subject: str) -> None:
        self.folder = folder / hashlib.sha256(subject.encode()).hexdigest()[:16]

    def cases(self) -> list[Case]:
        """What failed before; files that cannot be read any more are left alone."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(CaseError):
                found.append(Counterexample.load(path).case)
        return found

    def keep(self, case: Case, expect: Violation) -> Path:
        """Keep a failing case."""
        path = self._path(case)
        Counterexample(case=case, expect=expect).save(path)
        return path

    def forget(self, case: Case) -> None:
        """It fails no longer."""
        self._path(case).unlink(missing_ok=True)

    def _path(self, case: Case) -> Path:
        return self.folder / f"{hashlib.sha256(case.key.encode()).hexdigest()[:16]}.json"


def readable(data: Any, indent: str = "", width: int = 110) -> str:
    """JSON in which whatever fits on a line stands on one."""
    line = json.dumps(data, ensure_ascii=False)
    if len(indent) + len(line) <= width or not isinstance(data, dict | list) or not data:
        return line
    deeper = indent + "  "
    if isinstance(data, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {readable(value, deeper, width)}" for key, value in data.items()]
    else:
        parts = [readable(value, deeper, width) for value in data]
    begin, end = "{}" if isinstance(data, dict) else "[]"
    return begin + "\n" + ",\n".join(deeper + part for part in parts) + "\n" + indent + end


def _expected(data: Any, where: str) -> Violation:
    if not isinstance(data, dict) or not isinstance(data.get("shape"), str):
        raise CaseError(f'{where}: expect must be an object such as {{"contract": "C1", "shape": "..."}}, not {data!r}')
    if data.get("contract") not in CONTRACTS:
        raise CaseError(f"{where}, expect: {unknown('contract', data.get('contract'), CONTRACTS)}")
    liveness = data.get("liveness", False) is True
    return Violation(data["contract"], data["shape"], str(data.get("message", "")), liveness=liveness)
