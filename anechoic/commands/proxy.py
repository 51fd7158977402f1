"""`anechoic proxy`."""

from __future__ import annotations

from pathlib import Path

from anechoic.commands.options import seed_or_new
from anechoic.exits import invalid
from anechoic.exits import run as run_to_the_end
from chaos.toxiproxy import standalone


def run(*, host: str, port: int, seed: int | None, config: Path | None) -> None:
    """Serve until interrupted."""
    try:
        run_to_the_end(standalone.run(host, port, seed_or_new(seed), config, lambda line: print(line, flush=True)))
    except standalone.StartError as error:
        invalid(error)
