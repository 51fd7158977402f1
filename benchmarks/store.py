"""What claims cost on Redis: round trips to the store per tool call, in a healthy run, counted by the server itself.

    python -m benchmarks.store [--turns 100] [--seed 1]

Three layers run the same turns on the wire: `hardened`, the same without claims, and `as_deployed`. The server's MONITOR names
every command that came in, and a command or script is one round trip. A figure is the slope between so many turns and twice as
many, so that starting up costs nothing in it. The bytes are those that the proxies before the store have counted. Needs a
redis-server (scripts/redis); exit 3 without one. Exit 1 when the target is missed: at most 1 round trip per call for its claim,
and no more than that between the layers with and without claims, where nothing depends on how long a poll or a tool takes.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
import threading
from collections import Counter

import redis.asyncio

from benchmarks.common.figures import ABSENT, Figure, command_line, finish
from benchmarks.common.processes import python
from chaos.turns import make
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import Coordinator, Settings, by_name
from chaos.wire.store import program
from contracts import judge
from coordinators.as_deployed.redis_store import RedisStore as DeployedStore
from coordinators.common.assistants import Run
from coordinators.common.process import main as serve
from coordinators.common.stores import Address
from coordinators.hardened.coordinator import Coordinator as Conductor
from coordinators.hardened.records import Asked, Claim, Turn
from coordinators.hardened.redis_store import RedisStore
from coordinators.hardened.service import Hardened
from coordinators.mutants.variant import app
from fakes.gateway.profile import PROFILES
from fakes.history import EffectCommitted, of_kind

CLAIM = "claim, or dedup record"
ROWS = {
    CLAIM: ("claim", "log_intent", "HGETALL claim", "SET dedup"),
    "result stored": ("settle", "settle_call", "HSETNX claim", "enqueue"),
    "step: begun, submitted, done": ("SISMEMBER accepted", "freeze", "SADD accepted", "HSET step", "HSET state", "submitted"),
    "turn: taken, changed": ("accept", "change"),
    "looks for results": ("outcomes", "HEXISTS claim", "take_batch"),
    "looks at owner and turn": ("check_owner", "HGETALL turn"),
    "lease": ("HINCRBY beats", "beats", "SMEMBERS held", "take_over", "retake", "register", "release"),
}
"""What a script, or a command and the kind of its key, is for."""
OTHER = "connecting, new scripts"
TIMED = ("looks for results", "looks at owner and turn", "lease")
"""Rows that grow with the time that polls and tools take, not with the calls alone."""
SEEN = re.compile(rb'^\+[\d.]+ \[\d+ (\S+)\] "(\w+)" ?(?:"((?:[^"\\]|\\.)*)")?')


class AskedById(Asked):
    """A call whose result is found by its ids alone, since nothing was stored when it was sent."""

    @property
    def slot(self) -> str:
        return f"{self.run_id}/{self.call.id}"


class UnclaimedConductor(Conductor):
    """Asks for calls by their ids."""

    def asked(self, run: Run, step_id: str, ordinal: int) -> list[Asked]:
        return [
            AskedById(thread_id=run.thread_id, run_id=run.id, step_id=step_id, ordinal=ordinal, position=position, call=call)
            for position, call in enumerate(run.calls)
        ]


class UnclaimedStore(RedisStore):
    """Takes results and outputs as before, and no claims: whoever asks may send. Good for healthy runs only."""

    async def claim(self, turn: Turn, asked: Asked, now: float, claimant: str) -> tuple[Claim, bool]:
        claim = Claim(
            slot=asked.slot, thread_id=asked.thread_id, run_id=asked.run_id, step_id=asked.step_id, ordinal=asked.ordinal,
            position=asked.position, tool_call_id=asked.call.id, tool=asked.call.name, arguments=asked.call.arguments,
            attempt=1, first_sent=now, output=None, in_doubt=False, waited=0.0, claimant=claimant,
        )
        return claim, True

    async def settle(self, slot: str, output: str) -> None:
        await self._db.write("HSETNX", self._key("claim", slot), "output", output)

    async def settle_call(self, run_id: str, tool_call_id: str, thread_id: str | None, output: str) -> str | None:
        slot = f"{run_id}/{tool_call_id}"
        await self.settle(slot, output)
        return slot


class Unclaimed(Hardened):
    """The hardened layer without its claims."""

    store_class = UnclaimedStore
    coordinator_class = UnclaimedConductor


class Monitor:
    """Counts the commands that a Redis takes from clients, from now until that server ends: by script, or command and key."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self.counts: Counter[str] = Counter()
        stores = (RedisStore(Address("redis://nowhere")), DeployedStore(Address("redis://nowhere")))
        self.scripts = 0
        self._names = {sha: name for store in stores for name, (sha, _) in store._db._scripts.items()}
        self._lines = socket.create_connection((host, int(port))).makefile("rwb")
        self._lines.write(b"MONITOR\r\n")
        self._lines.flush()
        assert self._lines.readline() == b"+OK\r\n"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until all is counted; the server has ended by now."""
        self._thread.join(10)
        self._lines.close()

    def _read(self) -> None:
        for line in self._lines:
            seen = SEEN.match(line)
            if seen and seen[1] != b"lua":  # what a script does inside is no round trip
                word, key = seen[2].decode().upper(), (seen[3] or b"").decode()
                self.scripts += word in ("EVALSHA", "EVAL")
                name = "EVAL" if word == "EVAL" else f"{word} {key.partition(':')[0]}".strip()
                self.counts[self._names[key] if word == "EVALSHA" else name] += 1


async def scripts_run(chamber: Chamber) -> int:
    """How many scripts the server says that it was asked for."""
    client = redis.asyncio.Redis.from_url(f"redis://{chamber.world.store.upstream}")
    stats = await client.info("commandstats")
    await client.aclose()
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


async def store_bytes(chamber: Chamber) -> int:
    """The bytes, both ways, that the store's proxies have passed on."""
    async with chamber.http.get(f"{chamber.toxiproxy_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(line.split()[-1]) for line in lines if "sent_bytes_total{" in line and "-store-" in line)


async def run(layer: Coordinator, seed: int, turns: int) -> tuple[int, Counter[str], int]:
    """One healthy run: its tool calls, its round trips by name, and its bytes. Raises WireError unless it passed."""
    settings = Settings(coordinator=layer, gateway=PROFILES["keyed"], seed=seed, store="redis", tool_timeout=5.0)
    async with Chamber(settings) as chamber:
        upstream = chamber.world.store.upstream
        assert upstream is not None
        monitor = Monitor(upstream)
        scripts, before = await scripts_run(chamber), await store_bytes(chamber)
        await chamber.run([make(seed, number) for number in range(turns)])
        await chamber.quiesce()
        scripts, passed = await scripts_run(chamber) - scripts, await store_bytes(chamber) - before
    monitor.close()
    verdict = judge(chamber.history.events, PROFILES["keyed"]).verdict
    if str(verdict) != "pass":
        raise WireError(f"{layer.label} did not pass a healthy run: {verdict}")
    if monitor.scripts < scripts:
        raise WireError(f"MONITOR has shown {monitor.scripts} scripts only, and the server has counted {scripts}")
    return sum(1 for _ in of_kind(chamber.history.events, EffectCommitted)), monitor.counts, passed


async def slope(layer: Coordinator, seed: int, turns: int) -> dict[str, float]:
    """What one more call costs: round trips by row, and bytes."""
    (few, fewer, light), (many, more, heavy) = await run(layer, seed, turns), await run(layer, seed, 2 * turns)
    calls = many - few
    rows = {row: sum(more[name] - fewer[name] for name in names) / calls for row, names in ROWS.items()}
    known = {name for names in ROWS.values() for name in names}
    rows[OTHER] = sum(more[name] - fewer[name] for name in more | fewer if name not in known) / calls
    print(f"{layer.label}: {few} and {many} calls", flush=True)
    return {**rows, "bytes": (heavy - light) / calls}


async def compare(seed: int, turns: int, together: bool) -> list[Figure]:
    """Measure and print the table; the layers take turns, unless they may disturb each other."""
    layers = (
        by_name("hardened"),
        Coordinator("without claims", python("benchmarks.store", "--role", "unclaimed")),
        by_name("as_deployed"),
    )
    slopes = [slope(layer, seed, turns) for layer in layers]
    done = await asyncio.gather(*slopes) if together else [await one for one in slopes]
    found = {layer.label: rows for layer, rows in zip(layers, done, strict=True)}
    print(f"\n{'round trips per tool call':32}" + "".join(f"{name:>16}" for name in found))
    for row in (*ROWS, OTHER):
        print(f"{row + (' *' if row in TIMED else ''):32}" + "".join(f"{rows[row]:16.2f}" for rows in found.values()))
    print(f"{'bytes through the proxies':32}" + "".join(f"{rows['bytes']:16,.0f}" for rows in found.values()))
    print("* grows with the time that polls and tools take, too\n")
    steady = {name: sum(rows[row] for row in ROWS if row not in TIMED) for name, rows in found.items()}
    added = steady["hardened"] - steady["without claims"]
    unit = "round trips per tool call"
    return [
        Figure("hardened: its claim", round(found["hardened"][CLAIM], 2), unit, at_most=1),
        Figure("hardened: more than without claims", round(added, 2), unit, at_most=1),
        *(Figure(f"{name}: all", sum(rows[row] for row in (*ROWS, OTHER)), unit) for name, rows in found.items()),
        *(Figure(f"{name}: through the proxies", rows["bytes"], "bytes per tool call") for name, rows in found.items()),
    ]


def main() -> int:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--turns", type=int, help="of the shorter run (default 100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["unclaimed"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        return serve(app(Unclaimed))
    try:
        program()
    except WireError as error:
        print(error, file=sys.stderr)
        return ABSENT
    try:
        found = asyncio.run(compare(given.seed, given.turns or (3 if given.quick else 100), together=given.quick))
    except WireError as error:
        print(error, file=sys.stderr)
        return 2
    return finish(given, found)


if __name__ == "__main__":
    sys.exit(main())
