"""The fakes as servers: each instance has a port of its own on each fake, so that a request's sender is known."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from chaos.nemesis import PlanNemesis
from chaos.wire.logs import Logs
from chaos.wire.settings import Settings
from fakes.assistants.core import Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.gateway.callbacks import CallbackPoster
from fakes.gateway.core import GatewayCore
from fakes.gateway.endpoint import GatewayEndpoint
from fakes.history import History
from fakes.ids import Ids
from fakes.llm.client import HttpGenerate
from fakes.llm.router import LlmRouter
from fakes.llm.serving import Serving
from fakes.script import ASSISTANT, ASSISTANT_ID
from fakes.server import Server, bind, port_of
from fakes.skin import skin

Fake = LlmRouter | AssistantsEndpoint | GatewayEndpoint


class Backends:
    """The three fakes, served on loopback. `start_serving` comes first, since the others need its address."""

    def __init__(self, settings: Settings, history: History, nemesis: PlanNemesis, token: str, logs: Path) -> None:
        self._settings = settings
        self._history = history
        self._nemesis = nemesis
        self._token = token
        self._servers: list[Server] = []
        self._endpoints: list[Fake] = []
        self._logs = Logs(logs)
        self._ports: dict[int, str] = {}
        self.ends: dict[tuple[str, str | None], str] = {}
        """(edge, instance) -> host:port of the fake"""
        self.llm_log = self._logs.open("llm-serve.log")
        self.audit_log = self._logs.open("tool-gw.log")
        self.serving = Serving(
            history, nemesis, replicas=settings.replicas, profile=settings.latency_profile, seed=settings.seed, log=self.llm_log
        )
        self.assistants: AssistantsEndpoint
        self.gateway: GatewayEndpoint
        self._generate: HttpGenerate | None = None
        self._post = CallbackPoster()

    async def start_serving(self) -> str:
        """Start the replicas and the router; host:port of the router."""
        await self.serving.start()
        self._router = LlmRouter(
            self._history, self._nemesis, self.serving, seed=self._settings.seed, log=self.llm_log
        )
        await self._serve(self._router, "fake LLM serving", "llm", [None])
        return self.ends["llm", None]

    async def start(self, router_url: str, instances: list[str]) -> str:
        """Start the fake Assistants API and tool gateway; the id of the default assistant."""
        settings = self._settings
        self._generate = HttpGenerate(router_url)
        core = Core(time.time, Ids(settings.seed, "assistants"))
        core.create_assistant(ASSISTANT, ASSISTANT_ID)
        self.assistants = AssistantsEndpoint(
            core, self._history, self._nemesis, self._generate,
            repeat_submit=settings.repeat_submit, poll_after_ms=round(settings.poll_interval * 1000),
        )
        self._nemesis.runs = self.assistants
        self.gateway = GatewayEndpoint(
            GatewayCore(settings.gateway, clock=time.time, ids=Ids(settings.seed, "gateway")),
            self._history, self._nemesis, post=self._post, log=self.audit_log, admin_token=self._token, clock=time.time,
            seed=settings.seed,
        )
        await self._serve(self.assistants, "fake Assistants API", "assistants", list(instances))
        await self._serve(self.gateway, "fake tool gateway", "tool-gateway", list(instances))
        return ASSISTANT_ID

    def age(self, seconds: float) -> None:
        """Have the fakes forget what was over so long ago."""
        self.assistants.age(seconds)
        self.gateway.age(seconds)

    async def stop(self) -> None:
        """Stop everything, servers first; safe to call at any stage."""
        await asyncio.gather(*(server.stop() for server in self._servers))
        for endpoint in self._endpoints:
            await endpoint.aclose()
        await self._post.aclose()
        if self._generate is not None:
            await self._generate.aclose()
        await self.serving.stop()
        self._logs.close()

    async def _serve(self, endpoint: Fake, title: str, edge: str, instances: list[str | None]) -> None:
        self._endpoints.append(endpoint)
        sockets: list[socket.socket] = []
        for instance in instances:
            listening = bind()
            sockets.append(listening)
            port = port_of(listening)
            self.ends[edge, instance] = f"127.0.0.1:{port}"
            if instance is not None:
                self._ports[port] = instance
        app = skin(
            endpoint, title=title, history=self._history, token=self._token,
            instance_of=self._ports.get, loadable=self._nemesis, reset=getattr(endpoint, "reset", None),
        )
        server = Server(app, sockets)
        await server.start()
        self._servers.append(server)
