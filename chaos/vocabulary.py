"""Every fault word that a plan may use: those of the fakes, and those on the wire, on processes, stores and delivery."""

from __future__ import annotations

from collections.abc import Mapping

from fakes.faults import FAKE_FAULTS, FaultKind, Param

ANY = ("*",)
POINTS = frozenset(
    # the driver of turns, the fake Assistants API, the fake LLM serving, the fake tool gateway
    "turn_sent turn_answered turn_ended "
    "message_added run_created action_required run_told submit_received submit_accepted submit_refused run_ended "
    "generation_started generation_ended replica_started replica_exited "
    "tool_requested effect_committed tool_replied callback_due callback_posted".split()
)
"""The protocol points: the events at which the nemesis is asked. The other events are only recorded."""
EDGES = ("assistants", "tool-gateway", "tool-results", "llm", "store")
TOXICS = ("latency", "bandwidth", "slow_close", "timeout", "slicer", "limit_data", "reset_peer")
WHICH = ("sender", "other", "any", "all")
MISCHIEF = ("lose_request", "lose_reply", "delay", "duplicate", "reorder", "no_connect")

_EDGE = Param(EDGES, "tool-gateway", "the edge: every proxy of it, or the sender's with which = sender")
_TARGET = Param(
    ("coordinator", "replica", "store"), "coordinator", "what kind of process (store: the Redis of --store redis, as a whole)"
)
_WHICH = Param(WHICH, "sender", "the instance that sent what the rule is about, another one, any one, or all")


def _kind(name: str, about: str, **params: Param) -> FaultKind:
    return FaultKind(name, about, ANY, params)


WORLD_FAULTS: Mapping[str, FaultKind] = {
    kind.name: kind
    for kind in (
        _kind("toxic", "put a toxic on an edge for some time",
              proxy=_EDGE, type=Param(TOXICS, "latency", "a Toxiproxy toxic"),
              attributes=Param(dict, {}, "the toxic's attributes, whole numbers, in Toxiproxy's units"),
              stream=Param(("downstream", "upstream"), "downstream", "direction"),
              toxicity=Param(float, 1.0, "share of connections"), which=Param(WHICH, "all", "whose connections"),
              seconds=Param(float, 1.0, "how long")),
        _kind("proxy_down", "an edge refuses and drops every connection for some time",
              proxy=_EDGE, which=Param(WHICH, "all", "whose connections"), seconds=Param(float, 0.5, "how long")),
        _kind("kill", "SIGKILL to the whole process group, started again after a while",
              target=_TARGET, which=_WHICH, seconds=Param(float, 0.2, "how long it stays down")),
        _kind("pause", "SIGSTOP, then SIGCONT after a while",
              target=_TARGET, which=_WHICH, seconds=Param(float, 0.5, "how long it stands still")),
        _kind("restart", "SIGTERM, a graceful stop, and started again at once", target=_TARGET, which=_WHICH),
        _kind("terminate", "SIGTERM, a graceful stop, started again after a while",
              target=_TARGET, which=_WHICH, seconds=Param(float, 1.0, "how long it stays down")),
        _kind("disconnect", "take a container off its networks for some time (in containers only)",
              target=_TARGET, which=_WHICH, seconds=Param(float, 1.0, "how long it is cut off")),
        _kind("resend_turn", "deliver the conversation's turn once more",
              to=Param(("same", "other", "any"), "other", "which instance gets it"),
              after=Param(float, 0.0, "seconds to wait first")),
        _kind("store_outage", "the shared store refuses every write for some time", seconds=Param(float, 0.5, "how long")),
        _kind("network", "single messages on an edge are lost, late, doubled or overtaken (simulation only)",
              proxy=_EDGE, what=Param(MISCHIEF, "lose_reply", "what happens to them (no_connect: a connection is not made)"),
              n=Param(int, 1, "to how many messages of each instance, from the next one on"),
              delay=Param(float, 0.5, "seconds: how late, how much later the double, the longest wait to be overtaken"),
              which=Param(WHICH, "all", "whose messages"), seconds=Param(float, 1.0, "how long it goes on at most")),
        _kind("clock_jump", "clocks jump ahead: everybody's, the fakes' included, or one instance's (simulation only)",
              seconds=Param(float, 86_400.0, "how far"), back=Param(("no", "yes"), "no", "backwards instead"),
              which=Param(WHICH, "all", "whose clock")),
    )
}
SIMULATION_ONLY = frozenset({"network", "clock_jump"})
"""Words that have no meaning on the wire."""
CONTAINERS_ONLY = frozenset({"disconnect"})
"""Words that have a meaning only where instances are containers."""

FAULTS: Mapping[str, FaultKind] = {**FAKE_FAULTS, **WORLD_FAULTS}


def applies(kind: FaultKind, event: str) -> bool:
    """Whether a fault of this kind can happen at an event of that kind."""
    return kind.points == ANY or event in kind.points
