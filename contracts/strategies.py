"""What a search draws from: turns, and faults at protocol points.

Two forms of the same world. `cases`, `turns` and `faults` are Hypothesis strategies to read, combine and narrow. For volume a
case is `SIZE` bytes that `decode` reads, one byte for each choice; the first answer of every choice is the simplest one, so
zero bytes are one turn with one call and no fault.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from chaos.plan import Rule
from chaos.vocabulary import CONTAINERS_ONLY, FAULTS, SIMULATION_ONLY
from contracts.case import KNOWN_TOOLS, REPEATS, TWIN, Case, CaseTurn, rules_of
from contracts.profiles import RetryBudget
from fakes.faults import FAKE_FAULTS
from fakes.gateway.profile import Profile

if TYPE_CHECKING:
    from hypothesis import strategies as st

T = TypeVar("T")

MAX_TURNS, MAX_STEPS, MAX_CALLS, MAX_FAULTS = 3, 3, 8, 4
PAUSES = (0.5, 2.0, 12.0)
"""Seconds that an instance stands still: one length misses what another finds."""
OFF = ("prune_keys", "barrier", "cut_stream")
"""Faults that are not drawn alone: they break what the gateway's profile promises, or mean nothing by themselves."""
EVERYWHERE = (
    "turn_answered", "message_added", "run_created", "run_told", "tool_requested", "effect_committed", "callback_due",
    "callback_posted", "submit_received", "submit_accepted",
)
"""The points at which what is outside the fakes is broken."""
_POINTS: Mapping[str, tuple[str, ...]] = {
    "resend_turn": ("turn_answered", "run_created", "run_told", "tool_requested", "effect_committed", "submit_accepted"),
    "restart": ("run_told", "tool_requested", "callback_posted"),
    "terminate": ("run_told", "tool_requested", "callback_due", "submit_received"),
    "proxy_down": ("turn_answered", "tool_requested", "effect_committed", "submit_received"),
    "toxic": ("run_told", "tool_requested", "submit_received"),
    "network": ("turn_answered", "run_told", "tool_requested", "effect_committed"),
    "clock_jump": ("run_told", "tool_requested", "effect_committed"),
}
"""Fewer points where more of them would find the same."""
_CHOICES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "stale_status": {"n": (3, 1, 8)},
    "error_after_submit": {"status": (500, 503)},
    "refuse_submit": {"status": (503, 500, 429)},
    "regenerate_step": {"ids": ("same", "new"), "after": (0.0, 0.3)},
    "slow": {"seconds": (1.0, 0.3, 2.5, 12.0), "where": ("before", "after")},
    "unavailable": {"status": (503, 429)},
    "late_callback": {"seconds": (1.5, 0.7, 4.0, 12.0)},
    "duplicate_callback": {"n": (2, 3), "gap": (0.1, 1.0)},
    "kill": {"which": (*["sender"] * 4, "other", "all"), "seconds": (0.2, 2.0)},
    "pause": {"seconds": PAUSES, "which": (*["sender"] * 3, "other")},
    "terminate": {"which": ("sender", "sender", "other"), "seconds": (1.0, 3.0)},
    "restart": {"which": ("sender", "other", "all")},
    "store_outage": {"seconds": (0.5, 2.0)},
    "resend_turn": {"to": ("other", "other", "same"), "after": (0.0, 0.1, 1.0, 3.0)},
    "proxy_down": {"proxy": ("tool-gateway", "assistants", "tool-results"), "which": ("all", "sender"), "seconds": (0.5, 2.0)},
    "network": {
        "proxy": ("tool-gateway", "assistants", "tool-results"), "which": ("sender", "all"),
        "what": ("lose_reply", "lose_request", "delay", "reorder", "no_connect"),
    },
    "clock_jump": {"which": ("sender", "other", "all"), "seconds": (40.0, 5.0, 90_000.0)},
}
"""Values worth trying, the simplest first; a parameter that is not here keeps its default."""
_TOXICS: tuple[Mapping[str, Any], ...] = tuple(
    {"proxy": proxy, "type": kind, "attributes": attributes, "which": which, "stream": stream, "seconds": 1.0}
    for proxy in ("tool-gateway", "assistants", "tool-results")
    for kind, attributes, stream in (
        ("latency", {"latency": 700}, "downstream"), ("timeout", {"timeout": 0}, "downstream"),
        ("reset_peer", {"timeout": 0}, "downstream"), ("timeout", {"timeout": 0}, "upstream"),
    )
    for which in ("all", "sender")
)
FORGETS: Mapping[str, tuple[str, ...]] = {
    "kill": ("tool_requested", "effect_committed", "callback_posted", "submit_received", "submit_accepted"),
    "terminate": ("tool_requested", "callback_due"),
    **{name: FAKE_FAULTS[name].points for name in (
        "commit_then_lose_reply", "commit_then_500", "lose_request", "late_callback", "lose_submit_reply", "error_after_submit",
    )},
}
"""Faults after which an instance does not know what it did, at the points where that is so."""
REPEATED = (
    "regenerate_step", "resend_turn", "stale_status", "stale_submit_reply", "duplicate_delivery", "duplicate_callback",
    "barrier",
)
"""Faults by which something is asked for again."""
_RESENT: Mapping[str, Any] = {
    "when": {"event": "turn_answered", "http_status": 202, "attempt": 1}, "do": {"fault": "resend_turn"},
}
_ALIGNED: Mapping[str, Any] = {"event": "run_told", "status": "requires_action", "nth": [1, 2], "per": "run"}


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """One fault word at one protocol point: the `when` table, and the sets of parameters that it may have."""

    fault: str
    when: Mapping[str, Any]
    args: tuple[Mapping[str, Any], ...]
    also: tuple[Mapping[str, Any], ...] = ()
    """rules that come with it, since it means nothing alone"""

    def rules(self, args: int, nth: Any = 1) -> tuple[Rule, ...]:
        """Its rules, with the parameters of that number."""
        when = self.when if nth == 1 else {**self.when, "nth": nth}
        do = {"fault": self.fault, **self.args[args % len(self.args)]}
        return _parsed(json.dumps([*self.also, {"when": when, "do": do}]))


