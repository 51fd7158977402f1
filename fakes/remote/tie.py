"""The harness, as a fake in another process sees it.

    harness -> fake   {"do": "begin", "token", "settings"}   {"do": "faults", "n", "faults": [{"id", "name", "args"}]}
                      {"do": "befall", "id", "fault", "run_id", "conversation"}   {"do": "replica", "name", "life", "url"}
    fake -> harness   {"is": "begun", "ports", ...}   {"is": "refused", "reason"}   {"is": "event", "event"}   {"is": "at", "n"}
                      {"is": "injected", "id", "detail"}   {"is": "befallen", "id", "error"}   {"is": "log", "line"}

Every event leaves when it is recorded, so the harness has it before anybody is told what it is about. `n` counts the events of
one connection from 1: the fake's own history numbers them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.faults import Fault
from fakes.history import Event, History, to_json
from fakes.remote.lines import Lines


class Tie:
    """The fake's end of the connection, and its nemesis: it asks the harness, and goes on when that has answered."""

    def __init__(self, lines: Lines, history: History) -> None:
        self._lines = lines
        self._asked: dict[int, asyncio.Future[Sequence[Fault]]] = {}
        self._cut = False
        history.subscribe(lambda event: lines.send(**{"is": "event", "event": to_json(event)}))

    async def at(self, event: Event) -> Sequence[Fault]:
        """What happens at `event` (see `fakes.faults.Nemesis`); nothing when the harness is gone."""
        if self._cut:
            return ()
        answer: asyncio.Future[Sequence[Fault]] = asyncio.get_running_loop().create_future()
        self._asked[event.seq] = answer
        self._lines.send(**{"is": "at", "n": event.seq})
        return await answer

    def answered(self, line: Mapping[str, Any]) -> None:
        """The harness' answer to `at`."""
        answer = self._asked.pop(line["n"], None)
        if answer is not None and not answer.done():
            answer.set_result([self.fault(given) for given in line["faults"]])

    def fault(self, given: Mapping[str, Any]) -> Fault:
        """A fault that the harness asked for."""

        def injected(detail: str | None) -> None:
            self._lines.send(**{"is": "injected", "id": given["id"], "detail": detail})

        return Fault(given["name"], given["args"], injected)

    def log(self, line: str) -> None:
        """A line of the fake's log, for the harness' report."""
        self._lines.send(**{"is": "log", "line": line})

    def cut(self) -> None:
        """The harness is gone: whoever waits for its answer goes on without a fault."""
        self._cut = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(())
        self._asked.clear()
