"""The coordinator under test, as Python gives it: a factory, an ASGI app, or a plain class.

- A **factory** `create_app(environ, *, transport, clock, sink)` returns the ASGI app (or the plain object) of one instance.
  It gets what its signature names, of `environ`, `transport` (for httpx and httpx2), `clock` (unix seconds), `sink` (takes
  log lines), `assistants` and `tools` (plain clients).
- An **ASGI app** (`module:app`) is imported afresh for every life of every instance, with the package it is in; it finds its
  environment in `os.environ`, and `httpx.AsyncClient()` or `AsyncOpenAI()` without a transport go through the simulation.
- A **plain class** has the methods of `Plain` and gets its clients by name, as a factory does. There is no HTTP then.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from chaos.simulation import asgi
from chaos.simulation.errors import BadCoordinator, SimulationError
from chaos.words import unknown
from fakes.exchange import Reply, Request

EXPECTED = (
    "a factory create_app(environ, *, transport, clock) that returns an ASGI app, an ASGI app, or a class with the async "
    "methods start(turn), results(result) and status(turn_id)"
)
GIVEN = ("environ", "transport", "clock", "sink", "assistants", "tools")
"""What a factory or a class may name in its signature."""


class Plain(Protocol):
    """A coordinator without HTTP. Turns and results come at least once.

    It may also have `async in_doubt()` (calls, as GET /in-doubt answers them), `async open()` and `async stop()`, called at
    its start and at a graceful stop, and `capabilities`, as GET /healthz answers them.
    """

    async def start(self, turn: Mapping[str, str]) -> None:
        """Take a turn (turn_id, conversation_id, user_id, message) and go on with it in a task."""
        ...

    async def results(self, result: Mapping[str, Any]) -> None:
        """Take an asynchronous result (thread_id, run_id, step_id, tool_call_id, and output or error)."""
        ...

    async def status(self, turn_id: str) -> Mapping[str, Any] | None:
        """`status` running, done or failed, and what else is known; None for a turn that is not known."""
        ...


class Running(Protocol):
    """One life of a coordinator, whichever kind it is."""

    async def open(self) -> None:
        """Start it."""
        ...

    async def stop(self) -> None:
        """Stop it gracefully."""
        ...

    async def health(self) -> tuple[int, Any]:
        """GET /healthz."""
        ...

    async def deliver(self, turn: Mapping[str, str]) -> tuple[int, str | None]:
        """POST /turns."""
        ...

    async def status(self, turn_id: str) -> tuple[int, Mapping[str, object]]:
        """GET /turns/{turn_id}."""
        ...

    async def results(self, request: Request) -> Reply:
        """POST /tool-results."""
        ...

    async def in_doubt(self) -> Any:
        """GET /in-doubt: its JSON, None where there is none."""
        ...


class Coordinator:
    """What makes one life of the coordinator: `begin(given)`. Made by `load`."""

    def __init__(self, label: str, make: Callable[[Mapping[str, Any]], Any]) -> None:
        self.label = label
        self._make = make

    def __repr__(self) -> str:
        return f"<Coordinator {self.label}>"

    def begin(self, given: Mapping[str, Any], port: int) -> Running:
        """A new life, out of what it is given by name. Raises BadCoordinator."""
        try:
            made = self._make(given)
        except SimulationError:
            raise
        except Exception as error:
            raise BadCoordinator(f"{self.label} could not be started: {_last_words(error)}") from error
        if _is_plain(made):
            return PlainRunning(made)
        if callable(made):
            return AsgiRunning(made, port)
        raise BadCoordinator(f"{self.label} returned {type(made).__name__} {made!r:.80}; expected {EXPECTED}")


def load(given: object) -> Coordinator:
    """The coordinator that `given` means: `module:attribute`, the name of a reference coordinator, or the thing itself.

    Raises BadCoordinator that says what was seen, and what was expected.
    """
    if isinstance(given, Coordinator):
        return given
    if not isinstance(given, str):
        return _of(given, f"{getattr(given, '__module__', '?')}:{getattr(given, '__qualname__', type(given).__name__)}", None)
    module, colon, attribute = given.partition(":")
    return _of(_attribute(module, attribute, given), given, module) if colon else _reference(given)


@functools.cache
def _reference(name: str) -> Coordinator:
    if name not in references():
        raise BadCoordinator(f"{unknown('coordinator', name, references())}. Your own is given as module:attribute, {EXPECTED}")
    module = f"coordinators.{name}"
    return _of(_attribute(module, "create_app", name), name, module)


def references() -> list[str]:
    """The names of the reference coordinators."""
    import pkgutil

    spec = importlib.util.find_spec("coordinators")
    found = pkgutil.iter_modules(spec.submodule_search_locations or ()) if spec else ()
    return sorted(m.name for m in found if m.ispkg and m.name not in ("common", "mutants", "examples"))


class AsgiRunning:
    """A life of an ASGI app."""

    def __init__(self, app: asgi.App, port: int) -> None:
        self._app = app
        self._port = port
        self._lifespan = asgi.Lifespan(app)

    async def open(self) -> None:
        """Its lifespan begins."""
        await self._lifespan.start()

    async def stop(self) -> None:
        """Its lifespan ends."""
        await self._lifespan.stop()

    async def health(self) -> tuple[int, Any]:
        """GET /healthz."""
        reply = await self._ask("GET", "/healthz")
        return reply.status, _json(reply)

    async def deliver(self, turn: Mapping[str, str]) -> tuple[int, str | None]:
        """POST /turns."""
        reply = await self._ask("POST", "/turns", json.dumps(turn).encode())
        return reply.status, reply.body[:200].decode(errors="replace") if reply.status >= 300 else None

    async def status(self, turn_id: str) -> tuple[int, Mapping[str, object]]:
        """GET /turns/{turn_id}."""
        reply = await self._ask("GET", f"/turns/{turn_id}")
        return reply.status, _json(reply)

    async def results(self, request: Request) -> Reply:
        """POST /tool-results."""
        return await asgi.call(self._app, request, self._port)

    async def in_doubt(self) -> Any:
        """GET /in-doubt."""
        reply = await self._ask("GET", "/in-doubt")
        return json.loads(reply.body) if reply.status == 200 else None

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        return await asgi.call(self._app, Request(method, path, body=body), self._port)


class PlainRunning:
    """A life of a plain coordinator."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain

    async def open(self) -> None:
        """Its `open`, where it has one."""
        if hasattr(self._plain, "open"):
            await self._plain.open()

    async def stop(self) -> None:
        """Its `stop`, where it has one."""
        if hasattr(self._plain, "stop"):
            await self._plain.stop()

    async def health(self) -> tuple[int, Any]:
        """Always ready once it is open."""
        default = {"async_tools": True, "in_doubt": hasattr(self._plain, "in_doubt")}
        return 200, dict(getattr(self._plain, "capabilities", default))

    async def deliver(self, turn: Mapping[str, str]) -> tuple[int, str | None]:
        """Its `start`; what it raises counts as a 500."""
        try:
            await self._plain.start(turn)
        except Exception as error:
            return 500, f"{type(error).__name__}: {error}"
        return 202, None

    async def status(self, turn_id: str) -> tuple[int, Mapping[str, object]]:
        """Its `status`; what it raises counts as a 500."""
        try:
            found = await self._plain.status(turn_id)
        except Exception as error:
            return 500, {"detail": f"{type(error).__name__}: {error}"}
        return (404, {}) if found is None else (200, found)

    async def results(self, request: Request) -> Reply:
        """Its `results`; what it raises counts as a 500, and the result comes again."""
        try:
            await self._plain.results(json.loads(request.body))
        except Exception as error:
            return Reply(500, f"{type(error).__name__}: {error}".encode(), media_type="text/plain")
        return Reply(200, b"{}")

    async def in_doubt(self) -> Any:
        """Its `in_doubt`, where it has one."""
        return await self._plain.in_doubt() if hasattr(self._plain, "in_doubt") else None


