"""A small chamber for the reference coordinators: several instances, the real fakes, one thread, virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import selectors
import sqlite3
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import httpx
import pytest
from redis.asyncio import Redis

from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.exchange import Cut, Request
from fakes.faults import Fault
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.gateway.profile import PROFILES
from fakes.history import EffectCommitted, Event, History, SubmitAccepted, SubmitReceived, ToolRequested
from fakes.ids import Ids
from fakes.llm.brain import complete
from fakes.script import TOOLS, Script, ScriptedCall

INSTANCE: contextvars.ContextVar[str | None] = contextvars.ContextVar("instance", default=None)
START = 1_773_310_000.0


class _Selector(selectors.SelectSelector):
    """Instead of waiting, time passes."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.loop.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, in which what belongs to one instance can be paused."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paused: dict[str, list[tuple[Any, Any, contextvars.Context]]] = {}
        self.owners: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        context = context or contextvars.copy_context()
        return super().call_soon(self._run, context.get(INSTANCE), callback, args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        context = context or contextvars.copy_context()
        return super().call_at(when, self._run, context.get(INSTANCE), callback, args, context=context)

    def _run(self, instance: str | None, callback: Any, args: Any) -> None:
        if instance in self.paused:
            self.paused[instance].append((callback, args, contextvars.copy_context()))
        else:
            callback(*args)

    def create_task(self, work: Any, *, context: Any = None, **more: Any) -> Any:
        context = context or contextvars.copy_context()
        task = super().create_task(work, context=context, **more)
        self.owners[task] = context.get(INSTANCE)
        return task

    def resume(self, instance: str) -> None:
        for callback, args, context in self.paused.pop(instance, []):
            self.call_soon(callback, *args, context=context)


@dataclasses.dataclass
class Rule:
    """At the nth event of a kind (1: the first; 0: at each), a fault of the fakes, or a call of `do`."""

    kind: str
    fault: str | None = None
    args: dict[str, Any] = dataclasses.field(default_factory=dict)
    nth: int = 1
    do: Callable[[Event], Awaitable[None]] | None = None
    when: Callable[[Event], bool] = lambda event: True
    seen: int = 0
    fired: int = 0


class Instance:
    """One instance of a coordinator, in its own context."""

    def __init__(self, chamber: Chamber, name: str) -> None:
        self.chamber = chamber
        self.name = name
        self.alive = False
        self.log: list[str] = []
        self.life = 0

    async def start(self) -> None:
        self.life += 1
        self.alive = True
        self.app = self.chamber.create_app(
            self.chamber.environ(self.name), transport=Wires(self), clock=self.chamber.clock, sink=self.log.append
        )
        await self._inside(self.app.service.start())

    async def stop(self) -> None:
        await self._inside(self.app.service.stop())
        self.alive = False

    def crash(self) -> None:
        """Nothing of it runs any more; the store keeps what it was told."""
        self.alive = False
        for task, owner in list(self.chamber.loop.owners.items()):
            if owner == self.name:
                task.cancel()
        store = self.app.service.store  # the system would close the dead process' file; nothing is written by that
        self.chamber.loop.create_task(store.close(), context=self.chamber.outside)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        if not self.alive:
            raise ConnectionRefusedError(self.name)
        return await self._inside(self._call(method, path, body))

    async def _inside(self, work: Any) -> Any:
        context = contextvars.copy_context()
        context.run(INSTANCE.set, self.name)
        return await asyncio.get_running_loop().create_task(work, context=context)

    async def _call(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(body).encode() if body is not None else b""}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app({"type": "http", "method": method, "path": path}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


class Wires(httpx.AsyncBaseTransport):
    """What an instance sends goes straight to the fakes."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        chamber = self.instance.chamber
        if request.url.host.startswith("coordinator"):
            status, data = await chamber.instances[request.url.host].call("POST", request.url.path, json.loads(request.content))
            return httpx.Response(status, json=data)
        endpoint = chamber.assistants if request.url.host == "assistants" else chamber.gateway
        if chamber.refuse(self.instance.name, request.url.host):
            raise httpx.ConnectError("refused")
        asked = Request(
            request.method, request.url.path, dict(request.url.params), dict(request.headers), request.content, self.instance.name
        )
        task = asyncio.get_running_loop().create_task(endpoint.handle(asked), context=chamber.outside)
        done, _ = await asyncio.wait([task], timeout=request.extensions["timeout"]["read"])
        if not done:
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            raise httpx.ReadTimeout("too late")
        try:
            reply = task.result()
        except Cut:
            raise httpx.RemoteProtocolError("cut") from None
        return httpx.Response(reply.status, content=reply.body, headers=dict(reply.headers))


class Chamber:
    """The fakes, the instances and the rules of one test; `run` drives turns until all have ended."""

    def __init__(
        self, create_app: Any, store: SqliteFile | RedisServer, profile: str = "keyless", rules: tuple[Rule, ...] = (), **more: Any
    ) -> None:
        self.create_app = create_app
        self.store = store
        self.rules = list(rules)
        self.more = {name.upper(): str(value) for name, value in more.items()}
        self.loop = VirtualLoop()
        self.outside = contextvars.copy_context()
        self.refuse: Callable[[str, str], bool] = lambda instance, host: False
        self.history = History(clock=self.clock)
        ids = Ids(1, "test")
        core = Core(self.clock, ids)
        self.assistant_id = core.create_assistant({"model": "m", "tools": list(TOOLS)}).id
        self.assistants = AssistantsEndpoint(core, self.history, self, self._generate)
        self.gateway = GatewayEndpoint(
            GatewayCore(PROFILES[profile], clock=self.clock, ids=ids),
            self.history, self, post=self._post, log=lambda line: None, admin_token="t", clock=self.clock, seed=1,
        )
        self.instances = {name: Instance(self, name) for name in ("coordinator-1", "coordinator-2", "coordinator-3")}

    def clock(self) -> float:
        return START + self.loop.time()

    def environ(self, name: str) -> dict[str, str]:
        return {
            "PORT": "0", "INSTANCE_ID": name, "STATE_DIR": "/nowhere", "ASSISTANTS_BASE_URL": "http://assistants/v1",
            "ASSISTANT_ID": self.assistant_id, "TOOL_GATEWAY_URL": "http://gateway",
            "TOOL_RESULTS_URL": f"http://{name}/tool-results", "STORE_URL": self.store.url,
            "POLL_INTERVAL": "0.05", "TOOL_TIMEOUT": "0.5", "CLIENT_TIMEOUT": "2", **self.more,
        }

    def outage(self, seconds: float) -> None:
        """The store refuses every write for so long."""
        self.store.refuse()
        self.loop.call_later(seconds, self.store.take_again)

    async def at(self, event: Event) -> list[Fault]:
        """The nemesis of the fakes."""
        faults = []
        for rule in self.rules:
            if rule.kind != event.kind or not rule.when(event):
                continue
            rule.seen += 1
            if rule.nth not in (0, rule.seen):
                continue
            rule.fired += 1
            if rule.do is not None:
                await rule.do(event)
            if rule.fault is not None:
                faults.append(Fault(rule.fault, rule.args))
        return faults

    def run(self, *turns: Script, story: Callable[[Chamber], Awaitable[None]] | None = None, budget: float = 60.0) -> dict[str, str]:
        """Deliver each turn to coordinator-1 while `story` happens; the status of each turn in the end."""

        async def all_of_it() -> dict[str, str]:
            for instance in self.instances.values():
                await instance.start()
            await asyncio.sleep(0.01)
            for turn in turns:
                await self.deliver(turn)
            telling = asyncio.ensure_future(story(self)) if story else None
            statuses: dict[str, str] = {}
            while len(statuses) < len(turns) and self.loop.now < budget:
                await asyncio.sleep(0.1)
                for turn in turns:
                    status = await self.status(turn)
                    if status in ("done", "failed"):
                        statuses[turn.turn_id] = status
            if telling is not None:
                await telling
            self.doubts = await self._doubts()
            for instance in self.instances.values():
                if instance.alive:
                    await instance.stop()
            await self.assistants.aclose()
            await self.gateway.aclose()
            return statuses

        async def in_time() -> dict[str, str]:
            async with asyncio.timeout(3 * budget):
                return await all_of_it()

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            statuses = runner.run(in_time())
        assert all(rule.fired for rule in self.rules), "a rule never fired"
        return statuses

    async def deliver(self, turn: Script, to: str = "coordinator-1", **more: str) -> int:
        body = {"turn_id": turn.turn_id, "conversation_id": turn.conversation_id, "user_id": turn.user_id}
        status, _ = await self.instances[to].call("POST", "/turns", {**body, "message": turn.message(), **more})
        return status

    async def status(self, turn: Script) -> str | None:
        for instance in self.instances.values():
            if instance.alive and instance.name not in self.loop.paused:
                status, data = await instance.call("GET", f"/turns/{turn.turn_id}")
                if status == 200:
                    return str(data["status"])
        return None

    async def _doubts(self) -> list[str]:
        alive = next(i for i in self.instances.values() if i.alive)
        return [call["tool_call_id"] for call in (await alive.call("GET", "/in-doubt"))[1]["calls"]]

    async def _generate(self, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return complete(body, created=0)

    async def _post(self, url: str, body: dict[str, Any]) -> int:
        instance = self.instances[httpx.URL(url).host]
        return (await instance.call("POST", "/tool-results", body))[0]

    # --- what came of it ---

    def effects(self, of: Script | None = None) -> list[int]:
        """How many effects each intent (of one turn) has had, the intents with none left out."""
        committed = self.events(EffectCommitted)
        return list(Counter(e.nonce for e in committed if of is None or e.conversation == of.conversation_id).values())

    def requests(self) -> int:
        return len(self.events(ToolRequested))

    def submits(self) -> int:
        return len(self.events(SubmitReceived))

    def outputs(self) -> dict[str, str]:
        """The accepted outputs, by call."""
        return {o.tool_call_id: o.output for e in self.events(SubmitAccepted) for o in e.outputs}

    def outputs_hold_effects(self) -> bool:
        """Whether each effect's external id is in exactly one accepted output."""
        texts = list(self.outputs().values())
        return all(sum(e.external_id in text for text in texts) == 1 for e in self.events(EffectCommitted))

    def events(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.history.events if isinstance(e, kind)]


def turn_of(*steps: tuple[str, ...], name: str = "turn_1") -> Script:
    """A turn that asks for these tools, step by step."""
    conversation = f"C{name}".replace("_", "")
    common = {"user_id": "U1", "conversation_id": conversation}
    return Script(name, conversation, "U1", tuple(tuple(ScriptedCall(tool, dict(common)) for tool in step) for step in steps))


class SqliteFile:
    """A store in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"
        self.url = f"sqlite:///{self.path}"

    def refuse(self) -> None:
        """Take no write any more."""
        self.holder = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        self.holder.execute("BEGIN IMMEDIATE")

    def take_again(self) -> None:
        """Take writes again."""
        self.holder.close()

    def close(self) -> None:
        """Nothing is to be given back."""


class RedisServer:
    """A store in a server; this one is in memory, so that time can be virtual."""

    url = "redis://redis:6379/0"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = fakeredis.FakeServer()
        monkeypatch.setattr(Redis, "from_url", lambda url, **more: fakeredis.FakeAsyncRedis(server=self.server, **kept(more)))

    def refuse(self) -> None:
        """Answer nobody any more."""
        self.server.connected = False

    def take_again(self) -> None:
        """Answer again."""
        self.server.connected = True

    def close(self) -> None:
        """Nothing is to be given back."""


def kept(more: dict[str, Any]) -> dict[str, Any]:
    """What a server in memory understands of a client's settings."""
    return {name: value for name, value in more.items() if name == "decode_responses"}


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteFile | RedisServer]:
    """Each of the stores that a reference coordinator can have."""
    made = SqliteFile(tmp_path) if request.param == "sqlite" else RedisServer(monkeypatch)
    yield made
    made.close()


@pytest.fixture
def chamber(store: SqliteFile | RedisServer) -> Iterator[Callable[..., Chamber]]:
    """Makes a chamber for `create_app` under a gateway profile and rules, on each of the stores."""
    made: list[Chamber] = []

    def make(create_app: Any, profile: str = "keyless", *rules: Rule, **more: Any) -> Chamber:
        made.append(Chamber(create_app, store, profile, rules, **more))
        return made[-1]

    yield make
    for chamber in made:
        if not chamber.loop.is_closed():
            chamber.loop.close()


@pytest.fixture
def rule() -> type[Rule]:
    """The class of rules, since test modules cannot import this one."""
    return Rule


@pytest.fixture
def asking() -> Callable[..., Script]:
    """Makes a turn that asks for tools, step by step."""
    return turn_of
