"""What tests of several rooms need: the program of a Redis server."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The program redis-server. Tests that need it are skipped where there is none."""
    found = shutil.which(os.environ.get("REDIS_SERVER") or "redis-server")
    if found is None:
        pytest.skip("no redis-server on PATH and none in REDIS_SERVER: scripts/redis installs one")
    return found