def _of(found: Any, label: str, module: str | None) -> Coordinator:
    if _is_asgi(found) and not _is_factory(found):
        if module is None:
            return Coordinator(label, lambda given: found)
        return Coordinator(label, lambda given: _afresh(module, label))
    if not callable(found):
        raise BadCoordinator(f"{label} is {type(found).__name__} {found!r:.80}; expected {EXPECTED}")
    wanted = _wanted(found, label)
    return Coordinator(label, lambda given: found(**{name: given[source] for name, source in wanted.items()}))


@functools.lru_cache(maxsize=256)
def _wanted(factory: Callable[..., Any], label: str) -> dict[str, str]:
    """Parameter -> what is passed for it. The first one that is required gets the environment, whatever its name."""
    wanted: dict[str, str] = {}
    for place, parameter in enumerate(_parameters(factory, label)):
        if parameter.name in GIVEN and parameter.kind is not parameter.POSITIONAL_ONLY:
            wanted[parameter.name] = parameter.name
        elif parameter.default is parameter.empty:
            if place or parameter.kind is parameter.POSITIONAL_ONLY:
                raise BadCoordinator(
                    f"{label} needs a parameter {parameter.name!r} that a simulation does not know; it gives {', '.join(GIVEN)}"
                )
            wanted[parameter.name] = "environ"
    return wanted


