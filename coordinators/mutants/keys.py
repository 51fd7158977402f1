"""Idempotency keys that vary where they must not, or do not vary where they must. Only a gateway that honours keys shows it."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from coordinators.common.gateway import ToolRequest
from coordinators.common.http import Answer
from coordinators.hardened import Hardened
from coordinators.hardened.dispatch import Dispatcher
from coordinators.hardened.records import Claim
from coordinators.hardened.recovery import Keyed, Outcome, Recovery
from coordinators.mutants.variant import app


class _NewKeyEachTime(Dispatcher):
    def idempotency_key(self, claim: Claim) -> str:
        return f"{super().idempotency_key(claim)}:{self.now():.6f}"


class NewKeyPerRetry(Hardened):
    """Every request gets a key of its own, so that no repeat is known as one.

    Symptoms: S1, S6. Exposed by late_callback or slow, which make it repeat. Breaks C1 where keys are honoured; elsewhere
    nothing is repeated because of its key.
    """

    dispatcher_class = _NewKeyEachTime


class _AttemptInKey(Dispatcher):
    def idempotency_key(self, claim: Claim) -> str:
        return f"{super().idempotency_key(claim)}:{claim.attempt}"


class AttemptInKey(Hardened):
    """The attempt's number is part of the key: the second attempt is another request to the gateway.

    Symptoms: S1, S6. Exposed by late_callback or slow. Breaks C1 where keys are honoured.
    """

    dispatcher_class = _AttemptInKey


KEPT = 86_400.0
"""Seconds for which most gateways keep a key."""


class _KeysForADay(Dispatcher):
    def policy(self) -> Recovery:
        if self.capabilities is not None and self.capabilities.idempotency_key:
            return Keyed(KEPT)
        return super().policy()


class KeyTtlIgnored(Hardened):
    """Every gateway is taken to keep keys for a day, although this one forgets them sooner than requests are repeated.

    Symptoms: S1, S6. Exposed by late_callback or slow at a gateway that does so (profile keyed-short-ttl). Breaks C1. Hidden by
    one that keeps them for a day.
    """

    dispatcher_class = _KeysForADay


class _KeyWithoutRun(Dispatcher):
    def idempotency_key(self, claim: Claim) -> str:
        return f"{claim.ordinal}:{claim.position}"


class KeyWithoutRunId(Hardened):
    """The key says which step and position, and not of which run: another conversation's call has the same key.

    Exposed by two turns that use one tool at the same place; no fault is needed. Breaks C2 where keys are honoured: the second
    call is refused for its other arguments.
    """

    dispatcher_class = _KeyWithoutRun


class _KeyWithoutCall(Dispatcher):
    def idempotency_key(self, claim: Claim) -> str:
        return claim.run_id


class KeyWithoutCallId(Hardened):
    """The key says which run, and not which step and call: the second use of a tool in a run has the key of the first.

    Exposed by two calls of one tool in a run; no fault is needed. Breaks C2 where keys are honoured, C11 when they are alike.
    """

    dispatcher_class = _KeyWithoutCall


class _PayloadHashKey(Dispatcher):
    def idempotency_key(self, claim: Claim) -> str:
        return hashlib.sha256(f"{claim.tool} {claim.arguments}".encode()).hexdigest()


class PayloadHashKey(Hardened):
    """The key is the hash of what is asked for: two calls that are alike are merged into one.

    Exposed by identical calls in one step; no fault is needed. Breaks C11 (and C3: both are told the same effect) where keys
    are honoured.
    """

    dispatcher_class = _PayloadHashKey


class _OtherKeyAfter5xx(Dispatcher):
    async def understand(self, claim: Claim, answer: Answer) -> Outcome:
        if answer.status < 500 or claim.attempt > 1:
            return await super().understand(claim, answer)
        again = dataclasses.replace(claim, attempt=2)
        request = self.tool_request(again, json.loads(claim.arguments))
        other = dataclasses.replace(request, idempotency_key=f"{request.idempotency_key}:again")
        return await super().understand(again, await self.gateway.request(other))


class ServerErrorRetriedUnderNewKey(Hardened):
    """A 5xx is taken for "nothing happened": the call is sent again at once, and under another key.

    Symptoms: S1, S7. Exposed by commit_then_500. Breaks C1 at every gateway.
    """

    dispatcher_class = _OtherKeyAfter5xx


class _ChangedArguments(Dispatcher):
    def tool_request(self, claim: Claim, arguments: dict[str, object]) -> ToolRequest:
        attempt = {"attempt": claim.attempt} if claim.attempt > 1 else {}
        return super().tool_request(claim, {**arguments, **attempt})

    async def understand(self, claim: Claim, answer: Answer) -> Outcome:
        if answer.error.get("code") in ("idempotency_mismatch", "in_progress"):
            await self.settle(claim, '{"status":"done"}')
            return Outcome.SETTLED
        return await super().understand(claim, answer)


class KeyReusedWithOtherArguments(Hardened):
    """A repeat says in its arguments that it is one, under the old key; the gateway's refusal is taken for "done already".

    Symptoms: S6. Exposed by late_callback or slow. Breaks C3 where keys are honoured: the model is told of a result that nobody
    has seen.
    """

    dispatcher_class = _ChangedArguments


new_key_per_retry = app(NewKeyPerRetry)
attempt_in_key = app(AttemptInKey)
key_ttl_ignored = app(KeyTtlIgnored)
key_without_run_id = app(KeyWithoutRunId)
key_without_call_id = app(KeyWithoutCallId)
payload_hash_key = app(PayloadHashKey)
server_error_retried_under_new_key = app(ServerErrorRetriedUnderNewKey)
key_reused_with_other_arguments = app(KeyReusedWithOtherArguments)
