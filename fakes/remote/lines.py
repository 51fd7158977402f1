"""One connection of JSON lines: what both ends of the tie between a fake and the harness speak."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

from fakes.encoding import encode

LONGEST = 16 * 1024 * 1024
"""Bytes of one line at most."""


class BadLine(ValueError):
    """The other end sent something that is no JSON object in one line."""


class Lines:
    """Objects in, objects out, in order. Iterating ends when the other end closes, or is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    async def connect(cls, host: str, port: int) -> Lines:
        """Connect to whoever listens there. Raises OSError."""
        return cls(*await asyncio.open_connection(host, port, limit=LONGEST))

    def send(self, **line: Any) -> None:
        """Send one object. It leaves at once; where the other end is gone it is lost, and iterating tells."""
        if not self._writer.is_closing():
            self._writer.write(encode(line) + b"\n")

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (line := await self.next()) is not None:
            yield line

    async def next(self) -> dict[str, Any] | None:
        """The next object, None at the end. Raises BadLine."""
        try:
            text = await self._reader.readline()
        except (ConnectionError, OSError):
            return None
        except ValueError:
            raise BadLine(f"a line is longer than {LONGEST} bytes") from None
        if not text.endswith(b"\n"):
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BadLine(f"a line is not JSON ({error}): {text[:80]!r}") from None
        if not isinstance(data, dict):
            raise BadLine(f"a line is no JSON object: {text[:80]!r}")
        return data

    async def aclose(self) -> None:
        """Close the connection; what was sent still leaves. Safe to call twice."""
        self._writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await self._writer.wait_closed()
