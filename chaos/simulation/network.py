"""The simulated network: edges between instances and fakes, the messages on them, and what befalls these.

A message takes a moment, drawn from the seed, each way. A request that has left goes its way even when its sender is gone,
and the fake that handles it never notices.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from chaos.simulation.errors import SimulationError
from chaos.simulation.loop import VirtualLoop
from chaos.simulation.pieces import Incoming
from chaos.simulation.toxics import NEVER, Toxic
from fakes.exchange import Cut, Reply, Stream

Handle = Callable[[Any], Awaitable[Any]]
"""Takes what is sent over an edge, returns what comes back; both have a `body` in bytes, which toxics measure.

A reply's `stream` arrives at the client as an `Incoming`.
"""
Mischief = Literal["lose_request", "lose_reply", "delay", "duplicate", "reorder", "no_connect"]
OVERHEAD = 200
"""Bytes of a message beside its body, for toxics that count them."""


class NotConnected(Exception):
    """There was no connection: the request has not left."""


class ConnectionLost(Exception):
    """The connection ended before an answer came; the request may have arrived."""


class NoAnswerInTime(ConnectionLost):
    """No answer came in time; the request may have arrived."""


@dataclasses.dataclass(slots=True, eq=False)
class Trouble:
    """A fault on an edge for the next `left` messages."""

    what: Mischief
    left: int
    seconds: float
    note: Callable[[str], None] = lambda detail: None


@dataclasses.dataclass(slots=True, eq=False)
class Exchange:
    """One request under way, and the future that its sender waits for."""

    request: Any
    answered: asyncio.Future[Any]
    broken: bool = False
    trouble: Trouble | None = None
    swallowed_by: Toxic | None = None
    incoming: Incoming | None = None


class Edge:
    """One edge of one instance (or of all): a way to `handle`.

    Args:
        name: assistants, tool-gateway, tool-results or llm.
        instance: whose edge it is.
        latency: shortest and longest time of one message, in seconds.
    """

    def __init__(
        self, name: str, instance: str | None, handle: Handle, *, loop: VirtualLoop, seed: int, latency: tuple[float, float]
    ) -> None:
        self.name = name
        self.instance = instance
        self.label = f"{name}-{instance}" if instance else name
        self.down = 0
        self.toxics: list[Toxic] = []
        self.troubles: list[Trouble] = []
        self._handle = handle
        self._loop = loop
        self._low, self._spread = latency[0], latency[1] - latency[0]
        self._seed = seed
        self._context = contextvars.Context()
        self._under_way: dict[Exchange, None] = {}
        self._held: list[Callable[[], None]] = []

    @functools.cached_property
    def _dice(self) -> random.Random:
        return random.Random(f"{self._seed}/edge/{self.label}")

    def send(self, request: Any) -> asyncio.Future[Any]:
        """Send a request; the future brings the reply, or ConnectionLost. Raises NotConnected at once."""
        if self.down:
            raise NotConnected(f"{self.label} refuses connections")
        exchange = Exchange(request, self._loop.create_future())
        self._under_way[exchange] = None
        if self.troubles:
            exchange.trouble = self._next_trouble()
        self._travel(exchange, "upstream", len(request.body), self._arrive)
        return exchange.answered

    async def connect(self) -> None:
        """Have a connection; does not return while a fault keeps it from being made."""
        if self.troubles and self.troubles[0].what == "no_connect":
            trouble = self.troubles[0]
            self._use(trouble)
            trouble.note(f"a connection to {self.label} was not made")
            await asyncio.sleep(trouble.seconds)

    async def ask(self, request: Any, timeout: float | None) -> Any:
        """Send a request and wait for its reply. Raises NotConnected, ConnectionLost or NoAnswerInTime (seconds)."""
        answered = self.send(request)
        if timeout is None:
            return await answered
        timer = self._loop.call_later(timeout, _give_up, answered, timeout)
        try:
            return await answered
        finally:
            timer.cancel()

    def take_down(self) -> None:
        """Refuse every connection, and break those that are there."""
        self.down += 1
        self.break_all()

    def bring_up(self) -> None:
        """Take connections again, once every outage is over."""
        self.down -= 1

    def break_all(self) -> None:
        """Break every connection that is there: what is under way is lost."""
        for exchange in list(self._under_way):
            self._break(exchange, f"the connection over {self.label} was reset")

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic away; the connections that it kept silent are closed."""
        self.toxics.remove(toxic)
        for exchange in list(self._under_way):
            if exchange.swallowed_by is toxic:
                self._break(exchange, f"the connection over {self.label} was closed")

    # --- a message on its way -------------------------------------------------------------------------------------------

    def _travel(self, exchange: Exchange, stream: str, size: int, arrive: Callable[..., None], *args: Any) -> None:
        delay = self._low + self._spread * self._dice.random()
        if not (self.toxics or self._held or exchange.trouble):
            self._loop.call_later(delay, arrive, exchange, *args, context=self._context)
            return
        for toxic in self.toxics:
            if toxic.stream != stream:
                continue
            fate = toxic.fate(size + OVERHEAD, self._dice)
            if fate.lost:
                exchange.swallowed_by = toxic
                if fate.delay < NEVER:
                    self._later(delay + fate.delay, self._break, exchange, f"the connection over {self.label} was reset")
                return
            delay += fate.delay
        if exchange.trouble is not None:
            self._disturb(exchange, exchange.trouble, stream, delay, arrive, *args)
            return
        self._later(delay, arrive, exchange, *args)
        if self._held and stream == "upstream":
            self._let_overtaken_go(delay)

    def _later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        self._loop.call_later(delay, callback, *args, context=self._context)

    def _arrive(self, exchange: Exchange) -> None:
        if not exchange.broken:
            self._loop.create_task(self._serve(exchange), context=self._context)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            reply = await self._handle(exchange.request)
        except Cut:
            self._later(self._low, self._break, exchange, "the server closed the connection without an answer")
        except ConnectionLost as error:
            self._break(exchange, str(error))
        except NotConnected as error:
            self._later(self._low, self._break, exchange, str(error))
        except Exception as error:
            self._loop.doom = self._loop.doom or _broken_fake(self.label, error)
            raise
        else:
            if isinstance(reply, Reply) and reply.stream is not None:
                await self._serve_pieces(exchange, reply, reply.stream)
            elif not exchange.broken:
                self._travel(exchange, "downstream", len(reply.body), self._deliver, reply)

    async def _serve_pieces(self, exchange: Exchange, reply: Reply, stream: Stream) -> None:
        incoming = exchange.incoming = Incoming(lambda: self._later(self._low, stream.leave))
        if not exchange.broken:
            self._travel(exchange, "downstream", 0, self._deliver, dataclasses.replace(reply, stream=incoming))
            exchange.trouble = None  # it befalls the reply once
        number, end = 0, self._last_piece
        try:
            async for piece in stream:
                if exchange.broken:
                    stream.leave()
                else:
                    self._travel(exchange, "downstream", len(piece), self._piece, number, piece)
                    number += 1
        except Cut:
            end = self._cut_off
        if not exchange.broken:
            self._travel(exchange, "downstream", 0, end, number)

    def _piece(self, exchange: Exchange, number: int, piece: bytes) -> None:
        assert exchange.incoming is not None
        exchange.incoming.arrive(number, piece)

    def _last_piece(self, exchange: Exchange, number: int) -> None:
        self._under_way.pop(exchange, None)
        assert exchange.incoming is not None
        exchange.incoming.arrive(number, None)

    def _cut_off(self, exchange: Exchange, number: int) -> None:
        self._break(exchange, f"the server closed the connection over {self.label} in the middle of its answer")

    def _deliver(self, exchange: Exchange, reply: Any) -> None:
        if exchange.incoming is None:
            self._under_way.pop(exchange, None)
        if not exchange.broken and not exchange.answered.done():
            exchange.answered.set_result(reply)
        elif exchange.incoming is not None:
            exchange.incoming.leave()

    def _break(self, exchange: Exchange, reason: str) -> None:
        self._under_way.pop(exchange, None)
        exchange.broken = True
        if not exchange.answered.done():
            exchange.answered.set_exception(ConnectionLost(reason))
        if exchange.incoming is not None:
            exchange.incoming.fail(ConnectionLost(reason))

    # --- mischief -------------------------------------------------------------------------------------------------------

    def _next_trouble(self) -> Trouble | None:
        trouble = next((t for t in self.troubles if t.what != "no_connect"), None)
        if trouble is not None:
            self._use(trouble)
        return trouble

    def _use(self, trouble: Trouble) -> None:
        trouble.left -= 1
        if trouble.left < 1:
            self.troubles.remove(trouble)

    def _disturb(
        self, exchange: Exchange, trouble: Trouble, stream: str, delay: float, arrive: Callable[..., None], *args: Any
    ) -> None:
        what, up = trouble.what, stream == "upstream"
        said = f"{'request' if up else 'reply'} over {self.label}"
        if what == ("lose_request" if up else "lose_reply"):
            trouble.note(f"{said} lost")
            self._later(delay + trouble.seconds, self._break, exchange, f"the connection over {self.label} was lost")
            return
        if what == "reorder" and up:
            trouble.note(f"{said} held until the next one has passed")
            self._hold(trouble.seconds, lambda: self._later(0.0, arrive, exchange, *args))
            return
        if what == "delay" and up:
            trouble.note(f"{said} delayed by {trouble.seconds:g} s")
            delay += trouble.seconds
        if what == "duplicate" and up:
            trouble.note(f"{said} delivered twice")
            self._later(delay + trouble.seconds, self._arrive, Exchange(exchange.request, self._loop.create_future()))
        self._later(delay, arrive, exchange, *args)

    def _hold(self, seconds: float, go: Callable[[], None]) -> None:
        def once() -> None:
            if once in self._held:
                self._held.remove(once)
                go()

        self._held.append(once)
        self._later(seconds, once)

    def _let_overtaken_go(self, delay: float) -> None:
        for go in list(self._held):
            self._later(delay + self._low, go)


