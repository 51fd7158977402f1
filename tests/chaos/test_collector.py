"""The collector is paused where it should be, and afterwards is what it was."""

from __future__ import annotations

import gc

import pytest

from chaos.collector import collector_paused


@pytest.mark.parametrize("running", [True, False])
def test_the_collector_rests_meanwhile_and_is_afterwards_what_it_was(running: bool) -> None:
    """Also where the work fails."""

    @collector_paused()
    def work(fail: bool) -> None:
        assert not gc.isenabled()
        if fail:
            raise ValueError("failed")

    try:
        if not running:
            gc.disable()
        work(fail=False)
        assert gc.isenabled() is running
        with pytest.raises(ValueError, match="failed"):
            work(fail=True)
        assert gc.isenabled() is running
    finally:
        gc.enable()
