"""STATE_DIR folders. Most simulations write nothing there, so that an empty one serves the next."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile

_spare: list[str] = []


def take() -> str:
    """An empty folder."""
    return _spare.pop() if _spare else tempfile.mkdtemp(prefix="anechoic-")


def give_back(folder: str) -> None:
    """The folder is done with: removed, or kept for the next when it is still empty."""
    with contextlib.suppress(OSError):
        if not os.listdir(folder) and not _spare:
            _spare.append(folder)
            return
    shutil.rmtree(folder, ignore_errors=True)


@atexit.register
def _remove() -> None:
    while _spare:
        shutil.rmtree(_spare.pop(), ignore_errors=True)
