"""Kinship: which events of a history have to be judged together, found without holding the history.

Every event has one node: its conversation, or where it has none, the id that it is about. Events of different nodes are kin
when they name the same id, since a check may follow it from the one to the other: a turn, run, call, key, request, submit,
nonce, an external id that an output quotes, or (where one of them has no conversation) the same arguments of the same tool.

To be taken for kin without need costs balance, never exactness. So ids are hashed, and what is found is a little too much
rather than too little.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any

from contracts.disturbances import SHARED as EVERYBODYS
from contracts.index import words_of
from fakes import history as h
from fakes.faults import FAKE_FAULTS

SHARED, NOBODYS, OTHER = 0, 1, 2
"""Nodes of events that every part of the history needs, of those that no check reads, and one of any others."""
RECENT = 1 << 16
"""So many ids are remembered with their node: polls repeat them over and over."""
BLOCK = 1 << 13
BYTES = array("q").itemsize


def nameless() -> IO[bytes]:
    """A temporary file without a name, gone when it is closed, whatever closes it."""
    return tempfile.TemporaryFile(prefix="anechoic-")


class Column:
    """Many whole numbers of 64 bits on disk, in a file without a name: written once, then read in order."""

    def __init__(self, stack: ExitStack) -> None:
        self._file: IO[bytes] = stack.enter_context(nameless())
        self._block = array("q")

    def add(self, number: int, other: int) -> None:
        """Append a pair."""
        self._block.append(number)
        self._block.append(other)
        if len(self._block) >= BLOCK:
            self._block.tofile(self._file)
            self._block = array("q")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self._block.tofile(self._file)
        self._block = array("q")
        self._file.seek(0)
        while data := self._file.read(BLOCK * BYTES):
            pairs = iter(array("q", data))
            yield from zip(pairs, pairs, strict=True)


class Kinship:
    """Takes the events of a history in order, then tells for each node to which kin it belongs.

    Memory holds one share of all ids at a time, and of the nodes only those that have kin.

    Args:
        shares: in how many shares the ids are gone through; each has two files open.
    """

    def __init__(self, stack: ExitStack, shares: int) -> None:
        self._named = [Column(stack) for _ in range(shares)]
        self._asked = [Column(stack) for _ in range(shares)]
        self._recent: dict[int, int] = {}
        self._elder: dict[int, int] = {}
        self._all_kin = False

    def add(self, event: h.Event) -> int:
        """Note the ids of an event; its node.

        Where an event has something else in the place of its ids, the whole history is one kin.
        """
        try:
            return self._node(event)
        except (TypeError, AttributeError):
            self._all_kin = True
            return OTHER

    def _node(self, event: h.Event) -> int:
        ids = _IDS.get(type(event))
        conversation = event.conversation
        if ids is None:
            shared = type(event) in _OF_THE_RUN or (type(event) in _FAULTS and not _local(event))
            return SHARED if shared else NOBODYS if conversation is None else _number("conversation", conversation)
        named = list(ids(event))
        node = _number("conversation", conversation) if conversation is not None else named[0]
        for number in named:
            self._name(number, node)
        for tool, arguments in _arguments(event):
            number = _number("arguments", tool, arguments)
            (self._ask if conversation else self._name)(number, node)
        if isinstance(event, h.EffectCommitted):
            self._name(_number("external", event.external_id), node)
        elif isinstance(event, h.SubmitAccepted) and not event.repeat:
            for output in event.outputs:
                for word in words_of(output.output):
                    self._ask(_number("external", word), node)
        return node

    def settle(self) -> None:
        """All events were added: find who is kin."""
        self._recent.clear()
        for named, asked in zip(self._named, self._asked, strict=True):
            first: dict[int, int] = {}
            for number, node in named:
                if (known := first.setdefault(number, node)) != node:
                    self._unite(known, node)
            for number, node in asked:
                if (known := first.get(number, node)) != node:
                    self._unite(known, node)

    def of(self, node: int) -> int:
        """The node that stands for all the kin of this one."""
        if self._all_kin:
            return 0
        eldest = node
        while (above := self._elder.get(eldest)) is not None:
            eldest = above
        while node != eldest:
            self._elder[node], node = eldest, self._elder[node]
        return eldest

    def _unite(self, one: int, other: int) -> None:
        one, other = self.of(one), self.of(other)
        if one != other:
            self._elder[other] = one

    def _name(self, number: int, node: int) -> None:
        """The node has this id: so it is kin to every other one that has it."""
        if self._recent.get(number) != node:
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[number] = node
            self._named[number % len(self._named)].add(number, node)

    def _ask(self, number: int, node: int) -> None:
        """The node is kin to those that have this id, if there are any."""
        self._asked[number % len(self._asked)].add(number, node)


def _number(*words: object) -> int:
    number = hash(words)
    return number if number not in (SHARED, NOBODYS) else OTHER


def _local(event: Any) -> bool:
    """Whether a fault is about one conversation only (as `contracts.disturbances.Fault.local`)."""
    return event.conversation is not None and event.fault in FAKE_FAULTS and event.fault not in EVERYBODYS


def _turn(e: Any) -> Iterator[int]:
    yield _number("turn", e.turn_id)


def _run(e: Any) -> Iterator[int]:
    yield _number("run", e.run_id)
    if getattr(e, "turn_id", None) is not None:
        yield _number("turn", e.turn_id)


def _asking(e: h.ActionRequired) -> Iterator[int]:
    yield from _run(e)
    for call in e.calls:
        yield _number("call", call.tool_call_id)
        if call.nonce is not None:
            yield _number("nonce", call.tool, call.nonce)


def _told(e: h.RunTold) -> Iterator[int]:
    yield _number("run", e.run_id)
    for call in e.waiting_for:
        yield _number("call", call)


def _submit(e: Any) -> Iterator[int]:
    yield _number("submit", e.submit_id)
    yield _number("run", e.run_id)
    for output in getattr(e, "outputs", ()):
        yield _number("call", output.tool_call_id)


def _request(e: Any) -> Iterator[int]:
    """A key is looked for among the calls too, so it is one kind of id with them."""
    yield _number("request", e.request_id)
    for call in (e.tool_call_id, getattr(e, "key", None)):
        if call is not None:
            yield _number("call", call)
    if getattr(e, "run_id", None) is not None:
        yield _number("run", e.run_id)
    if e.nonce is not None:
        yield _number("nonce", e.tool, e.nonce)


def _post(e: h.CallbackPosted) -> Iterator[int]:
    yield _number("request", e.request_id)


def _doubt(e: h.InDoubtReported) -> Iterator[int]:
    yield _number("call", e.tool_call_id)


def _arguments(event: h.Event) -> Iterator[tuple[str, str]]:
    if isinstance(event, h.ActionRequired):
        for call in event.calls:
            yield call.tool, call.payload_hash
    elif isinstance(event, h.ToolRequested | h.EffectCommitted):
        yield event.tool, event.payload_hash


_IDS: dict[type[h.Event], Callable[[Any], Iterator[int]]] = {
    h.TurnPlanned: _turn,
    h.TurnSent: _turn,
    h.TurnEnded: _turn,
    h.RunCreated: _run,
    h.ActionRequired: _asking,
    h.RunTold: _told,
    h.SubmitReceived: _submit,
    h.SubmitAccepted: _submit,
    h.SubmitRefused: _submit,
    h.RunEnded: _run,
    h.ToolRequested: _request,
    h.EffectCommitted: _request,
    h.ToolReplied: _request,
    h.CallbackPosted: _post,
    h.InDoubtReported: _doubt,
}
_FAULTS = (h.FaultIntended, h.FaultInjected)
_OF_THE_RUN = (
    h.InstanceStarted, h.InstanceReady, h.InstanceExited, h.FaultHealed, h.FaultFailed, h.BudgetEnded, h.QuiesceStarted,
    h.QuiesceEnded, h.RunInterrupted,
)
