"""Submits of tool outputs: received, then accepted or refused, and what goes wrong before and after the commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fakes.assistants.core import Core
from fakes.assistants.delivery import Delivery, one
from fakes.assistants.driver import Driver
from fakes.assistants.errors import ApiError
from fakes.assistants.fields import Fields, tool_outputs
from fakes.assistants.streams import RunStream
from fakes.assistants.watch import View, Watch
from fakes.exchange import BadBody, Cut, Request, json_object
from fakes.faults import Fault, Nemesis
from fakes.history import History, Output, SubmitAccepted, SubmitReceived, SubmitRefused


@dataclasses.dataclass(frozen=True, slots=True)
class Submitted:
    """What a submit says. `refusal` is what is wrong with it; then the rest goes as far as it could be read."""

    outputs: tuple[Output, ...] = ()
    stream: bool = False
    refusal: ApiError | None = None

    @classmethod
    def read(cls, body: bytes) -> Submitted:
        """Read a request's body."""
        outputs: list[tuple[str, str]] = []
        stream, refusal = False, None
        try:
            fields = Fields(json_object(body))
            outputs = tool_outputs(fields)
            stream = fields.flag("stream") or False
        except BadBody as error:
            refusal = ApiError(400, str(error))
        except ApiError as error:
            refusal = error
        return cls(tuple(Output(tool_call_id=call_id, output=output) for call_id, output in outputs), stream, refusal)


class Submits:
    """Takes submits for one core. Every submit is recorded as received, unreadable ones and unknown runs included."""

    def __init__(self, core: Core, history: History, nemesis: Nemesis, driver: Driver, repeat_submit: str) -> None:
        self._core = core
        self._history = history
        self._nemesis = nemesis
        self._driver = driver
        self._repeat_submit = repeat_submit

    async def receive(
        self, request: Request, thread_id: str, run_id: str, given: Submitted, stream: RunStream | None, delivery: Delivery
    ) -> tuple[Watch, View]:
        """One submit: the run as its answer shows it. Raises ApiError or Cut where the answer is another, or none."""
        watch = self._driver.watches.get(run_id)
        about = {
            "conversation": watch.conversation if watch is not None else None,
            "run_id": run_id,
            "submit_id": self._core.ids.new("submit"),
            "instance": request.instance,
        }
        faults = await self._nemesis.at(self._history.record(SubmitReceived, **about, outputs=given.outputs))
        delivery.note(faults)
        lost = one(faults, "lose_submit")
        if lost is not None:
            lost.injected("the submit never arrived")
            raise Cut
        try:
            refused = one(faults, "refuse_submit")
            if refused is not None:
                refused.injected("the submit was refused")
                raise ApiError(int(refused.args.get("status", 503)), "The service cannot take tool outputs right now.")
            if given.refusal is not None:
                raise given.refusal
            run = self._core.run(thread_id, run_id)
            watch = self._driver.watches[run_id]
            before = watch.view()
            if stream is not None:
                stream.follow(run)
            outputs = [(output.tool_call_id, output.output) for output in given.outputs]
            accepted = self._core.submit(run, outputs, self._repeat_submit)
        except ApiError as error:
            await self._driver.settle()
            event = self._history.record(SubmitRefused, **about, http_status=error.status, message=error.message)
            await self._nemesis.at(event)
            raise
        if not accepted.repeat:
            watch.before = before
            self._driver.advance(watch)
        view = watch.view()
        step = accepted.step
        committed = self._history.record(
            SubmitAccepted, **about, step_id=step.id, ordinal=step.ordinal, outputs=given.outputs, repeat=accepted.repeat
        )
        view = _after_commit(watch, view, await self._nemesis.at(committed))
        if stream is not None:
            stream.catch_up(view if view.stale else watch.polled())
        return watch, view


def _after_commit(watch: Watch, view: View, faults: Sequence[Fault]) -> View:
    stale = one(faults, "stale_status")
    if stale is not None:
        watch.make_stale(stale)
    cut = one(faults, "lose_submit_reply")
    if cut is not None:
        cut.injected("the answer to an accepted submit was cut off")
        raise Cut
    broken = one(faults, "error_after_submit")
    if broken is not None:
        broken.injected("an accepted submit was answered with an error")
        raise ApiError(int(broken.args.get("status", 500)), "The server had an error while processing your request.")
    old = one(faults, "stale_submit_reply")
    return watch.old(old) if old is not None else view
