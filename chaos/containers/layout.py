"""What docker-compose.chaos.yml and the harness in it agree on: services, ports and labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from chaos.wire.settings import Coordinator, RemoteFakes, Settings
from fakes.remote.main import shared_token

PROJECT = "ANECHOIC_COMPOSE"
"""The variable that tells a harness of which project it is a part."""
CONTROL = 8700
"""Where each fake takes the harness."""
PART = "anechoic.part"
"""The label that says what a service is: coordinator, replica or store."""
STATE = Path("/state")
"""The volume that all coordinators share, and the harness too."""
REPORT = Path("/report")
"""Where the harness writes its reports, a folder of the host."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The services of one project."""

    TOXIPROXY: ClassVar[str] = "toxiproxy"
    TOXIPROXY_URL: ClassVar[str] = "http://toxiproxy:8474"
    REDIS: ClassVar[str] = "redis://redis:6379/0"
    BASE_PORT: ClassVar[int] = 8701
    """the first of the four ports of each instance in the proxy: assistants, tool-gateway, tool-results, store"""

    project: str
    token: str = dataclasses.field(repr=False)
    fakes: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {
            "assistants": f"fake-assistants:{CONTROL}", "gateway": f"fake-gateway:{CONTROL}", "router": f"llm-router:{CONTROL}",
        }
    )
    replica_port: int = 8000

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Layout | None:
        """The layout that this process is a part of, None outside of any."""
        project = environ.get(PROJECT)
        return cls(project, shared_token(environ) or "") if project else None

    def coordinator(self) -> Coordinator:
        """The coordinator of the project: its instances are the services with that label."""
        return Coordinator(f"the containers of {self.project}", containers=self.labels("coordinator"))

    def applied(self, settings: Settings) -> Settings:
        """The settings of a run in this project, whose parts are where the compose file puts them."""
        return dataclasses.replace(
            settings, layout=self, fakes=RemoteFakes(**self.fakes, token=self.token), toxiproxy=self.TOXIPROXY_URL,
            base_port=self.BASE_PORT, store=self.REDIS,
        )

    def labels(self, part: str | None = None) -> tuple[str, ...]:
        """The labels of the services that are such a part, or of all."""
        return (f"com.docker.compose.project={self.project}", *((f"{PART}={part}",) if part else ()))
