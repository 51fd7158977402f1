"""The fakes of a run, where each is in a process of its own: the same face as `chaos.wire.backends`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaos.containers.hub import Hub
from chaos.nemesis import PlanNemesis
from chaos.wire.logs import Logs
from chaos.wire.settings import RemoteFakes, Settings
from fakes.history import Event, History, ReplicaExited, ReplicaStarted
from fakes.llm.serving import Serving


class RemoteBackends:
    """The three fakes, tied to this harness for one run.

    Args:
        serving: looks after the replicas; the router is told about each that comes up or goes down.
        lost: told why when a fake goes away in the middle of the run.
    """

    def __init__(
        self, settings: Settings, history: History, nemesis: PlanNemesis, fakes: RemoteFakes, serving: Serving, logs: Logs,
        lost: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._fakes = fakes
        self._nemesis = nemesis
        self._logs = logs
        self.serving = serving
        self.ends: dict[tuple[str, str | None], str] = {}
        """(edge, instance) -> host:port of the fake"""

        def hub(name: str, log: str) -> Hub:
            return Hub(name, history, nemesis, log=self._logs.open(log), lost=lost)

        self._router = hub("fake LLM serving", "llm-serve.log")
        self._assistants = hub("fake Assistants API", "assistants.log")
        self._gateway = hub("fake tool gateway", "tool-gw.log")
        history.subscribe(self._tell_router)

    async def start_serving(self) -> str:
        """Have the replicas and the router begin; host:port of the router."""
        await self.serving.start()
        replicas = {replica.name: replica.url for replica in self.serving.healthy}
        await self._begin(self._router, self._fakes.router, "llm", [None], replicas=replicas)
        return self.ends["llm", None]

    async def start(self, router_url: str, instances: list[str]) -> str:
        """Have the fake Assistants API and tool gateway begin; the id of the default assistant."""
        settings = self._settings
        begun = await self._begin(
            self._assistants, self._fakes.assistants, "assistants", list(instances), llm_url=router_url,
            repeat_submit=settings.repeat_submit, poll_after_ms=round(settings.poll_interval * 1000),
        )
        self._nemesis.runs = self._assistants
        await self._begin(
            self._gateway, self._fakes.gateway, "tool-gateway", list(instances), gateway=settings.gateway.name
        )
        return str(begun["assistant_id"])

    def age(self, seconds: float) -> None:
        """Fakes in processes of their own keep everything: a long run needs memory there."""

    async def stop(self) -> None:
        """End every session; safe to call at any stage."""
        for hub in (self._assistants, self._gateway, self._router):
            await hub.aclose()
        await self.serving.stop()
        self._logs.close()

    async def _begin(self, hub: Hub, address: str, edge: str, instances: list[str | None], **more: Any) -> Any:
        begun = await hub.begin(
            address, self._fakes.token, {"seed": self._settings.seed, "instances": instances, **more}
        )
        host = address.rpartition(":")[0]
        for instance, port in zip(instances, begun["ports"], strict=True):
            self.ends[edge, instance] = f"{host}:{port}"
        return begun

    def _tell_router(self, event: Event) -> None:
        if isinstance(event, ReplicaStarted):
            url = next((r.url for r in self.serving.healthy if r.name == event.replica), None)
            self._router.send(do="replica", name=event.replica, life=event.life, url=url)
        elif isinstance(event, ReplicaExited):
            self._router.send(do="replica", name=event.replica, life=event.life, url=None)
