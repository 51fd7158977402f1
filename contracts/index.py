"""The index: one pass over a history, after which every contract finds what it asks about in constant time.

Building it is linear in the number of events, and so is each contract's own pass over it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from contracts.attribution import NOTHING, Attribution, Families
from contracts.disturbances import Disturbances
from contracts.records import Attempt, Effect, Family, Intent, IssuedCall, Run, Submit, Told, Turn
from fakes import history as h

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = re.compile(r"\\[nrtbf]")


def words_of(text: str) -> dict[str, None]:
    """The words of an output, in order: an external id that it quotes is one of them."""
    return dict.fromkeys(_WORD.findall(_ESCAPED.sub(" ", text)))


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What cannot be seen from a part of a history: the whole is one part, with nothing elsewhere.

    `shared` are the numbers of the events that all parts have; the `first` part counts them.
    """

    end: float
    empty: bool = False
    elsewhere: Callable[[int], h.Event | None] = lambda seq: None
    shared: Collection[int] = ()
    first: bool = True
    poisoned: bool = False
    """somewhere a call was poisoned or failed for good by a fault of its conversation"""
    nameless: bool = False
    stray: frozenset[None] = frozenset()
    """None where somewhere a run of no conversation has no turn"""


class Index:
    """What happened, by turn, run, call, intent, effect and instance.

    Args:
        events: a history, in order. Numbers (`seq`) need not be without gaps.
        part: given where the events are a part of a history, what cannot be seen from there.
    """

    def __init__(self, events: Sequence[h.Event], part: Part | None = None) -> None:
        self.events = events
        self.part = part or Part(end=events[-1].t if events else 0.0, empty=not events)
        self.turns: dict[str, Turn] = {}
        self.runs: dict[str, Run] = {}
        self.calls: dict[str, IssuedCall] = {}
        self.intents: list[Intent] = []
        self.families: list[Family] = []
        self.attempts: dict[str, Attempt] = {}
        self.effects: list[Effect] = []
        self.submits: dict[str, Submit] = {}
        self.by_external_id: dict[str, Effect] = {}
        self.faults = Disturbances()
        self.knowledge: list[h.Event] = []
        """in order: what instances were told and sent, the lives of instances, and accepted submits"""
        self.started: dict[str, h.InstanceStarted] = {}
        self.ready: set[str] = set()
        self.exits: list[h.InstanceExited] = []
        self.quiesce: h.QuiesceStarted | None = None
        self.quiesced: h.QuiesceEnded | None = None
        self.budget_ended: h.BudgetEnded | None = None
        self.interrupted: h.RunInterrupted | None = None
        self.end = self.part.end
        self._by_intent: dict[tuple[tuple[str, int], int], Intent] = {}
        self._by_step: dict[tuple[str, int], int] = {}
        self._by_nonce: Families = {}
        self._by_payload: Families = {}
        self._in_doubt: list[h.InDoubtReported] = []
        self._seq: dict[int, h.Event] | None = None
        self._read()
        self.faults.close()
        self._attribute()
        self._quote()
        self._share_out()
        self.unattributed = [e for e in self.effects if e.target.by == "nothing"]
        self.stray = {run.conversation for run in self.runs.values() if run.turn is None} | self.part.stray
        """conversations with a run that lost its tie to a turn (the message was changed on its way)"""
        self._unsure = {e.event.conversation for e in self.unattributed}
        self.nameless = None in self._unsure or self.part.nameless
        """whether there is an effect that nobody can attribute to a call, nor to a conversation"""

    def event(self, seq: int) -> h.Event | None:
        """The event of that number."""
        if 0 < seq <= len(self.events) and self.events[seq - 1].seq == seq:
            return self.events[seq - 1]
        if self._seq is None:
            self._seq = {event.seq: event for event in self.events}
        return self._seq.get(seq) or self.part.elsewhere(seq)

    def sender(self, request_id: str) -> str | None:
        """The instance that sent a request to a tool."""
        attempt = self.attempts.get(request_id)
        return attempt.request.instance if attempt is not None and attempt.request is not None else None

    def counts(self, event: int) -> bool:
        """Whether what began with that event is counted here; what all parts of a history have is counted in one."""
        return self.part.first or event not in self.part.shared

    def unsure(self, conversation: str | None) -> bool:
        """Whether an effect that nobody can attribute may belong to this conversation."""
        return conversation in self._unsure or self.nameless

    # --- the pass over the events ---

    def _read(self) -> None:
        handlers: dict[type[h.Event], Callable[[Any], None]] = {
            h.TurnPlanned: self._turn_planned,
            h.TurnSent: lambda e: self._turn(e).sent.append(e),
            h.TurnEnded: lambda e: setattr(self._turn(e), "ended", e),
            h.InstanceStarted: self._instance_started,
            h.InstanceReady: lambda e: self.ready.add(e.instance),
            h.InstanceExited: self._instance_exited,
            h.FaultIntended: self.faults.intended,
            h.FaultInjected: self.faults.injected,
            h.FaultHealed: self.faults.healed,
            h.FaultFailed: self.faults.failed.append,
            h.BudgetEnded: lambda e: setattr(self, "budget_ended", e),
            h.QuiesceStarted: lambda e: setattr(self, "quiesce", e),
            h.QuiesceEnded: lambda e: setattr(self, "quiesced", e),
            h.InDoubtReported: self._in_doubt.append,
            h.RunInterrupted: lambda e: setattr(self, "interrupted", e),
            h.RunCreated: self._run_created,
            h.ActionRequired: self._action_required,
            h.RunTold: self._run_told,
            h.SubmitReceived: self._submit_received,
            h.SubmitAccepted: self._submit_accepted,
            h.SubmitRefused: self._submit_refused,
            h.RunEnded: lambda e: setattr(self._run(e), "ended", e),
            h.ToolRequested: self._tool_requested,
            h.EffectCommitted: self._effect_committed,
            h.ToolReplied: lambda e: self._attempt(e.request_id).replies.append(e),
            h.CallbackPosted: lambda e: self._attempt(e.request_id).posts.append(e),
        }
        for event in self.events:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)

    def _turn(self, event: Any) -> Turn:
        turn = self.turns.get(event.turn_id)
        if turn is None:
            turn = self.turns[event.turn_id] = Turn(event.turn_id, event.conversation, event.seq)
        return turn

    def _run(self, event: Any) -> Run:
        run = self.runs.get(event.run_id)
        if run is None:
            run = self.runs[event.run_id] = Run(event.run_id, event.conversation, event.seq)
        return run

    def _attempt(self, request_id: str) -> Attempt:
        attempt = self.attempts.get(request_id)
        if attempt is None:
            attempt = self.attempts[request_id] = Attempt(request_id)
        return attempt

    def _turn_planned(self, event: h.TurnPlanned) -> None:
        self._turn(event).planned = event

    def _instance_started(self, event: h.InstanceStarted) -> None:
        self.started[event.instance] = event
        self.knowledge.append(event)

    def _instance_exited(self, event: h.InstanceExited) -> None:
        self.exits.append(event)
        self.knowledge.append(event)

    def _run_created(self, event: h.RunCreated) -> None:
        run = self._run(event)
        run.created = event
        self._bind(run, event)

    def _bind(self, run: Run, event: h.RunCreated | h.ActionRequired) -> None:
        """Tie the run to its turn, once that is known."""
        if run.turn is None and event.turn_id is not None:
            run.turn = self._turn(event)
            run.turn.runs.append(run)
        run.conversation = run.conversation or event.conversation or (run.turn.conversation if run.turn else None)

    def _action_required(self, event: h.ActionRequired) -> None:
        run = self._run(event)
        self._bind(run, event)
        run.asked.append(event)
        if event.generation > 1:
            for earlier in run.calls.values():
                earlier.superseded = earlier.superseded or earlier.ordinal == event.ordinal
        step = (run.turn.turn_id if run.turn else f"run {run.run_id}", event.ordinal)
        resized = self._by_step.setdefault(step, len(event.calls)) != len(event.calls)
        for asked in event.calls:
            call = run.calls.get(asked.tool_call_id)
            if call is None:
                call = self._issue(run, step, asked, event.seq)
            call.superseded = False
            call.asked.append(event)
            call.intent.changed = call.intent.changed or resized

    def _issue(self, run: Run, step: tuple[str, int], asked: h.Call, seq: int) -> IssuedCall:
        intent = self._by_intent.get((step, asked.position))
        if intent is None:
            family = self._family(asked, run.conversation, seq)
            intent = Intent(run.turn, run.conversation, step, asked.position, family, seq)
            self._by_intent[step, asked.position] = intent
            self.intents.append(intent)
            family.intents.append(intent)
            if run.turn is not None:
                run.turn.intents.append(intent)
        call = IssuedCall(
            asked.tool_call_id, asked.tool, asked.nonce, asked.payload_hash, run, step[1], asked.position, intent
        )
        first = intent.calls[0] if intent.calls else call
        if (first.tool, first.payload_hash) != (call.tool, call.payload_hash):
            intent.changed = True
        intent.calls.append(call)
        intent.family.calls.append(call)
        self.calls[call.tool_call_id] = run.calls[call.tool_call_id] = call
        return call

    def _family(self, asked: h.Call, conversation: str | None, seq: int) -> Family:
        by_payload = self._by_payload.setdefault((asked.tool, asked.payload_hash), {})
        by_nonce = by_payload if asked.nonce is None else self._by_nonce.setdefault((asked.tool, asked.nonce), {})
        family = by_nonce.get(conversation)
        if family is None:
            family = by_nonce[conversation] = Family(conversation, seq)
            self.families.append(family)
        if by_payload.setdefault(conversation, family) is not family:
            by_payload[conversation] = None
        return family

    def _run_told(self, event: h.RunTold) -> None:
        self._run(event).tells.append(event)
        self.knowledge.append(event)

    def _submit(self, event: h.SubmitReceived | h.SubmitAccepted | h.SubmitRefused) -> Submit:
        submit = self.submits.get(event.submit_id)
        if submit is None:
            run = self._run(event)
            submit = self.submits[event.submit_id] = Submit(event.submit_id, run)
            run.submits.append(submit)
        return submit

    def _submit_received(self, event: h.SubmitReceived) -> None:
        submit = self._submit(event)
        submit.received = event
        for call_id in {output.tool_call_id for output in event.outputs}:
            call = submit.run.calls.get(call_id)
            if call is not None:
                call.submits.append(submit)

    def _submit_accepted(self, event: h.SubmitAccepted) -> None:
        submit = self._submit(event)
        submit.accepted = event
        self.knowledge.append(event)
        if event.repeat:
            return
        for output in event.outputs:
            call = submit.run.calls.get(output.tool_call_id)
            if call is not None:
                call.told.append(Told(call, event, output.output))
                if submit.received is None:
                    call.submits.append(submit)

    def _submit_refused(self, event: h.SubmitRefused) -> None:
        self._submit(event).refused = event

    def _tool_requested(self, event: h.ToolRequested) -> None:
        self._attempt(event.request_id).request = event
        self.knowledge.append(event)

    def _effect_committed(self, event: h.EffectCommitted) -> None:
        attempt = self._attempt(event.request_id)
        effect = Effect(event, attempt)
        attempt.effects.append(effect)
        self.effects.append(effect)

    # --- what follows from the whole ---

    def _attribute(self) -> None:
        attribution = Attribution(self.calls, self._by_nonce, self._by_payload)
        for attempt in self.attempts.values():
            source = attempt.request or next((e.event for e in attempt.effects), None) or next(iter(attempt.replies), None)
            target = attempt.target = attribution.target(source) if source is not None else NOTHING
            holder = target.intent or target.family
            if holder is not None:
                holder.attempts.append(attempt)
            for effect in attempt.effects:
                effect.target = target = attribution.target(effect.event)
                if target.call is not None:
                    target.call.effects.append(effect)
                elif target.intent is not None:
                    target.intent.loose.append(effect)
                elif target.family is not None:
                    target.family.loose.append(effect)
        for report in self._in_doubt:
            call = self.calls.get(report.tool_call_id)
            if call is not None:
                call.in_doubt.append(report)

    def _quote(self) -> None:
        """Find in every accepted output the external ids that it quotes, whatever its format."""
        known = self.by_external_id
        for effect in self.effects:
            known.setdefault(effect.external_id, effect)
        for call in self.calls.values():
            for told in call.told:
                told.quoted = [known[word] for word in words_of(told.text) if word in known]

    def _share_out(self) -> None:
        """Give each intent the effects that serve it; a family's loose ones go where they are quoted, else where one lacks."""
        for family in self.families:
            for intent in family.intents:
                intent.effects = [*intent.loose, *(effect for call in intent.calls for effect in call.effects)]
            left = dict.fromkeys(family.loose)
            for intent in family.intents if left else ():
                quoted = (effect for told in intent.told() for effect in told.quoted if effect in left)
                effect = None if intent.effects else next(quoted, None)
                if effect is not None:
                    del left[effect]
                    intent.effects.append(effect)
            for intent in family.intents:
                if left and not intent.effects:
                    effect = next(iter(left))
                    del left[effect]
                    intent.effects.append(effect)
            family.intents[0].effects += left
