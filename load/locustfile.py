"""Locust users that bring turns to a coordinator, by the protocol that every coordinator under test speaks.

    locust -f load/locustfile.py --host http://127.0.0.1:9001,http://127.0.0.1:9002 --users 1 --rate 50
    locust -f load/locustfile.py --host http://127.0.0.1:9001 ParallelCalls --headless --users 1 --rate 20 --run-time 30s -s 5

One Locust user is one stream of arrivals: a turn is delivered when it is due, whether or not those before it have ended, so
that a stall of the system shows in the latency of every turn that fell due meanwhile. The request event `run lifecycle` is a
whole turn, from the time at which it was due until the coordinator says that it has ended; what was due while `--in-flight`
turns of the stream were open is `dropped`, a failure of its own. `--arrivals closed` makes each user deliver one turn after
another, which hides stalls.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.exception import StopUser

from chaos.turns import Turn
from load import arrivals, records, shapes

RETRY = 0.2
"""Seconds until a turn that no instance took is delivered again."""
LATE_POLL = 1.0
"""Seconds between two polls of a turn that is overdue."""


class TurnFailed(Exception):
    """The coordinator says of a turn that it failed."""


class Overdue(Exception):
    """A turn was still open when its budget was over."""


class Dropped(Exception):
    """A turn was due while too many were open, and was not delivered."""


class Dial:
    """How many turns per second each stream delivers; whoever runs the load may turn it while it runs."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.turned = Event()

    def turn(self, rate: float) -> None:
        """From now on, this many per second; 0 stops arrivals."""
        self.rate = rate
        turned, self.turned = self.turned, Event()
        turned.set()


class Stream(FastHttpUser):
    """One stream of arrivals."""

    abstract = True
    shape = ""
    connection_timeout = 5.0
    network_timeout = 10.0
    _streams = itertools.count()
    _numbers = itertools.count()
    _instances = itertools.count()

    def __init__(self, environment: Any) -> None:
        self.options: Any = environment.parsed_options
        self.concurrency = self.options.in_flight + 1
        super().__init__(environment)
        self.dial: Dial = environment.dial
        self.tell: records.Teller = environment.teller
        self.urls = [url.strip().rstrip("/") for url in (self.host or "").split(",")]
        self.open = Group()
        self.places = self.options.in_flight

    @task
    def deliver(self) -> None:
        """Deliver turns until the user is stopped, then wait for those that are open, as long as Locust lets it."""
        if self.options.arrivals == "closed":
            while self._state == "running" and self.dial.rate > 0:
                self.lifecycle(self.next_turn(), time.time())
            self.pause()
        else:
            self.arrive()
        if self._state != "running":
            self.open.join()
            raise StopUser

    def arrive(self) -> None:
        """Turns as they fall due."""
        index = max(0, getattr(self.environment.runner, "worker_index", 0))
        gaps = arrivals.gaps(self.options.arrivals, self.options.turn_seed, 1000 * index + next(self._streams))
        gap, due = next(gaps), time.time()
        while self._state == "running":
            if self.dial.rate <= 0:
                self.pause()
                due = time.time()
                continue
            dial = (self.dial.rate, self.dial.turned)
            wait = due + gap / self.dial.rate - time.time()
            if wait > 0:
                dial[1].wait(min(wait, 0.2))
                if self.dial.rate != dial[0]:
                    due = time.time()
                continue
            due += gap / self.dial.rate
            gap = next(gaps)
            if self.places:
                self.places -= 1
                self.open.spawn(self.lifecycle, self.next_turn(), due)
            else:
                self.drop(due)
            gevent.sleep(0)

    def pause(self) -> None:
        """Wait a moment for the dial to be turned."""
        self.dial.turned.wait(0.2)

    def next_turn(self) -> Turn:
        """The next turn of this process; two processes never make the same one."""
        index = getattr(self.environment.runner, "worker_index", 0)
        return shapes.turn(self.shape, self.options.turn_seed, next(self._numbers), salt=f"load-{index}")

    def drop(self, due: float) -> None:
        """A turn that was due and not delivered."""
        self.tell.dropped(due)
        said = f"{self.options.in_flight} turns were open (--in-flight)"
        self.fire("dropped", due, 0, Dropped(said), elapsed=0.0)

    def lifecycle(self, turn: Turn, due: float) -> None:
        """One turn, from the time at which it was due to its end."""
        self.tell.planned(turn, due)
        attempts = itertools.count(1)
        polls, late = 0, False
        home = self.until_accepted(turn, attempts)
        while True:
            gevent.sleep(LATE_POLL if late else self.options.turn_poll)
            status, data = self.ask(home, turn)
            polls += 1
            if status == 200 and data.get("status") in ("done", "failed"):
                break
            if status == 404:  # it forgot the turn: deliver it again
                home = self.until_accepted(turn, attempts)
            if not late and time.time() - due > self.options.turn_budget:
                late = True
                self.give_place_back()
                self.fire("run lifecycle", due, polls, Overdue(f"open after {self.options.turn_budget:g} s (--turn-budget)"))
        ended = time.time()
        self.tell.ended(turn, str(data["status"]), data.get("detail"), due, ended)
        if not late:
            self.give_place_back()
            failure = TurnFailed(str(data.get("detail") or "failed")) if data["status"] == "failed" else None
            self.fire("run lifecycle", due, polls, failure, elapsed=ended - due)

    def until_accepted(self, turn: Turn, attempts: itertools.count[int]) -> str:
        """Deliver it to one instance after another until one takes it; which one."""
        while True:
            for _ in self.urls:
                url = self.urls[next(self._instances) % len(self.urls)]
                attempt = next(attempts)
                self.tell.sent(turn, url, attempt)
                response = self.client.post(f"{url}/turns", json=turn.body(), name="POST /turns")
                status = response.status_code or None
                reason = None if status and status < 300 else str(response.text or getattr(response, "error", ""))[:200]
                self.tell.answered(turn, url, attempt, status, reason)
                if status and status < 300:
                    return url
            gevent.sleep(RETRY)

    def ask(self, url: str, turn: Turn) -> tuple[int, dict[str, Any]]:
        """GET /turns/{turn_id}: the HTTP status, 0 where no answer came, and the JSON object."""
        response = self.client.get(f"{url}/turns/{turn.turn_id}", name="GET /turns/{turn_id}")
        try:
            data = json.loads(response.content or b"{}")
        except ValueError:
            data = {}
        return response.status_code, data if isinstance(data, dict) else {}

    def give_place_back(self) -> None:
        """One more turn may be open."""
        self.places += 1

    def fire(self, name: str, due: float, polls: int, failure: Exception | None, elapsed: float | None = None) -> None:
        """Count an event of type RUN in Locust's statistics; times are milliseconds there."""
        self.environment.events.request.fire(
            request_type="RUN", name=name, response_time=1000 * (time.time() - due if elapsed is None else elapsed),
            response_length=polls, exception=failure, context={"shape": self.shape}, start_time=due,
        )

    def on_stop(self) -> None:
        """Turns that are still open are let go of."""
        self.open.kill()


