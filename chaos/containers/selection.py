"""Which containers are meant: by name, or by label; no other is ever touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from chaos.wire.errors import WireError
from chaos.words import unknown

TIMEOUT = 30.0
"""Seconds that the engine has for one call."""
SERVICE = "com.docker.compose.service"
CONFIG_FILES = "com.docker.compose.project.config_files"


@contextlib.contextmanager
def engine() -> Iterator[Any]:
    """A client of the engine that DOCKER_HOST names, or of the default one. Raises WireError when none answers."""
    client = connect()
    try:
        yield client.api
    finally:
        client.close()


def connect() -> Any:
    """The client itself, for somebody who closes it."""
    try:
        import docker
        import docker.errors
    except ImportError:
        raise WireError("containers need the package docker: pip install 'anechoic[containers]'") from None
    try:
        client = docker.from_env(timeout=TIMEOUT)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise WireError(
            f"no container engine answers: {error}\n"
            "  Start Docker (or another engine with its API), or say where it is with DOCKER_HOST. In the harness' own "
            "container the engine's socket is mounted from DOCKER_SOCKET, and DOCKER_GID is the group that may use it."
        ) from None
    return client


def select(api: Any, *, names: Sequence[str] = (), labels: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The containers of these names, or with all these labels (K or K=V), running or not, as the engine shows them.

    In the order of the names given, else sorted by name. Raises WireError where there is none, with what runs.
    """
    import docker.errors

    try:
        if names:
            return [api.inspect_container(name) for name in names]
        listed = api.containers(all=True, filters={"label": list(labels)})
        found = [api.inspect_container(container["Id"]) for container in listed]
    except docker.errors.NotFound as error:
        raise WireError(f"{error.explanation}. {_running(api)}") from None
    if not found:
        raise WireError(f"no container has the label {' and '.join(labels)}. {_services(api, labels) or _running(api)}")
    return sorted(found, key=lambda container: str(container["Name"]))


def count(labels: Sequence[str]) -> int:
    """How many containers have all these labels. Raises WireError for none, and where no engine answers."""
    with engine() as api:
        return len(select(api, labels=labels))


def name_of(found: Any) -> str:
    """The name by which a container is known to people, and in its networks."""
    return str(found["Config"].get("Labels", {}).get(SERVICE) or str(found["Name"]).lstrip("/"))


def address(found: Any, port: int | None, *, inside: bool) -> tuple[str, int]:
    """host:port where the harness reaches the coordinator in a container, and the port inside. Raises WireError.

    Args:
        port: the port inside; None takes PORT of its environment, or the only one that it exposes.
        inside: the harness is on its network, and knows it by name; else a published port or its own address counts.
    """
    config = found["Config"]
    environ = dict(pair.partition("=")[::2] for pair in config.get("Env") or ())
    exposed = [int(text.partition("/")[0]) for text in config.get("ExposedPorts") or ()]
    if port is None and environ.get("PORT", "").isdigit():
        port = int(environ["PORT"])
    if port is None and len(exposed) == 1:
        port = exposed[0]
    if port is None:
        raise WireError(
            f"container {name_of(found)}: on which port does the coordinator listen? It exposes {exposed or 'none'}, and has "
            "no PORT in its environment; give --container-port"
        )
    if inside:
        return f"{name_of(found)}:{port}", port
    if found["HostConfig"].get("NetworkMode") == "host":
        return f"127.0.0.1:{port}", port
    bound = (found["HostConfig"].get("PortBindings") or {}).get(f"{port}/tcp") or ()
    for binding in bound:
        if binding.get("HostPort") not in (None, "", "0"):  # a fixed one stays when it is started again
            return f"127.0.0.1:{binding['HostPort']}", port
    for network in found["NetworkSettings"]["Networks"].values():
        if network.get("IPAddress"):
            return f"{network['IPAddress']}:{port}", port
    status = found["State"]["Status"]
    raise WireError(f"container {name_of(found)} ({status}) cannot be reached: it is on no network and publishes no port")


def _services(api: Any, labels: Sequence[str]) -> str | None:
    """Which services there are, where one was looked for."""
    wanted = next((value for key, _, value in (label.partition("=") for label in labels) if key == SERVICE), None)
    listed = [container["Labels"] for container in api.containers(all=True, filters={"label": SERVICE})]
    if wanted is None or not listed:
        return None
    files = sorted({found.get(CONFIG_FILES, "") for found in listed if found[SERVICE] == wanted})
    if files:
        return f"The service {wanted} is there, of {' and of '.join(files)}"
    return unknown("service", wanted, {found[SERVICE] for found in listed})


def _running(api: Any) -> str:
    names = sorted(container["Names"][0].lstrip("/") for container in api.containers())
    return f"Running: {', '.join(names)}" if names else "No container runs here"
