"""What docker-compose.chaos.yml lets its containers do, as far as the file itself says it; no engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.containers.layout import PART, Layout

FILE = Path(__file__).parents[2] / "docker-compose.chaos.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
CHECKED = {"fake-assistants", "fake-gateway", "llm-router", "serve-llm-1", "serve-llm-2", "serve-llm-3", "redis"}


def default(text: str) -> str:
    """The text with the default of every variable in it."""
    return re.sub(r"\$\{\w+:-([^{}]*)\}", r"\1", text)


def test_every_part_is_there() -> None:
    """Three coordinators, three replicas and one store, found by their labels; the fakes and the proxies by their names."""
    parts = [service["labels"][PART] for service in SERVICES.values() if "labels" in service]
    assert sorted(parts) == ["coordinator"] * 3 + ["replica"] * 3 + ["store"]
    fakes = {address.partition(":")[0] for address in Layout("p", "token").fakes.values()}
    assert fakes | {Layout.TOXIPROXY, "redis", "harness"} <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    """No root, no capabilities, nothing privileged, a root file system that is read-only, and a limit on its memory."""
    service = SERVICES[name]
    user = default(service["user"]).partition(":")[0]
    assert user.isdigit()
    assert user != "0"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert service["networks"] == ["chamber"]


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_harness_reaches_the_engine_and_ports_are_on_loopback(name: str) -> None:
    """A port without an address would be open to the world."""
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert any("docker.sock" in volume for volume in service.get("volumes", ())) == (name == "harness")


def test_who_is_waited_for_and_checked() -> None:
    """Coordinators start after the proxies and the store, the harness after all; every part that can be asked has a check."""
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == CHECKED
    for name, service in SERVICES.items():
        waited = service.get("depends_on", {})
        assert all(each["condition"] in ("service_started", "service_healthy") for each in waited.values())
        if name.startswith("coordinator-"):
            assert set(waited) == {"toxiproxy", "redis"}
    assert set(SERVICES["harness"]["depends_on"]) == set(SERVICES) - {"harness", "load-worker"}  # the workers wait for it
