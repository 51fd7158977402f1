"""Our own event loop: one thread, virtual time, the order of stock asyncio, and nothing real.

Ready callbacks run first in, first out, in the same batches as asyncio's; timers of one moment in the order in which they
were set. Time stands still while anything is ready, and then jumps to the next timer. Tasks hash by their number, so that
sets of them iterate alike in every process.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import heapq
import itertools
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

from chaos.simulation.errors import Deadlock, Exhausted, Interrupt, Refused, SimulationError, where
from chaos.simulation.lives import LIFE, Life

CLOCK_RESOLUTION = 1e-9
BUSY_STEPS = 200_000
"""So many steps without a moment of virtual time passing, and somebody spins."""

QUICK = {("openai._base_client", "get_platform")}
"""What may be asked to run in a thread: done at once, it makes no difference."""

T = TypeVar("T")


class Handle:
    """A callback that is to run; `cancel` works as in asyncio."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., object] | None, args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context

    def __repr__(self) -> str:
        return f"<Handle {self.callback!r}>"

    def cancel(self) -> None:
        """Do not run it."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it will not run, or has run."""
        return self.callback is None


class TimerHandle(Handle):
    """A callback that is to run at a time."""

    __slots__ = ("_when",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context
    ) -> None:
        self.callback = callback  # as Handle does, without the call: there are many of these
        self.args = args
        self.context = context
        self._when = when

    def when(self) -> float:
        """The loop's time at which it runs, in seconds."""
        return self._when


