"""What moves runs along in the background: generations, cancellations, and the faults that befall a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from fakes import script
from fakes.assistants import generation
from fakes.assistants.core import Core
from fakes.assistants.generation import Generate
from fakes.assistants.objects import Message, Thread
from fakes.assistants.runs import Run, Step
from fakes.assistants.watch import Watch
from fakes.faults import Fault, Nemesis
from fakes.history import ActionRequired, Call, Event, History, MessageAdded, RunEnded
from fakes.ids import payload_hash

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

CANCELLING_SECONDS = 0.02
"""How long a run stays in `cancelling`."""


class Driver:
    """Moves the runs of one core, records what happens to them, and asks the nemesis about it.

    Each run that waits for a generation has one task of its own, so that a slow or lost one holds up no other.
    """

    def __init__(self, core: Core, history: History, nemesis: Nemesis, generate: Generate, spawn: Spawn) -> None:
        self.watches: dict[str, Watch] = {}
        self._core = core
        self._history = history
        self._nemesis = nemesis
        self._generate = generate
        self._spawn = spawn
        self._scripts: dict[str, script.Script] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def forget_threads(self, threads: Iterable[Thread]) -> None:
        """Forget what was known about threads that are gone."""
        for thread in threads:
            self._scripts.pop(thread.id, None)
            for run_id in thread.runs:
                self.watches.pop(run_id, None)

    # --- who talks about what -----------------------------------------------------------------------------------

    def conversation(self, thread: Thread) -> str | None:
        """The conversation of a thread: its latest script's, else its metadata's `conversation_id`."""
        known = self._scripts.get(thread.id)
        return known.conversation_id if known is not None else thread.metadata.get("conversation_id")

    def added(self, thread: Thread, message: Message, instance: str | None) -> MessageAdded:
        """Record a message; a user's message with a script begins a turn on its thread."""
        found = script.find(message.text) if message.role == "user" else None
        if found is not None:
            self._scripts[thread.id] = found
        return self._history.record(
            MessageAdded,
            conversation=self.conversation(thread),
            thread_id=thread.id,
            message_id=message.id,
            role=message.role,
            turn_id=found.turn_id if found is not None else None,
            instance=instance,
        )

    def watch(self, thread: Thread, run: Run) -> Watch:
        """Put a new run under watch."""
        known = self._scripts.get(thread.id)
        made = Watch(run, self.conversation(thread), known.turn_id if known is not None else None)
        self.watches[run.id] = made
        return made

    async def settle(self) -> None:
        """Record the runs that ended since the last time, and ask the nemesis about each."""
        while self._core.ended:
            ended = self._core.ended.pop(0)
            watch = self.watches.get(ended.run.id)
            event = self._history.record(
                RunEnded,
                conversation=watch.conversation if watch is not None else None,
                run_id=ended.run.id,
                status=ended.run.status,
                reason=ended.reason,
            )
            await self._nemesis.at(event)

    # --- moving -------------------------------------------------------------------------------------------------

    def advance(self, watch: Watch) -> None:
        """Have the run generated further, in the background."""
        self._background(self._advance(watch))

    def finish_cancel(self, watch: Watch, reason: str) -> None:
        """Take the run from cancelling to cancelled, in the background."""
        self._background(self._finish_cancel(watch, reason))

    async def disturb(self, watch: Watch, faults: Sequence[Fault], step: Step | None = None) -> None:
        """Make those of `faults` that befall a run at any point: cancel_run, expire_run, regenerate_step.

        `step` is the one that may be generated again; when its outputs were accepted meanwhile, it stays as it is.
        """
        for fault in faults:
            if fault.name == "cancel_run" and watch.run.status in ("queued", "in_progress", "requires_action"):
                self._core.cancel(watch.run)
                fault.injected(f"{watch.run.id} was cancelled by somebody else")
                self.finish_cancel(watch, "cancelled by somebody else")
            elif fault.name == "expire_run" and self._core.expire(watch.run, "made to expire"):
                fault.injected(f"{watch.run.id} expired")
            elif fault.name == "regenerate_step" and step is not None:
                after = float(fault.args.get("after", 0.0))
                if after > 0:
                    self._background(self._lose_later(watch, step, step.generation, fault, after))
                else:
                    self._lose(watch, step, fault)
        await self.settle()

    def stop(self) -> list[asyncio.Task[None]]:
        """Cancel what runs in the background; returns the tasks, which end soon."""
        stopped = list(self._tasks)
        for task in stopped:
            task.cancel()
        return stopped

    def forget(self) -> None:
        """Forget all runs and scripts."""
        self.watches.clear()
        self._scripts.clear()

    async def _advance(self, watch: Watch) -> None:
        run = watch.run
        thread = self._core.threads.get(run.thread_id)
        attempt = self._core.begin(run) if thread is not None else None
        if thread is None or attempt is None:
            await self.settle()
            return
        body = generation.request(thread, run, self._core.ids.number(0, 2**31 - 1))
        try:
            completion = generation.read(await self._generate(body))
        except Exception as error:  # whatever breaks the serving layer fails the run, and nothing else
            self._core.fail(run, attempt, str(error) or type(error).__name__)
            await self.settle()
            return
        if completion.calls:
            step = self._core.require_action(run, attempt, completion.calls, completion.usage)
            if step is not None:
                await self.disturb(watch, await self._nemesis.at(self._asked(watch, step)), step)
        else:
            message = self._core.complete(run, attempt, completion.text, completion.usage, completion.cut_off)
            if message is not None:
                self.added(thread, message, None)
        await self.settle()

    def _asked(self, watch: Watch, step: Step) -> Event:
        return self._history.record(
            ActionRequired,
            conversation=watch.conversation,
            run_id=watch.run.id,
            thread_id=watch.run.thread_id,
            step_id=step.id,
            ordinal=step.ordinal,
            generation=step.generation,
            calls=tuple(_described(step, position) for position in range(len(step.calls))),
            turn_id=watch.turn_id,
        )

    async def _finish_cancel(self, watch: Watch, reason: str) -> None:
        await asyncio.sleep(CANCELLING_SECONDS)
        self._core.cancelled(watch.run, reason)
        await self.settle()

    async def _lose_later(self, watch: Watch, step: Step, generation_seen: int, fault: Fault, after: float) -> None:
        await asyncio.sleep(after)
        if step.generation == generation_seen:
            self._lose(watch, step, fault)

    def _lose(self, watch: Watch, step: Step, fault: Fault) -> None:
        keep_ids = fault.args.get("ids", "same") == "same"
        if watch.run.lose(step, keep_ids):
            fault.injected(f"{step.id} of {watch.run.id} is generated again with {'the same' if keep_ids else 'new'} ids")
            self.advance(watch)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _described(step: Step, position: int) -> Call:
    call = step.calls[position]
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"text": call.arguments}
    nonce = arguments.get("reference")
    return Call(
        tool_call_id=call.id,
        tool=call.name,
        position=position,
        nonce=nonce if isinstance(nonce, str) else None,
        payload_hash=payload_hash(arguments),
    )
