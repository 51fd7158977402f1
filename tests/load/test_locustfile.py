"""`locust -f load/locustfile.py` by itself, as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from fakes.script import find

FILE = Path(__file__).parents[2] / "load" / "locustfile.py"
Stub = Callable[[float], str]


def locust(host: str, *options: str, seconds: int = 4, code: int = 0) -> dict[str, dict[str, Any]]:
    """Run it headless; the rows of its table by name."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(FILE), "--headless", "--host", host, "--run-time", f"{seconds}s", "-s", "5",
         "--json", "--skip-log", "--turn-seed", "7", *options],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return {row["name"]: row for row in json.loads(done.stdout)}


def p95(row: dict[str, Any]) -> float:
    """Milliseconds, from the counts of rounded response times."""
    times = sorted((float(ms), count) for ms, count in row["response_times"].items())
    left = 0.95 * sum(count for _, count in times)
    for ms, count in times:
        left -= count
        if left <= 0:
            return ms
    raise AssertionError("no response")


def stall_later(url: str, after: float, seconds: float) -> threading.Timer:
    timer = threading.Timer(after, lambda: httpx.post(f"{url}/stall", params={"seconds": seconds}))
    timer.start()
    return timer


def test_a_turn_is_one_event_and_its_requests_keep_their_rows(stub: Stub) -> None:
    rows = locust(stub(0.05), "--users", "2", "--rate", "10", "--spawn-rate", "2", "--arrivals", "constant")
    turns = rows["run lifecycle"]["num_requests"]
    assert 40 <= turns <= 85  # two streams of ten a second, for four seconds at most
    assert rows["run lifecycle"]["method"] == "RUN"
    assert rows["POST /turns"]["num_requests"] == turns
    assert rows["GET /turns/{turn_id}"]["num_requests"] >= turns
    assert rows["run lifecycle"]["min_response_time"] >= 50


def test_an_open_loop_shows_a_stall_that_a_closed_loop_hides(stub: Stub) -> None:
    slow = {}
    for kind, options in (("poisson", ["--users", "1", "--rate", "25"]), ("closed", ["--users", "8", "--spawn-rate", "8"])):
        url = stub(0.05)
        timer = stall_later(url, 2.5, 2.0)
        rows = locust(url, "--arrivals", kind, *options, seconds=6)
        timer.join()
        slow[kind] = p95(rows["run lifecycle"])
    assert slow["poisson"] > 1000
    assert slow["closed"] < 500


def test_what_is_due_while_too_many_are_open_is_dropped_and_said(stub: Stub) -> None:
    rows = locust(stub(30.0), "--users", "1", "--rate", "20", "--in-flight", "5", seconds=3, code=1)
    assert rows["POST /turns"]["num_requests"] == 5
    assert rows["dropped"]["num_failures"] > 20


def test_a_turn_that_was_forgotten_is_delivered_again(stub: Stub) -> None:
    url = stub(1.0)
    timer = threading.Timer(2.5, lambda: httpx.post(f"{url}/forget"))
    timer.start()
    rows = locust(url, "--users", "1", "--rate", "10", seconds=5, code=1)  # a 404 is a failure in Locust's table
    timer.join()
    assert rows["POST /turns"]["num_requests"] > rows["run lifecycle"]["num_requests"] > 30
    assert httpx.get(f"{url}/count").json()["forgotten"] > 0


def test_a_turn_over_its_budget_is_a_failure_and_gives_its_place_back(stub: Stub) -> None:
    rows = locust(stub(60.0), "--rate", "10", "--in-flight", "5", "--turn-budget", "1", seconds=5, code=1)
    assert rows["run lifecycle"]["num_failures"] >= 10


def test_a_class_can_be_chosen(stub: Stub) -> None:
    url = stub(0.01)
    rows = locust(url, "--rate", "20", "MultiStep", seconds=2)
    assert rows["run lifecycle"]["num_requests"] > 5
    script = find(httpx.get(f"{url}/last").json()["message"])
    assert script is not None
    assert [len(step) for step in script.steps] == [1, 1, 1]


def test_the_web_page_has_the_turn_options(stub: Stub) -> None:
    port = httpx.URL(stub(0.01)).port or 0
    page = port + 1
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(FILE), "--host", f"http://127.0.0.1:{port}", "--web-host", "127.0.0.1",
         "--web-port", str(page)], stderr=subprocess.PIPE, text=True,
    )
    try:
        for _ in range(100):
            try:
                text = httpx.get(f"http://127.0.0.1:{page}/").text
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert "turn_budget" in text
        assert "in_flight" in text
        started = httpx.post(f"http://127.0.0.1:{page}/swarm", data={"user_count": 1, "spawn_rate": 1, "rate": 30})
        assert started.json()["success"], started.text
        time.sleep(2)
        rows = {row["name"]: row for row in httpx.get(f"http://127.0.0.1:{page}/stats/requests").json()["stats"]}
        assert rows["run lifecycle"]["num_requests"] > 20
    finally:
        process.terminate()
        process.communicate(timeout=20)