class Task(asyncio.Task[T]):
    """A task that hashes by its number: asyncio's hash by address, which differs from process to process."""

    number: int
    life: Life | None

    def __new__(cls, coro: object, *, loop: VirtualLoop, **options: Any) -> Task[T]:
        made = super().__new__(cls)
        made.number = next(loop.task_numbers)
        made.life = loop.life_of_next
        return made

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one simulation; `run` may be called again and again.

    Args:
        max_steps: callbacks that may run in all.
        max_time: virtual seconds that may pass in all.
    """

    def __init__(self, *, max_steps: int = 50_000_000, max_time: float = 30 * 86_400.0) -> None:
        self.steps = 0
        self.doom: SimulationError | None = None
        """set once when the simulation cannot go on; `run` raises it"""
        self.troubles: list[str] = []
        """what nobody waited for and failed, in order"""
        self.current: Life | None = None
        """the life whose callback runs now"""
        self._max_steps = max_steps
        self._max_time = max_time
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._numbers = itertools.count()
        self.task_numbers = itertools.count()
        self.life_of_next: Life | None = None
        self._crashed: list[Life] = []  # kept, or the garbage collector would run their `finally` blocks at any time
        self._busy_since = 0
        self._running = False
        self._closed = False
        self.get_debug = bool  # type: ignore[method-assign]  # False: every future asks, and a builtin answers ten times as fast as a method

    def __repr__(self) -> str:
        return f"<VirtualLoop at {self._now:.6f} s, {self.steps} steps>"

    # --- running --------------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until `work` is done; what else is under way stays where it is, for the next call.

        Raises what `work` raises, or SimulationError: Refused, Deadlock, Exhausted, Blocked.
        """
        outer = events._get_running_loop()
        events._set_running_loop(self)
        self._running = True
        try:
            main = self.create_task(work)
            self._run_until(main)
            return main.result()
        finally:
            self._running = False
            events._set_running_loop(outer)

    def _run_until(self, main: asyncio.Task[Any]) -> None:
        ready, timers = self._ready, self._timers
        finished: list[object] = []
        main.add_done_callback(finished.append)
        get_life = LIFE
        while not finished:
            if not ready and not self._advance():
                raise self._deadlock(main)
            due = self._now + CLOCK_RESOLUTION
            while timers and timers[0][0] < due:
                ready.append(heapq.heappop(timers)[2])
            count = len(ready)
            self.steps += count
            if self.steps - self._busy_since > BUSY_STEPS or self.steps > self._max_steps:
                raise self._exhausted(ready[0])
            try:
                while count:
                    count -= 1
                    handle = ready.popleft()
                    callback = handle.callback
                    if callback is None:
                        continue
                    context = handle.context
                    life = context.get(get_life)
                    if life is not None and life.frozen is not None:
                        life.frozen.append(handle)
                        continue
                    self.current = life
                    context.run(callback, *handle.args)
            except Interrupt:
                pass  # what it was thrown for stands in `doom`
            except Exception as error:
                self.call_exception_handler({"message": f"in callback {handle!r}", "exception": error})
            finally:
                self.current = None
            if self.doom is not None:
                raise self.doom

    def _advance(self) -> bool:
        """Jump to the next timer; False when there is none."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            return False
        when = timers[0][0]
        if when > self._now:
            self._now = when
            self._busy_since = self.steps
            if when > self._max_time:
                raise Exhausted(
                    f"the simulation took more than {self._max_time:g} s of virtual time, in {self.steps} steps; "
                    "something waits without end: give it an end, or raise max_time"
                )
        return True

    def crash(self, life: Life) -> None:
        """From now on nothing of this life runs; its memory is kept as it is, out of reach, until the simulation is over."""
        life.crashed = True
        self._crashed.append(life)
        if life.frozen is None:
            life.frozen = []
        life.wreck.extend(task for task in asyncio.all_tasks(self) if getattr(task, "life", None) is life)

    def resume(self, life: Life) -> None:
        """A pause is over: what was due meanwhile runs now, in its order."""
        held, life.frozen = life.frozen, None
        self._ready.extend(held or ())

    def _deadlock(self, main: asyncio.Task[Any]) -> SimulationError:
        waiting = sorted(
            (task for task in asyncio.all_tasks(self) if task is not main), key=lambda task: getattr(task, "number", 0)
        )
        shown = "".join(f"\n  {_described(task)}" for task in [main, *waiting][:10])
        return Deadlock(f"deadlock at {self._now:.3f} s: nothing is ready and no timer is set, yet these tasks wait:{shown}")

    def _exhausted(self, handle: Handle) -> SimulationError:
        who = getattr(handle.callback, "__self__", None)
        life = handle.context.get(LIFE)
        by = f"{life.instance if life else 'the harness'}: {_described(who) if isinstance(who, asyncio.Task) else handle}"
        if self.steps > self._max_steps:
            return Exhausted(f"the simulation took more than {self._max_steps} steps, at {self._now:.3f} s; next was {by}")
        return Exhausted(
            f"{BUSY_STEPS} steps at {self._now:.3f} s without a moment passing: somebody spins without waiting; next was {by}"
        )

    # --- what asyncio asks of a loop ------------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        """Run it after what is ready already."""
        handle = Handle(callback, args, context if context is not None else contextvars.copy_context())
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> TimerHandle:
        """Run it `delay` seconds from now."""
        when = self._now + delay
        handle = TimerHandle(when, callback, args, context if context is not None else contextvars.copy_context())
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> TimerHandle:
        """Run it when the loop's time has come."""
        handle = TimerHandle(when, callback, args, context if context is not None else contextvars.copy_context())
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: str | None = None,
        context: contextvars.Context | None = None, **options: Any,
    ) -> Task[T]:
        """A task; it belongs to the life that asks for it, whatever context it is given."""
        life = self.current
        if context is not None:
            if life is None:
                life = context.get(LIFE)
            elif context.get(LIFE) is not life:
                context.run(LIFE.set, life)
        self.life_of_next = life
        return Task(coro, loop=self, name=name, context=context, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Refused, but for what SDKs are known to put into a thread although it is quick: that is done on the spot."""
        inner = func.args[0] if isinstance(func, functools.partial) and func.args else func
        if (getattr(inner, "__module__", None), getattr(inner, "__qualname__", None)) not in QUICK:
            _refuse(self, "run_in_executor")
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def set_debug(self, enabled: bool) -> None:
        """Does nothing."""

    def is_running(self) -> bool:
        """Whether `run` is under way."""
        return self._running

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Forget everything that is still to run."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def get_exception_handler(self) -> None:
        """There is none but the loop's own."""

    def set_exception_handler(self, handler: object) -> None:
        """Does nothing."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what went wrong."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what went wrong where nobody waits for it."""
        error = context.get("exception")
        said = f": {type(error).__name__}: {error}" if error is not None else ""
        self.troubles.append(f"{context.get('message', 'something failed')}{said}")

    async def shutdown_asyncgens(self) -> None:
        """There is nothing to do."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is nothing to do."""


def _described(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    frame = getattr(coroutine, "cr_frame", None)
    at = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    return f"{getattr(coroutine, '__qualname__', coroutine)}{at}"


def _refuse(loop: VirtualLoop, name: str) -> NoReturn:
    error = Refused(f"loop.{name}()", where(sys._getframe(2)))
    if loop.is_running():
        loop.doom = loop.doom or error
    raise error


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: VirtualLoop, *args: Any, **kwargs: Any) -> Any:
        _refuse(self, name)

    refuse.__name__ = name
    refuse.__doc__ = "Refused: it would be real."
    return refuse


for _name in (
    "set_default_executor getaddrinfo getnameinfo create_connection create_server start_tls create_unix_server "
    "create_unix_connection create_datagram_endpoint connect_accepted_socket sendfile connect_read_pipe connect_write_pipe "
    "subprocess_shell subprocess_exec add_reader remove_reader add_writer remove_writer sock_recv sock_recv_into sock_recvfrom "
    "sock_recvfrom_into sock_sendall sock_sendto sock_connect sock_accept sock_sendfile add_signal_handler "
    "remove_signal_handler run_forever run_until_complete stop".split()
):
    setattr(VirtualLoop, _name, _refusing(_name))
