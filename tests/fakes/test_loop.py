"""The loop that serves."""

from __future__ import annotations

import asyncio
import sys

import pytest

from fakes import loop


async def kind() -> str:
    """Where the running loop comes from."""
    return type(asyncio.get_running_loop()).__module__


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows: asyncio's own is used")
def test_the_harness_runs_on_uvloop() -> None:
    """In `run`, and for whoever makes a loop."""
    assert loop.run(kind()) == "uvloop"
    made = loop.new_loop()
    try:
        assert made.run_until_complete(kind()) == "uvloop"
    finally:
        made.close()


def test_what_is_raised_comes_out() -> None:
    """As from `asyncio.run`."""

    async def fails() -> None:
        raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        loop.run(fails())