@functools.cache
def moves(profile: Profile, world: str = "simulation") -> tuple[Move, ...]:
    """Every fault that leaves the gateway's promises whole, at every point where it means something.

    One that has a single point stands there twice, so that its parameters get their turn.
    """
    out: list[Move] = []
    for name in FAULTS:
        if name in OFF or name in CONTAINERS_ONLY or (world != "simulation" and name in SIMULATION_ONLY):
            continue
        values = list(_TOXICS) if name == "toxic" else _combinations(_CHOICES.get(name, {}))
        args = tuple(a for a in values if _fair(profile, name, a))
        places = points(name)
        out += [Move(name, when, args) for when in places] * (2 if len(places) == 1 else 1)
    out += [Move("barrier", _ALIGNED, ({},), (_RESENT,))] * 2
    out.append(Move("kill", {"event": "generation_started"}, ({"target": "replica"},)))
    return tuple(out)


def points(fault: str) -> list[Mapping[str, Any]]:
    """The `when` tables of the points at which a fault is drawn."""
    kind = FAULTS[fault]
    return [_point(event) for event in (kind.points if fault in FAKE_FAULTS else _POINTS.get(fault, EVERYWHERE))]


def simpler_args(fault: str, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same parameters, each time with one of them simpler, the simplest first."""
    for name, values in _CHOICES.get(fault, {}).items():
        for value in values:
            if value == args.get(name):
                break
            yield {**args, name: value}


# --- bytes ----------------------------------------------------------------------------------------------------------------

NTH: tuple[Any, ...] = (1, 1, 1, 1, 2, 2, 3, [1, 2, 3])
"""Which occurrences: mostly the first. The last choice is several in a row, as an outage would have it."""
TURNS, STEPS, CALLS = (*[1] * 10, 2, 2, 3), (*[1] * 9, 2, 2, 3), (*[1] * 10, *[2] * 6, 3, 8)
"""How many there are, each number as often as it is to be tried: most bugs need little, and little is quick."""
LEFT_OUT = (30, 128, 170, 200)
"""A fault is there when its first byte is at least this: mostly one or two of them."""
_TURN, _FAULT = 1 + MAX_STEPS * 2, 4
_BEFORE = 6 + MAX_TURNS * _TURN
SIZE = _BEFORE + MAX_FAULTS * _FAULT
"""Bytes of an encoded case."""


def decode(
    data: bytes, *, coordinator: str, profile: Profile, world: str = "simulation", demand: Sequence[str] = (),
    retry_budget: RetryBudget | None = None,
) -> Case:
    """The case that these `SIZE` bytes mean. Every sequence of bytes means one."""
    known = moves(profile, world)
    byte = iter(data)
    take = functools.partial(_take, byte)
    turns, instances, repeat = take(TURNS), take((2, 2, 3)), take(("400", "400", *REPEATS))
    seed = next(byte)
    skew, lag = take((0.0, 0.0, 60.0)), take((0.0, 0.0, 0.0, 0.3))
    shapes = [_steps(byte) for _ in range(MAX_TURNS)][:turns]
    rules: list[tuple[Rule, ...]] = [()] * turns
    for left_out in LEFT_OUT:
        there, move, args, nth = next(byte) >= left_out, take(known), next(byte), next(byte)
        if there:
            rules[nth % turns] += move.rules(args, NTH[nth // turns % len(NTH)])
    settings = {name: value for name, value in (("clock_skew", skew), ("replica_lag", lag)) if value and world == "simulation"}
    return Case(
        coordinator=coordinator, gateway=profile.name, seed=seed, instances=instances, repeat_submit=repeat,
        settings=settings, demand=tuple(demand), retry_budget=retry_budget,
        turns=tuple(CaseTurn(shape, mine) for shape, mine in zip(shapes, rules, strict=True)),
    )


def sweep(profile: Profile, seed: int, world: str = "simulation") -> Iterator[bytes]:
    """Encoded cases without end, with one fault each: every fault at every point before any comes again.

    Every second move has a second turn beside the one that is hit, for what is to be kept apart.
    """
    dice = random.Random(f"sweep/{seed}")
    order = list(range(len(moves(profile, world))))
    two = _byte_of(TURNS.index(2), len(TURNS))
    while True:
        dice.shuffle(order)
        for number in order:
            data = bytearray(dice.randbytes(_BEFORE) + bytes(MAX_FAULTS * _FAULT))
            data[0] = two if number % 2 else 0
            data[_BEFORE : _BEFORE + 3] = 255, _byte_of(number, len(order)), dice.randrange(256)
            yield bytes(data)


def pairs(profile: Profile, seed: int, world: str = "simulation") -> Iterator[bytes]:
    """Encoded cases without end, in each a fault after which something is not known and one that asks for it again.

    Apart they are survived by coordinators that die of both, and two faults drawn at random are seldom such a pair.
    """
    dice = random.Random(f"pairs/{seed}")
    known = moves(profile, world)
    numbers = {(move.fault, move.when["event"]): number for number, move in enumerate(known)}
    forgets = [n for (fault, event), n in numbers.items() if event in FORGETS.get(fault, ())]
    both = list(itertools.product(forgets, (n for (fault, _), n in numbers.items() if fault in REPEATED)))
    while True:
        dice.shuffle(both)
        for pair in both:
            data = bytearray(dice.randbytes(_BEFORE) + bytes(MAX_FAULTS * _FAULT))
            data[0] = 0
            for place, number in enumerate(pair):
                start = _BEFORE + place * _FAULT
                data[start : start + 3] = 255, _byte_of(number, len(known)), dice.randrange(256)
            yield bytes(data)


def compact(coordinator: str, profile: Profile, **more: Any) -> st.SearchStrategy[Case]:
    """Cases for volume; `more` as `decode` takes it."""
    from hypothesis import strategies as st

    read = functools.partial(decode, coordinator=coordinator, profile=profile, **more)
    return st.binary(min_size=SIZE, max_size=SIZE).map(read)


def _take(byte: Iterator[int], options: Sequence[T]) -> T:
    return options[next(byte) * len(options) // 256]


def _byte_of(number: int, options: int) -> int:
    """The byte with which `_take` takes the option of that number."""
    return -(-number * 256 // options)


def _steps(byte: Iterator[int]) -> tuple[tuple[str, ...], ...]:
    count = _take(byte, STEPS)
    steps = []
    for _ in range(MAX_STEPS):
        calls, dice = _take(byte, CALLS), next(byte)
        words = [(*KNOWN_TOOLS, TWIN)[dice // 4 ** (i % 4) % 4] for i in range(calls)]
        steps.append(tuple(KNOWN_TOOLS[0] if i == 0 and word == TWIN else word for i, word in enumerate(words)))
    return tuple(steps[:count])


# --- strategies to read and combine ------------------------------------------------------------------------------------


def turns() -> st.SearchStrategy[tuple[tuple[str, ...], ...]]:
    """The steps of a turn: 1 to 3, each with 1 to 8 parallel calls, identical ones on purpose."""
    from hypothesis import strategies as st

    first, further = st.sampled_from(KNOWN_TOOLS), st.lists(st.sampled_from((*KNOWN_TOOLS, TWIN)), max_size=MAX_CALLS - 1)
    step = st.tuples(first, further).map(lambda parts: (parts[0], *parts[1]))
    return st.lists(step, min_size=1, max_size=MAX_STEPS).map(tuple)


def faults(profile: Profile, world: str = "simulation") -> st.SearchStrategy[tuple[Rule, ...]]:
    """One fault at a protocol point: failing and slow tools, lost messages, cancels, kills, pauses of several lengths ..."""
    from hypothesis import strategies as st

    return st.builds(Move.rules, st.sampled_from(moves(profile, world)), st.integers(0, 255), st.sampled_from(NTH[3:]))


def cases(coordinator: str, profile: Profile, world: str = "simulation", **more: Any) -> st.SearchStrategy[Case]:
    """Whole cases; `more` are fields of `Case` that are to be as given."""
    from hypothesis import strategies as st

    plan = st.lists(faults(profile, world), max_size=MAX_FAULTS).map(lambda found: tuple(r for rules in found for r in rules))
    turn = st.builds(CaseTurn, turns(), plan)
    drawn: dict[str, Any] = {
        "turns": st.lists(turn, min_size=1, max_size=MAX_TURNS).map(tuple), "instances": st.sampled_from((2, 3)),
        "repeat_submit": st.sampled_from(REPEATS), "seed": st.integers(0, 255),
    }
    fixed = {name: st.just(value) for name, value in more.items()}
    return st.builds(Case, coordinator=st.just(coordinator), gateway=st.just(profile.name), **{**drawn, **fixed})


# --- tables -------------------------------------------------------------------------------------------------------------


def _point(event: str) -> Mapping[str, Any]:
    """Where it matters which occurrence is meant, the telling one."""
    if event == "run_told":
        return {"event": event, "status": "requires_action"}
    if event == "turn_answered":
        return {"event": event, "http_status": 202}
    return {"event": event}


def _combinations(choices: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values, the one with all first values first."""
    if not choices:
        yield {}
        return
    (name, values), *rest = choices.items()
    for more in _combinations(dict(rest)):
        for value in values:
            yield {name: value, **more}


def _fair(profile: Profile, fault: str, args: Mapping[str, Any]) -> bool:
    """Whether the gateway's promises stay whole: requests land within its bound, and keys live as long as repeats come."""
    bound = profile.delivery_bound
    if profile.lookup and bound is not None and fault in ("slow", "pause"):
        return bool(args["seconds"] < bound)
    if profile.honours_key and fault == "clock_jump" and args["which"] == "all":
        return bool(args["seconds"] < profile.redelivery_window)
    return True


@functools.lru_cache(maxsize=20_000)
def _parsed(text: str) -> tuple[Rule, ...]:
    return rules_of(json.loads(text))
