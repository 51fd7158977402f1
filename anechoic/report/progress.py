"""How far something long has come, on standard error: a bar in a terminal, and now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

QUIET = 10.0
"""Seconds from one line to the next where there is no terminal."""


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Gives what takes the name of a step and the share of it (0 to 1) that is done. The bar is gone at the end."""
    err = Console(stderr=True, highlight=False)
    if not err.is_terminal:
        yield _lines(err)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, share: bar.update(task, description=step, completed=share)


def _lines(err: Console) -> Callable[[str, float], None]:
    last = time.monotonic()

    def tell(step: str, share: float) -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET:
            last = time.monotonic()
            err.print(f"{step}: {share:.0%}")

    return tell