class Network:
    """All edges, found by the address that an instance is given for each.

    Args:
        wall: unix time, in seconds, of what is behind them.
    """

    def __init__(self, loop: VirtualLoop, *, seed: int, latency: tuple[float, float], wall: Callable[[], float]) -> None:
        self.edges: list[Edge] = []
        self._loop = loop
        self._seed = seed
        self._latency = latency
        self.wall = wall
        self._by_address: dict[tuple[str, int], Edge] = {}

    def open(self, name: str, instance: str | None, handle: Handle) -> str:
        """A new edge; the host:port at which it is found."""
        edge = Edge(name, instance, handle, loop=self._loop, seed=self._seed, latency=self._latency)
        port = 20_001 + len(self.edges)
        self.edges.append(edge)
        self._by_address["127.0.0.1", port] = edge
        return f"127.0.0.1:{port}"

    def find(self, host: str, port: int) -> Edge:
        """The edge at an address. Raises NotConnected that names what there is."""
        edge = self._by_address.get((host, port))
        if edge is None:
            there = ", ".join(f"{h}:{p} ({e.label})" for (h, p), e in self._by_address.items())
            raise NotConnected(f"nothing listens at {host}:{port} in this simulation; there are {there}")
        return edge

    def chosen(self, name: str, instance: str | None) -> list[Edge]:
        """The edges of one name, those of one instance where one is given."""
        return [e for e in self.edges if e.name == name and (instance is None or e.instance in (None, instance))]


def _give_up(answered: asyncio.Future[Any], seconds: float) -> None:
    if not answered.done():
        answered.set_exception(NoAnswerInTime(f"no answer within {seconds:g} s"))


def _broken_fake(label: str, error: Exception) -> SimulationError:
    return SimulationError(f"what is behind {label} failed: {type(error).__name__}: {error}")