def _parameters(factory: Callable[..., Any], label: str) -> list[inspect.Parameter]:
    """The parameters by name. A class whose __init__ hands **more on has those of its parent's as well."""
    makers = [c.__dict__["__init__"] for c in factory.__mro__ if "__init__" in c.__dict__] if inspect.isclass(factory) else []
    found: dict[str, inspect.Parameter] = {}
    try:
        for maker in makers or [factory]:
            parameters = list(inspect.signature(maker).parameters.values())[1 if makers else 0 :]
            found = {p.name: p for p in parameters} | found
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    except (TypeError, ValueError) as error:
        raise BadCoordinator(f"{label}: its signature cannot be read ({error}); expected {EXPECTED}") from None
    return [p for p in found.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _is_plain(made: Any) -> bool:
    return not inspect.isclass(made) and all(callable(getattr(made, name, None)) for name in ("start", "results", "status"))


def _is_asgi(found: Any) -> bool:
    """Whether it can be called with scope, receive and send."""
    if inspect.isclass(found) or not callable(found):
        return False
    try:
        inspect.signature(found).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def _is_factory(found: Any) -> bool:
    """Whether a function that would take three arguments is a factory all the same: it names what a factory gets."""
    return inspect.isroutine(found) and bool(set(inspect.signature(found).parameters) & set(GIVEN))


def _attribute(module: str, attribute: str, given: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise BadCoordinator(
                f"{given}: there is no module {error.name!r} on the path; give module:attribute, and set PYTHONPATH"
            ) from None
        raise BadCoordinator(f"{given} could not be imported: {_last_words(error)}") from error
    except SimulationError:
        raise
    except Exception as error:
        raise BadCoordinator(f"{given} could not be imported: {_last_words(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            known = [n for n in vars(found) if not n.startswith("_")] if hasattr(found, "__dict__") else []
            raise BadCoordinator(f"{given}: {unknown('attribute', name, known)}")
        found = getattr(found, name)
    return found


def _afresh(module: str, label: str) -> Any:
    """The app out of a new import of its package, so that no life sees the memory of another."""
    top = module.partition(".")[0]
    mine = [name for name in sys.modules if name == top or name.startswith(top + ".")]
    kept = {name: sys.modules.pop(name) for name in mine}
    try:
        return _attribute(module, label.partition(":")[2], label)
    finally:
        for name in [name for name in sys.modules if name == top or name.startswith(top + ".")]:
            del sys.modules[name]
        sys.modules.update(kept)


def _json(reply: Reply) -> Any:
    try:
        data = json.loads(reply.body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _last_words(error: BaseException) -> str:
    """What was raised, and where, in two lines."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"\n  at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
