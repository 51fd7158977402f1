"""The fake Assistants API as both worlds see it: requests in, answers out, every protocol point recorded and disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fakes.assistants import operations as paths
from fakes.assistants.barrier import Barriers
from fakes.assistants.core import REPEAT_SUBMIT, Core
from fakes.assistants.delivery import Delivery, deliver, one
from fakes.assistants.driver import Driver, Spawn
from fakes.assistants.errors import ApiError
from fakes.assistants.fields import Fields
from fakes.assistants.generation import Generate
from fakes.assistants.objects import Message, Thread
from fakes.assistants.runs import Run
from fakes.assistants.streams import RunStream, Streams
from fakes.assistants.submits import Submits, Submitted
from fakes.assistants.watch import View, Watch
from fakes.encoding import encode
from fakes.exchange import BadBody, Handler, Operation, Reply, Request, Router, json_object
from fakes.faults import Fault, Nemesis
from fakes.history import History, RunCreated, RunTold

_HEADERS = {
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "30000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "29999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "2ms",
}
"""Headers of every answer. This fake limits no rate, so the numbers never change."""


class AssistantsEndpoint:
    """The 23 operations, under /v1. Runs can be created, and outputs submitted, with `stream: true`.

    Args:
        core: the state; its clock and ids are used here too.
        history: where the events go.
        nemesis: asked at each protocol point.
        generate: the serving layer, see `generation.Generate`.
        repeat_submit: what the repeat of an accepted submit gets: "400", "200" or "409".
        poll_after_ms: sent as openai-poll-after-ms when given; the SDKs' polling helpers wait that long (1000 without).
        retry_headers: sent with answers 408, 409, 429 and 5xx, for example retry-after-ms or x-should-retry.
        spawn: starts a background task; `asyncio.create_task` when None.

    An answer is computed first, then recorded as told, then the nemesis is asked, then it is held or sent. What a fault
    does at `run_told` happens after the answer was made, so the instance acts on what it was told.
    """

    def __init__(
        self,
        core: Core,
        history: History,
        nemesis: Nemesis,
        generate: Generate,
        *,
        repeat_submit: str = "400",
        poll_after_ms: int | None = None,
        retry_headers: Mapping[str, str] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        if repeat_submit not in REPEAT_SUBMIT:
            raise ValueError(f"repeat_submit={repeat_submit!r} must be one of {', '.join(REPEAT_SUBMIT)}")
        self._core = core
        self._history = history
        self._nemesis = nemesis
        self._headers = dict(_HEADERS) if poll_after_ms is None else {**_HEADERS, "openai-poll-after-ms": str(poll_after_ms)}
        self._retry_headers = dict(retry_headers or {})
        self._driver = Driver(core, history, nemesis, generate, spawn or asyncio.create_task)
        self._submits = Submits(core, history, nemesis, self._driver, repeat_submit)
        self._barriers = Barriers()
        self._streams = Streams(core, history)
        self._router = Router(
            [
                *(Operation(method, path, title, self._plain(do), hot) for method, path, title, hot, do in paths.plain(core)),
                Operation("POST", paths.THREADS, "Create thread", self._answered(self._create_thread), hot=True),
                Operation("POST", paths.NEW_THREAD_RUNS, "Create thread and run", self._answered(self._create_both), hot=True),
                Operation("POST", paths.MESSAGES, "Create message", self._answered(self._create_message), hot=True),
                Operation("GET", paths.RUNS, "List runs", self._answered(self._list_runs)),
                Operation("POST", paths.RUNS, "Create run", self._answered(self._create_run), hot=True),
                Operation("GET", paths.RUN, "Retrieve run", self._answered(self._get_run), hot=True),
                Operation("POST", paths.RUN, "Modify run", self._answered(self._modify_run)),
                Operation("POST", paths.CANCEL, "Cancel run", self._answered(self._cancel_run)),
                Operation("POST", paths.SUBMIT, "Submit tool outputs", self._answered(self._submit), hot=True),
            ]
        )

    @property
    def operations(self) -> Sequence[Operation]:
        """The 23 operations."""
        return self._router.operations

    async def befall(self, fault: Fault, run_id: str | None, conversation: str | None) -> None:
        """Make a fault that is tied to an event elsewhere (see `fakes.faults.Runs`); nothing happens where no run fits."""
        watch = self._driver.watches.get(run_id or "")
        if watch is None and conversation is not None:
            theirs = (w for w in reversed(self._driver.watches.values()) if w.conversation == conversation)
            watch = next((w for w in theirs if w.run.ended_at is None), None)
        if watch is not None:
            await self._driver.disturb(watch, (fault,), watch.run.pending)

    async def handle(self, request: Request) -> Reply:
        """Answer one request. Raises Cut where a fault ends the connection without an answer."""
        found = self._router.find(request.method, request.path)
        if isinstance(found, int):
            return self._refused(_no_operation(found, request), self._core.clock())
        operation, params = found
        return await operation.handler(request, **params)

    def reset(self) -> None:
        """Forget all threads and runs; what runs in the background stops, held answers leave, streams end."""
        self._driver.stop()
        self._streams.end_all()
        self._driver.forget()
        self._barriers.open_all()
        self._core.reset()

    def age(self, seconds: float) -> None:
        """Forget threads that are older and have no active run: for runs that are longer than memory."""
        self._driver.forget_threads(self._core.forget(self._core.clock() - seconds))

    async def aclose(self) -> None:
        """Stop what runs in the background; it is over when this returns. Streams end soon."""
        self._streams.end_all()
        self._barriers.open_all()
        await asyncio.gather(*self._driver.stop(), return_exceptions=True)

    # --- answers -------------------------------------------------------------------------------------------------

    def _answered(self, body_of: Callable[..., Awaitable[bytes | RunStream]]) -> Handler:
        """A handler that answers with the body or the stream that `body_of` makes, or with the refusal that it raises."""

        async def handler(request: Request, **params: str) -> Reply:
            started = self._core.clock()
            try:
                body = await body_of(request, **params)
            except ApiError as error:
                return self._refused(error, started)
            except BadBody as error:
                return self._refused(ApiError(400, str(error)), started)
            finally:
                if self._core.ended:
                    await self._driver.settle()
            if isinstance(body, RunStream):
                return Reply(200, b"", self._with_headers(started), "text/event-stream", body)
            return Reply(200, body, self._with_headers(started))

        return handler

    def _plain(self, answer: Callable[..., dict[str, Any]]) -> Handler:
        async def body_of(request: Request, **params: str) -> bytes:
            return encode(answer(request, **params))

        return self._answered(body_of)

    def _refused(self, error: ApiError, started: float) -> Reply:
        headers = self._with_headers(started)
        if error.status in (408, 409, 429) or error.status >= 500:
            headers.update(self._retry_headers)
        return Reply(error.status, encode(error.json()), headers)

    def _with_headers(self, started: float) -> dict[str, str]:
        headers = self._headers.copy()
        headers["x-request-id"] = self._core.ids.new("req")
        headers["openai-processing-ms"] = str(int((self._core.clock() - started) * 1000))
        return headers

    # --- operations that add messages -----------------------------------------------------------------------------

    async def _create_thread(self, request: Request) -> bytes:
        body = json_object(request.body)

        async def process(delivery: Delivery) -> Thread:
            thread = self._core.create_thread(body)
            await self._announce(thread, list(thread.messages.values()), request, delivery)
            return thread

        return encode((await deliver(process)).json())

    async def _create_message(self, request: Request, thread_id: str) -> bytes:
        body = json_object(request.body)

        async def process(delivery: Delivery) -> Message:
            message = self._core.create_message(thread_id, body)
            await self._announce(self._core.thread(thread_id), [message], request, delivery)
            return message

        return encode((await deliver(process)).json())

    async def _announce(self, thread: Thread, messages: Sequence[Message], request: Request, delivery: Delivery) -> None:
        for event in [self._driver.added(thread, message, request.instance) for message in messages]:
            delivery.note(await self._nemesis.at(event))

    # --- operations that tell the state of a run ------------------------------------------------------------------

    async def _create_run(self, request: Request, thread_id: str) -> bytes | RunStream:
        body = json_object(request.body)
        stream = self._streams.open(Fields(body).flag("stream"), request.instance)

        async def process(delivery: Delivery) -> tuple[Watch, View]:
            run, messages = self._core.create_run(thread_id, body)
            if stream is not None:
                stream.begin(run, None)
            return await self._created(self._core.thread(thread_id), run, messages, request, delivery)

        return await self._tell_or_stream(process, "create", request, stream)

    async def _create_both(self, request: Request) -> bytes | RunStream:
        body = json_object(request.body)
        stream = self._streams.open(Fields(body).flag("stream"), request.instance)

        async def process(delivery: Delivery) -> tuple[Watch, View]:
            thread, run = self._core.create_thread_and_run(body)
            if stream is not None:
                stream.begin(run, thread)
            return await self._created(thread, run, list(thread.messages.values()), request, delivery)

        return await self._tell_or_stream(process, "create", request, stream)

    async def _created(
        self, thread: Thread, run: Run, messages: Sequence[Message], request: Request, delivery: Delivery
    ) -> tuple[Watch, View]:
        added = [self._driver.added(thread, message, request.instance) for message in messages]
        watch = self._driver.watch(thread, run)  # before anything is awaited: others may see the run from now on
        view = watch.view()
        for event in added:
            delivery.note(await self._nemesis.at(event))
        created = self._history.record(
            RunCreated,
            conversation=watch.conversation,
            run_id=run.id,
            thread_id=thread.id,
            turn_id=watch.turn_id,
            instance=request.instance,
        )
        faults = await self._nemesis.at(created)
        delivery.note(faults)
        await self._driver.disturb(watch, faults)
        self._driver.advance(watch)
        return watch, view

    async def _get_run(self, request: Request, thread_id: str, run_id: str) -> bytes:
        watch = self._watch(self._core.run(thread_id, run_id))
        return await self._tell(watch, watch.polled(), "poll", request)

    async def _modify_run(self, request: Request, thread_id: str, run_id: str) -> bytes:
        watch = self._watch(self._core.modify_run(thread_id, run_id, json_object(request.body)))
        return await self._tell(watch, watch.view(), "modify", request)

    async def _cancel_run(self, request: Request, thread_id: str, run_id: str) -> bytes:
        watch = self._watch(self._core.cancel(self._core.run(thread_id, run_id)))
        self._driver.finish_cancel(watch, f"cancelled by {request.instance or 'a client'}")
        return await self._tell(watch, watch.view(), "cancel", request)

    async def _list_runs(self, request: Request, thread_id: str) -> bytes:
        page = self._core.list_runs(thread_id, request.query)
        body = encode(page.json())
        for watch, view in [(self._watch(run), self._watch(run).view()) for run in page.items]:
            await self._tell(watch, view, "list", request)
        return body

    async def _submit(self, request: Request, thread_id: str, run_id: str) -> bytes | RunStream:
        given = Submitted.read(request.body)
        stream = self._streams.open(given.stream, request.instance)

        async def process(delivery: Delivery) -> tuple[Watch, View]:
            return await self._submits.receive(request, thread_id, run_id, given, stream, delivery)

        return await self._tell_or_stream(process, "submit", request, stream)

    async def _tell_or_stream(
        self,
        process: Callable[[Delivery], Awaitable[tuple[Watch, View]]],
        via: str,
        request: Request,
        stream: RunStream | None,
    ) -> bytes | RunStream:
        """Process a request; then tell the run as it is, or begin to tell it as it goes on."""
        try:
            watch, view = await deliver(process)
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        if stream is None:
            return await self._tell(watch, view, via, request)
        return stream.told_by(lambda view: self._told(watch, view, "stream", request))

    async def _tell(self, watch: Watch, view: View, via: str, request: Request) -> bytes:
        await self._told(watch, view, via, request)
        return view.body

    async def _told(self, watch: Watch, view: View, via: str, request: Request) -> Sequence[Fault]:
        """Record that an instance is told `view`, ask what happens there, and hold the answer where a barrier is closed."""
        if self._core.ended:
            await self._driver.settle()
        watch.told += 1
        event = self._history.record(
            RunTold,
            conversation=watch.conversation,
            run_id=watch.run.id,
            status=view.status,
            via=via,
            waiting_for=view.waiting_for,
            stale=view.stale,
            instance=request.instance,
            nth=watch.told,
        )
        if view.fault is not None:
            view.fault.injected(f"{via} of {watch.run.id} was answered with its old state")
        faults = await self._nemesis.at(event)
        if faults:
            await self._driver.disturb(watch, faults, view.step)
        await self._barriers.wait(watch.run.id, view.status, request.instance, one(faults, "barrier"))
        return faults

    def _watch(self, run: Run) -> Watch:
        return self._driver.watches[run.id]


def _no_operation(status: int, request: Request) -> ApiError:
    if status == 405:
        return ApiError(405, f"Not allowed to {request.method} on {request.path}.")
    return ApiError(404, f"Invalid URL ({request.method} {request.path})")
