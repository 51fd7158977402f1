"""One Locust run without a web page, for a harness that turns it up and down: JSON lines in, JSON lines out.

    python -m load '{"host": "http://127.0.0.1:9001", "shape": "support-desk", "streams": 1, "workers": 0, ...}'

In: `{"rate": 50}` sets the turns per second of all streams together, `{"quit": true}` or the end of the input ends the run.
Out: `{"ready": true}` when every stream is there, `{"turns": [records]}` as they come, at the end `{"stats": [rows]}`. What
Locust logs goes to standard error.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import locust  # noqa: E402
import locust.log  # noqa: E402
from gevent.os import tp_read  # noqa: E402
from locust.argument_parser import parse_options  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.stats import StatsEntry  # noqa: E402

from load import locustfile  # noqa: E402

LINES = os.dup(1)
"""Where lines go; what libraries print goes to standard error instead."""
WORKERS_PATIENCE = 60.0
"""Seconds within which all workers have to be there."""


def main(order: dict[str, Any]) -> int:
    """Run it; returns the exit code."""
    os.dup2(2, 1)
    locust.log.setup_logging("WARNING")
    options = parse_options(["--headless"])
    vars(options).update(order["options"], told=True, rate=0.0, users=order["streams"], host=order["host"])
    users = locustfile.of_shape(order["shape"])
    environment: Any = Environment(
        user_classes=[users], events=locust.events, host=order["host"], parsed_options=options,
        stop_timeout=order["stop_timeout"],
    )
    if order["workers"]:
        runner: Any = environment.create_master_runner(order["bind_host"], order["bind_port"])
    else:
        runner = environment.create_local_runner()
    locust.events.init.fire(environment=environment, runner=runner, web_ui=None)
    environment.user_classes = [users]
    runner.register_message("turns", lambda environment, msg, **_: _say({"turns": msg.data}))
    if order["workers"] and not _gather(runner, order["workers"]):
        return 2
    runner.start(order["streams"], spawn_rate=max(100, order["streams"]))
    while runner.state != "running":
        gevent.sleep(0.02)
    _say({"ready": True})
    _obey(runner, environment, order["streams"])
    runner.stop()
    runner.quit()
    environment.teller.flush()
    _say({"stats": [_row(entry) for entry in [*environment.stats.entries.values(), environment.stats.total]]})
    return 0


def _gather(runner: Any, wanted: int) -> bool:
    """Wait for the workers; whether all came."""
    seen = 0
    with gevent.Timeout(WORKERS_PATIENCE, False):
        while (seen := runner.worker_count) < wanted:
            gevent.sleep(0.05)
        return True
    _say({"error": f"{seen} of {wanted} Locust workers came within {WORKERS_PATIENCE:g} s"})
    return False


def _obey(runner: Any, environment: Any, streams: int) -> None:
    """Do what the lines say until they end."""
    rest = b""
    while chunk := tp_read(sys.stdin.fileno(), 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order.get("quit"):
                return
            per_stream = {"rate": order["rate"] / streams}
            if isinstance(runner, locust.runners.MasterRunner):
                runner.send_message("dial", per_stream)
            else:
                environment.dial.turn(per_stream["rate"])


def _row(entry: StatsEntry) -> dict[str, Any]:
    """One row of Locust's table; times are milliseconds."""
    return {
        "method": entry.method, "name": entry.name, "requests": entry.num_requests, "failures": entry.num_failures,
        "average": round(entry.avg_response_time, 2), "p50": entry.get_response_time_percentile(0.5),
        "p95": entry.get_response_time_percentile(0.95), "p99": entry.get_response_time_percentile(0.99),
        "max": round(entry.max_response_time, 2),
    }


def _say(line: dict[str, Any]) -> None:
    data = memoryview(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    while data:
        data = data[os.write(LINES, data):]


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))
