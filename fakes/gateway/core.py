"""The gateway's rules: what a request is worth, what may be committed, what repeats get. No I/O, no waiting."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence

from fakes.gateway.call import ToolCall
from fakes.gateway.fences import Fences
from fakes.gateway.keys import Keys, Scope
from fakes.gateway.ledger import Ledger
from fakes.gateway.profile import Profile
from fakes.gateway.result import Effect, EffectMaker, Failure, Result
from fakes.ids import Ids


class Kind(enum.Enum):
    """What a request turned out to be."""

    NEW = "new"
    REPLAY = "replay"
    IN_PROGRESS = "in_progress"
    MISMATCH = "mismatch"
    FENCED = "fenced"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """The decision on one request; `result` is its answer, None where the work is still to be done (NEW)."""

    kind: Kind
    result: Result | None = None


_NEW = Decision(Kind.NEW)


class GatewayCore:
    """A tool gateway of one profile, as a state machine.

    A request goes `begin`, then, when it is new, `commit` and `finish`. Time may pass between these: the endpoint
    sleeps there, and others may come in.

    Args:
        clock: seconds, any origin.
        ids: the source of request ids, which effects end with, and of error ids.
    """

    def __init__(self, profile: Profile, *, clock: Callable[[], float], ids: Ids) -> None:
        self.profile = profile
        self.ids = ids
        self._clock = clock
        self._error = ids.number(10000, 59999)
        self.reset()

    def reset(self) -> None:
        """Forget the ledger, the keys, the fences and the failures."""
        self.ledger = Ledger()
        self._keys = Keys(self.profile.key_ttl)
        self._fences = Fences()
        self._failures: dict[tuple[str, ...], Failure] = {}
        self._maker = EffectMaker()

    def forget(self, before: float) -> None:
        """Let go of effects and keys from before that time, whatever the keys' time to live."""
        self.ledger.forget(before)
        self._keys.forget(before)

    def begin(self, call: ToolCall) -> Decision:
        """Decide about a request as it arrives. A new one that sends an honoured key holds that key from here on."""
        fenced = self._fenced(call)
        if fenced is not None:
            return Decision(Kind.FENCED, fenced)
        failure = self._failed(call)
        scope = self._scope(call)
        if scope is not None:
            now = self._clock()
            entry = self._keys.find(scope, now)
            if entry is not None:
                if entry.payload_hash != call.payload_hash:
                    return Decision(Kind.MISMATCH, _mismatch(call))
                if entry.result is None:
                    return Decision(Kind.IN_PROGRESS, _in_progress(call))
                return Decision(Kind.REPLAY, entry.result)
            self._keys.hold(scope, call.payload_hash, call.request_id, now)
            if failure is not None:
                self._keys.store(scope, call.request_id, failure)
        return _NEW if failure is None else Decision(Kind.FAILED, failure)

    def commit(self, call: ToolCall, *, poison: bool = False) -> Result:
        """Do the work of a new request: an Effect, now in the ledger, or the Failure that kept it from being committed.

        What may have come between arrival and now: a fence, a failure for good, or the end of the delivery bound.
        """
        refused = self._fenced(call) or self._failed(call) or self._expired(call)
        if refused is not None:
            return refused
        effect = self._maker.make(call, self._clock(), poison=poison)
        self.ledger.append(effect)
        return effect

    def finish(self, call: ToolCall, result: Result) -> None:
        """The answer of a new request is known: keep it under its key, or let the key go when there is nothing to keep."""
        scope = self._scope(call)
        if scope is None:
            return
        if isinstance(result, Effect) or result.from_tool:
            self._keys.store(scope, call.request_id, result)
        else:
            self._keys.release(scope, call.request_id)

    def fail(self, call: ToolCall, status: int) -> Failure | None:
        """Have this call fail for good, at every repeat too; None when it has an effect already, which would be a lie."""
        if self.ledger.knows(call.identity):
            return None
        known = self._failures.get(call.identity)
        if known is None:
            self._error += 1
            message = f"{call.tool} cannot be done: the provider refused it for good (error ERR-{self._error})"
            known = self._failures[call.identity] = Failure(status, "tool_failed", message)
        return known

    def lookup(self, tool_call_id: str) -> Sequence[Effect]:
        """The effects committed for a call so far."""
        return self.ledger.of(tool_call_id)

    def raise_fence(self, tool_call_id: str, fence: int) -> int:
        """Shut out every request for this call below `fence`, those in flight included; returns the fence in force."""
        return self._fences.raise_to(tool_call_id, fence)

    def prune_keys(self) -> int:
        """Forget every idempotency key; returns how many there were."""
        return self._keys.forget_all()

    def _scope(self, call: ToolCall) -> Scope | None:
        return (call.tool, call.key) if self.profile.honours_key and call.key is not None else None

    def _failed(self, call: ToolCall) -> Failure | None:
        return self._failures.get(call.identity) if self._failures else None

    def _fenced(self, call: ToolCall) -> Failure | None:
        raised = self._fences.blocking(call)
        if raised is None:
            return None
        sent = "no fence" if call.fence is None else f"fence {call.fence}"
        return Failure(409, "fenced", f"the fence of this call was raised to {raised}, and the request carries {sent}")

    def _expired(self, call: ToolCall) -> Failure | None:
        bound = self.profile.work_bound
        if bound is None or self._clock() - call.arrived <= bound:
            return None
        return Failure(504, "expired", f"the tool did not start within {bound:g} s; nothing was done, and nothing will be")


def _mismatch(call: ToolCall) -> Failure:
    return Failure(
        400, "idempotency_mismatch", f"key {call.key!r} was used at {call.tool} with other arguments; send a key of its own"
    )


def _in_progress(call: ToolCall) -> Failure:
    return Failure(409, "in_progress", f"the first request with key {call.key!r} is still in flight; try again later")
