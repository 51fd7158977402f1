"""A builder of hand-written histories: each method appends what one thing leaves behind.

Times move on by 0.3 s with each event, so that nothing lies within the race window unless a test says so.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from contracts import Judgement, judge
from fakes import history as h
from fakes.gateway.profile import PROFILES

ONE, TWO = "coordinator-1", "coordinator-2"
_IDS = {"create_ticket": "INC-{}", "send_email": "msg_{}", "refund_payment": "re_{}"}


@dataclasses.dataclass(frozen=True)
class Asked:
    """One call as the API issued it."""

    call: h.Call
    run: str
    conversation: str | None


class Past:
    """What happened, written by hand. `call_a` and so on are tool_call_ids, references are `C1_<turn><step><position>`."""

    def __init__(self) -> None:
        self.events: list[h.Event] = []
        self.t = 0.0
        self.step = 0.3
        self._asked: dict[str, Asked] = {}
        self._turn_of: dict[str, tuple[str | None, str | None]] = {}
        self._conversation_of: dict[str, str] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._number = 55101

    def add(self, cls: type[h.Event], **fields: Any) -> h.Event:
        """Append any event."""
        self.t = round(self.t + self.step, 6)
        made = cls(seq=len(self.events) + 1, t=self.t, **fields)
        self.events.append(made)
        return made

    def turn(
        self, turn: str = "t1", *, conversation: str = "C1", plan: str = "create_ticket", sends: int = 1,
        under: tuple[str, ...] = (),
    ) -> Past:
        """A turn is planned (`plan`: steps by "/", calls by ",", `under` these fault plans) and delivered."""
        steps = tuple(tuple(step.split(",")) for step in plan.split("/")) if plan else ()
        self._conversation_of[turn] = conversation
        self.add(h.TurnPlanned, conversation=conversation, turn_id=turn, plans=under, calls=steps)
        for attempt in range(1, sends + 1):
            self.sent(turn, attempt)
        return self

    def sent(self, turn: str, attempt: int = 1) -> Past:
        """The turn is delivered (again)."""
        self.add(h.TurnSent, conversation=self._conversation_of[turn], turn_id=turn, instance=ONE, attempt=attempt)
        return self

    def run(self, run: str = "run_1", turn: str | None = "t1", *, conversation: str | None = None) -> Past:
        """A run is created."""
        conversation = conversation or self._conversation_of.get(turn or "")
        self._turn_of[run] = (turn, conversation)
        self.add(h.RunCreated, conversation=conversation, run_id=run, thread_id=f"thread_{conversation}", turn_id=turn)
        return self

    def ask(
        self, *ids: str, run: str = "run_1", tool: str = "create_ticket", step: int = 0, generation: int = 1,
        alike: bool = False, nonce: bool = True, payload: str | None = None,
    ) -> Past:
        """The run asks for these calls; `alike` makes them identical in every argument."""
        turn, conversation = self._turn_of[run]
        calls = []
        for position, call_id in enumerate(ids):
            reference = f"{conversation}_{turn}{step}{0 if alike else position}"
            made = h.Call(
                tool_call_id=call_id, tool=tool, position=position, nonce=reference if nonce else None,
                payload_hash=payload or f"hash of {tool} {reference}",
            )
            calls.append(made)
            self._asked[call_id] = Asked(made, run, conversation)
        self.add(
            h.ActionRequired, conversation=conversation, run_id=run, thread_id=f"thread_{conversation}", step_id=f"step_{step}",
            ordinal=step, generation=generation, calls=tuple(calls), turn_id=turn,
        )
        return self

    def told(self, *ids: str, run: str = "run_1", status: str | None = None, by: str = ONE, stale: bool = False) -> Past:
        """An instance is told the state of the run."""
        conversation = self._turn_of[run][1]
        status = status or ("requires_action" if ids else "in_progress")
        self.add(
            h.RunTold, conversation=conversation, run_id=run, status=status, via="poll", waiting_for=ids, stale=stale,
            instance=by,
        )
        return self

    def request(
        self, call_id: str, *, named: bool = True, nonce: bool = True, key: str | None = None, by: str | None = ONE,
        call_id_sent: str | None = None, conversation: bool = True, run_sent: bool = False, payload: str | None = None,
    ) -> str:
        """A request for the call arrives; returns its request_id. `named` sends the tool_call_id."""
        asked = self._asked[call_id]
        fields = {
            "conversation": asked.conversation if conversation else None,
            "tool": asked.call.tool,
            "payload_hash": payload or asked.call.payload_hash,
            "nonce": asked.call.nonce if nonce else None,
            "tool_call_id": call_id_sent or (call_id if named else None),
            "run_id": asked.run if run_sent else None,
            "key": key,
            "request_id": f"req_{len(self._requests) + 1}",
        }
        self.add(h.ToolRequested, **fields, instance=by)
        self._requests[fields["request_id"]] = {**fields, "instance": by}
        return fields["request_id"]

    def commit(self, request: str) -> str:
        """The request has its effect; returns the external id."""
        self._number += 1
        fields = {k: v for k, v in self._requests[request].items() if k != "instance"}
        external = _IDS.get(fields["tool"], "eff_{}").format(self._number)
        self.add(h.EffectCommitted, **fields, effect_id=f"eff_{self._number}", external_id=external)
        return external

    def reply(
        self, request: str, external: str | None = None, *, status: int = 200, delivered: bool = True, error: str | None = None,
        replayed: bool = False,
    ) -> Past:
        """The gateway answers."""
        asked = self._requests[request]
        kept = {k: asked[k] for k in ("conversation", "request_id", "tool", "tool_call_id", "nonce", "instance")}
        definite = 400 <= status < 500 and status not in (408, 409, 425, 429)
        self.add(
            h.ToolReplied, **kept, http_status=status, delivered=delivered, latency_ms=5.0, external_id=external, error=error,
            definite=definite, replayed=replayed,
        )
        return self

    def did(self, call_id: str, *, lost: bool = False, **how: Any) -> str:
        """Request, effect and answer (`lost`: cut off); returns the external id."""
        request = self.request(call_id, **how)
        external = self.commit(request)
        self.reply(request, external, delivered=not lost)
        return external

    def failed(self, call_id: str, *, status: int = 422, error: str = "refused for good (error ERR-10001)", **how: Any) -> Past:
        """Request, and an answer that it failed for good."""
        return self.reply(self.request(call_id, **how), status=status, error=error)

    def submit(
        self, outputs: dict[str, str], *, run: str = "run_1", step: int = 0, refused: int | None = None, by: str = ONE,
        repeat: bool = False, lost: bool = False,
    ) -> Past:
        """Outputs are submitted, and accepted unless `refused` (an HTTP status) or `lost`."""
        conversation = self._turn_of[run][1]
        sent = tuple(h.Output(tool_call_id=c, output=o) for c, o in outputs.items())
        common = {"conversation": conversation, "run_id": run, "submit_id": f"submit_{len(self.events)}", "instance": by}
        self.add(h.SubmitReceived, **common, outputs=sent)
        if refused is not None:
            self.add(h.SubmitRefused, **common, http_status=refused, message="the run does not wait for outputs")
        elif not lost:
            self.add(h.SubmitAccepted, **common, step_id=f"step_{step}", ordinal=step, outputs=sent, repeat=repeat)
        return self

    def ended(self, run: str = "run_1", status: str = "completed") -> Past:
        """The run ends."""
        self.add(h.RunEnded, conversation=self._turn_of[run][1], run_id=run, status=status)
        return self

    def done(self, turn: str = "t1", status: str = "done", detail: str | None = None) -> Past:
        """The turn ends."""
        self.add(h.TurnEnded, conversation=self._conversation_of[turn], turn_id=turn, status=status, detail=detail)
        return self

    def fault(
        self, name: str, conversation: str | None = "C1", *, rule: str = "plan/1", heal: bool = False, **args: Any
    ) -> Past:
        """A fault happens; `conversation` None is one that touches everybody."""
        self.add(h.FaultIntended, conversation=conversation, rule=rule, fault=name, args=args, cause=len(self.events) or None)
        self.add(h.FaultInjected, conversation=conversation, rule=rule, fault=name)
        if heal:
            self.add(h.FaultHealed, rule=rule, fault=name)
        return self

    def doubt(self, call_id: str, by: str = ONE) -> Past:
        """An instance reports the call in doubt."""
        self.add(h.InDoubtReported, conversation=self._asked[call_id].conversation, instance=by, tool_call_id=call_id)
        return self

    def wait(self, seconds: float) -> Past:
        """Time goes by."""
        self.t += seconds
        return self

    def rest(self) -> Past:
        """Quiesce starts and ends."""
        self.add(h.QuiesceStarted, budget=10.0)
        self.add(h.QuiesceEnded, settled=True)
        return self

    def judge(self, gateway: str = "keyed", **how: Any) -> Judgement:
        """The judgement at the gateway of that profile."""
        return judge(self.events, PROFILES[gateway], **how)

    def broken(self, gateway: str = "keyed", **how: Any) -> list[tuple[str, str]]:
        """(contract, shape) of every violation, in order."""
        return [(v.contract, v.shape) for v in self.judge(gateway, **how).violations]


def good(
    past: Past | None = None, *ids: str, named: bool = True, turn: str = "t1", conversation: str = "C1", **ask: Any
) -> Past:
    """A turn that goes well: one step, one effect and one true output per call, answered."""
    past = past or Past()
    ids = ids or (f"call_{turn}",)
    run = f"run_{turn}"
    plan = ",".join(ask.get("tool", "create_ticket") for _ in ids)
    past.turn(turn, conversation=conversation, plan=plan).run(run, turn).ask(*ids, run=run, **ask).told(*ids, run=run)
    outputs = {call_id: f'{{"id": "{past.did(call_id, named=named)}"}}' for call_id in ids}
    return past.submit(outputs, run=run).told(run=run).ended(run).told(run=run, status="completed").done(turn)
