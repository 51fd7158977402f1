"""Importing a coordinator: watched, since a module may block, and with what module-level code looks for in the environment."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from chaos.simulation.coordinator import Coordinator, load
from chaos.simulation.errors import BadCoordinator, Interrupt, SimulationError
from chaos.simulation.lives import Life
from chaos.simulation.watchdog import Watchdog

STALL = 30.0
"""Real seconds that an import may take; large frameworks take ten on a busy machine."""
NOWHERE = "http://127.0.0.1:9"


def prepare(given: object, environ: Mapping[str, str] | None = None, stall: float = STALL) -> Coordinator:
    """The coordinator that `given` means, imported (see `coordinator.load`); each life gets the environment that counts later.

    Raises BadCoordinator when it is none, and Blocked when its import does not come back.
    """
    if not isinstance(given, str) or ":" not in given:
        return load(given)  # it is there already, or is one of ours
    importing = _Importing()
    try:
        with _environment(environ or {}), Watchdog(importing, stall):
            return load(given)
    except Interrupt:
        raise importing.doom or BadCoordinator(f"the import of {given} was ended") from None


class _Importing:
    """What the watchdog watches: nothing moves on during an import."""

    steps = 0
    current: Life | None = None
    doom: SimulationError | None = None


@contextlib.contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """The variables of an instance, as far as the process has none of that name, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="anechoic-import-") as folder:
        given = {
            "PORT": "0", "INSTANCE_ID": "import", "STATE_DIR": folder, "STORE_URL": f"sqlite:///{Path(folder) / 'store.db'}",
            "ASSISTANTS_BASE_URL": f"{NOWHERE}/v1", "OPENAI_BASE_URL": f"{NOWHERE}/v1", "OPENAI_API_KEY": "none",
            "ASSISTANT_ID": "asst_import", "TOOL_GATEWAY_URL": NOWHERE, "TOOL_RESULTS_URL": f"{NOWHERE}/tool-results",
            "POLL_INTERVAL": "0.05", "TOOL_TIMEOUT": "0.5", "CLIENT_TIMEOUT": "2", **environ,
        }
        missing = {name: value for name, value in given.items() if name not in os.environ}
        os.environ.update(missing)
        try:
            yield
        finally:
            for name in missing:
                os.environ.pop(name, None)