class SupportDesk(Stream):
    """A mixture, as a support desk would have it."""

    shape = "support-desk"


class SingleCall(Stream):
    """One step with one call."""

    shape = "single-call"


class ParallelCalls(Stream):
    """One step with three calls at once."""

    shape = "parallel-calls"


class MultiStep(Stream):
    """Three steps, one after the other, with one call each."""

    shape = "multi-step"


def of_shape(shape: str) -> type[Stream]:
    """The user class whose turns have this shape."""
    return next(users for users in Stream.__subclasses__() if users.shape == shape)


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    """The options of these users; masters hand them to their workers."""
    parser.add_argument("--rate", type=float, default=10.0, help="turns per second of each user, as one user is one stream")
    parser.add_argument("--arrivals", choices=arrivals.KINDS, default="poisson", help="how turns arrive")
    parser.add_argument("--in-flight", type=int, default=1000, help="open turns of a stream over which more are dropped")
    parser.add_argument("--turn-poll", type=float, default=0.1, help="seconds between two questions whether a turn has ended")
    parser.add_argument("--turn-budget", type=float, default=30.0, help="seconds after which an open turn counts as failed")
    parser.add_argument(
        "--turn-seed", type=int, default=random.SystemRandom().randrange(1_000_000),
        help="what turns ask for and when they arrive is drawn from it; a fresh one when left out",
    )


@events.init.add_listener
def ready(environment: Any, runner: Any, **_: Any) -> None:
    """Before any user is made: the support desk where no class was named, and what master and workers say to each other."""
    chosen = getattr(environment.parsed_options, "user_classes", None)
    if not chosen and not getattr(environment.parsed_options, "class_picker", False):
        environment.user_classes = [c for c in environment.user_classes if c is SupportDesk] or environment.user_classes
    environment.dial = Dial(getattr(environment.parsed_options, "rate", 10.0))
    environment.teller = records.Teller(environment)
    if runner is not None:
        runner.register_message("dial", lambda environment, msg, **_: environment.dial.turn(msg.data["rate"]))


@events.test_start.add_listener
def started(environment: Any, **_: Any) -> None:
    """Options may have come from the master or the web page since."""
    environment.dial.turn(environment.parsed_options.rate)
    environment.teller.start()


@events.test_stop.add_listener
def stopped(environment: Any, **_: Any) -> None:
    """Nothing that was told stays behind."""
    environment.teller.flush()
