"""History files: JSON Lines, the header first, then one event in each line; written whole, and read as a stream or whole."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from fakes.encoding import decode, encode
from fakes.history.events import Event
from fakes.history.lines import FORMAT_VERSION, HistoryError, from_json, to_json

MARKED = 512
"""Lines from one mark to the next."""


def save(path: Path, header: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Write events that were recorded elsewhere as a history file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(encode({"format_version": FORMAT_VERSION, **header}) + b"\n")
        file.writelines(encode(to_json(event)) + b"\n" for event in events)


class HistoryFile:
    """A history file as a stream: its `header`, and its events in order as often as it is iterated over.

    A last line that was cut off (the writer was killed) is left out; `warning` says so once all others were read. Raises
    HistoryError, which names the line, at once when the file is missing, empty or of another format version, and on the way
    when it is damaged before its end. What is no regular file, such as a pipe, is copied into a temporary one first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy = _copied(path) if path.exists() and not path.is_file() and not path.is_dir() else None
        self._source = path if self._copy is None else Path(self._copy.name)
        self.warning: str | None = None
        self.position = 0
        """bytes that the latest reading has come to"""
        self._marks: list[int] = []
        """where every so many lines begin, as far as was read"""
        self.header = self._object(1, self._first())
        version = self.header.get("format_version")
        if version != FORMAT_VERSION:
            raise HistoryError(
                f"{path}, line 1: format_version is {version!r}, this version of anechoic reads {FORMAT_VERSION}; "
                "check it with the anechoic that wrote it"
            )

    def __iter__(self) -> Iterator[Event]:
        for number, line in enumerate(self.lines(), start=2):
            event = self._event(number, line)
            if event.seq != number - 1:
                raise HistoryError(
                    f"{self.path}, line {number}: seq is {event.seq}, expected {number - 1}; a line is missing"
                )
            yield event

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._source.stat().st_size

    def lines(self) -> Iterator[bytes]:
        """The events as they are written, one line each."""
        lines = self._lines()
        next(lines)
        return lines

    def event(self, seq: int) -> Event | None:
        """The event of that number, of those that were read before; found within a millisecond."""
        mark, further = divmod(seq, MARKED)
        if seq < 1 or mark >= len(self._marks):
            return None
        with self._source.open("rb") as file:
            file.seek(self._marks[mark])
            line = next(itertools.islice(file, further, None), b"")
        return self._event(seq + 1, line) if line.endswith(b"\n") else None

    def _first(self) -> bytes:
        for line in self._lines():
            return line
        raise HistoryError(f"{self.path} is empty or cut off in its first line; expected a header with format_version")

    def _lines(self) -> Iterator[bytes]:
        """The complete lines, the header first."""
        self.position = 0
        try:
            with self._source.open("rb") as file:
                for number, line in enumerate(file):
                    if not line.endswith(b"\n"):
                        self.warning = f"{self.path}, line {number + 1}: cut off in the middle, left out"
                        return
                    if number == MARKED * len(self._marks):
                        self._marks.append(self.position)
                    self.position += len(line)
                    yield line
        except FileNotFoundError:
            raise HistoryError(
                f"no such file: {self.path}. A run with --report-dir DIR writes DIR/history.jsonl"
            ) from None
        except OSError as error:
            raise HistoryError(f"{self.path} cannot be read as text: {error}") from None

    def _event(self, number: int, line: bytes) -> Event:
        try:
            return from_json(self._object(number, line))
        except HistoryError as error:
            prefix = "" if str(error).startswith(str(self.path)) else f"{self.path}, line {number}: "
            raise HistoryError(f"{prefix}{error}") from None

    def _object(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            data = decode(line)
        except UnicodeDecodeError as error:
            raise HistoryError(f"{self.path} cannot be read as text: line {number}: {error}") from None
        except ValueError as error:
            raise HistoryError(f"{self.path}, line {number}: not JSON ({error}): {_shown(line)}") from None
        if not isinstance(data, dict):
            raise HistoryError(f"{self.path}, line {number}: expected a JSON object, got {_shown(line)}")
        return data


def _copied(path: Path) -> IO[bytes]:
    copy: IO[bytes] = tempfile.NamedTemporaryFile(prefix="anechoic-")  # noqa: SIM115 - gone with whoever reads it
    with path.open("rb") as pipe:
        shutil.copyfileobj(pipe, copy)
    copy.flush()
    return copy


def _shown(line: bytes) -> str:
    return repr(line.decode("utf-8", "replace").rstrip()[:80])


def read(path: Path) -> tuple[dict[str, Any], list[Event], str | None]:
    """Read a history file whole: (header, events, warning). Raises HistoryError as `HistoryFile` does."""
    file = HistoryFile(path)
    events = list(file)
    return file.header, events, file.warning
