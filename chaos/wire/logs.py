"""The log files that the harness writes itself, one for each fake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO


class Logs:
    """Files in one folder, written line by line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[str]] = {}

    def open(self, name: str) -> Callable[[str], None]:
        """What takes the lines of the file of that name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self._folder / name).open("a", encoding="utf-8", buffering=1)

        def write(line: str) -> None:
            if not file.closed:
                file.write(line + "\n")

        return write

    def close(self) -> None:
        """Close every file; later lines are dropped."""
        for file in self._files.values():
            file.close()
