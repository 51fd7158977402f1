"""The pytest plugin: fixtures and one option. It is loaded in every run of pytest, so everything heavy is imported on use."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from anechoic.live import LiveChamber
    from chaos.plan import Plan

SEEDS = 1_000_000
NOWHERE = "http://127.0.0.1:9"
"""Where asynchronous results go in a chamber that is alone, unless told otherwise: nobody listens there."""
_SEED = pytest.StashKey[int]()


class ChamberFactory(Protocol):
    """What the fixture `chamber` gives."""

    def __call__(
        self, coordinator: str | None = None, *, command: str | None = None, gateway: str = "keyless", instances: int = 2,
        alone: bool = False, url: str = NOWHERE, seed: int | None = None, **settings: Any,
    ) -> LiveChamber:
        """A running chamber.

        Args:
            coordinator: the name of one that comes with the harness.
            command: the command line that starts one instance of yours.
            alone: fakes and proxies only, for your own client code, which finds them by `urls`.
            url: alone: where asynchronous results are posted to (its path is /tool-results).
            settings: further fields of `chaos.wire.settings.Settings`.

        Raises WireError, and ValueError for a gateway profile that is not known.
        """
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """--anechoic-seed."""
    parser.getgroup("anechoic").addoption(
        "--anechoic-seed", type=int, default=None, metavar="N", help="Seed of contract tests and chambers; drawn when left out."
    )


def pytest_configure(config: pytest.Config) -> None:
    """One seed for the session: the one given, that of the xdist controller, or a fresh one."""
    handed = getattr(config, "workerinput", {}).get("anechoic_seed")
    given = config.getoption("anechoic_seed") if handed is None else handed
    config.stash[_SEED] = secrets.randbelow(SEEDS) if given is None else int(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: every worker has the same seed."""
    node.workerinput["anechoic_seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, where it can be copied from."""
    return f"anechoic: --anechoic-seed {config.stash[_SEED]}"


@pytest.fixture(scope="session")
def anechoic_seed(pytestconfig: pytest.Config) -> int:
    """The seed of the session: --anechoic-seed, else a fresh one, the same on every worker of pytest-xdist."""
    return pytestconfig.stash[_SEED]


@pytest.fixture(scope="session")
def anechoic_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where counterexamples and histories are kept: in pytest's cache, or in a temporary folder where that is switched off."""
    cache = getattr(pytestconfig, "cache", None)
    return Path(cache.mkdir("anechoic")) if cache is not None else tmp_path_factory.mktemp("anechoic")


@pytest.fixture
def chamber(anechoic_seed: int) -> Iterator[ChamberFactory]:
    """`chamber(command=..., gateway="keyed", instances=2)` starts a chamber; all are given back when the test is over."""
    from anechoic.live import LiveChamber
    from chaos.wire.settings import Settings, by_command, by_name, by_url
    from fakes.gateway.profile import profile_named

    with ExitStack() as stack:

        def start(
            coordinator: str | None = None, *, command: str | None = None, gateway: str = "keyless", instances: int = 2,
            alone: bool = False, url: str = NOWHERE, seed: int | None = None, **settings: Any,
        ) -> LiveChamber:
            if [coordinator is not None, command is not None, alone].count(True) != 1:
                raise ValueError("give one of coordinator, command or alone=True")
            started = by_name(coordinator) if coordinator else by_command(command) if command else by_url((url,))
            asked = Settings(
                coordinator=started, gateway=profile_named(gateway), seed=anechoic_seed if seed is None else seed,
                instances=1 if alone else instances, **settings,
            )
            made = stack.enter_context(LiveChamber(asked, alone=alone))
            print(f"anechoic: {made}, seed {asked.seed}")
            return made

        yield start


@pytest.fixture
def inject() -> Callable[[LiveChamber, object], Plan]:
    """`inject(chamber, plan)` puts a fault plan in force: a name, a file, a dict (a plan or one rule) or a Plan."""
    return lambda chamber, plan: chamber.inject(plan)
