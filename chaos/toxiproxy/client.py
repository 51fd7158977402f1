"""The one place that drives a Toxiproxy server, embedded or real, through the package `toxiproxy-python`.

The package has no timeouts, keeps the server's address in a class that the whole process shares, does not quote names, and
reports a failure of the server as KeyError. It reaches HTTP through the module-level name `toxiproxy.api.requests`; that name
is bound here to a bridge, which sends each call over the session of the client that makes it, with that client's address and
timeout, and turns every refusal into an error of `failures`. Calls run in threads of the client's own, since the server may
well live in the caller's event loop, and need the loop's threads to answer. What the package cannot do (update a toxic,
populate on the server, a readable version) goes over the same session directly.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

import requests
import toxiproxy
import toxiproxy.api

from chaos.toxiproxy.failures import (
    BadUrl,
    Conflict,
    Failed,
    NotFound,
    Refused,
    TimedOut,
    ToxiproxyError,
    Unreachable,
)
from chaos.toxiproxy.session import Session

__all__ = [
    "BadUrl",
    "Conflict",
    "Failed",
    "NotFound",
    "ProxyInfo",
    "Refused",
    "TimedOut",
    "ToxicInfo",
    "Toxiproxy",
    "ToxiproxyError",
    "Unreachable",
]

T = TypeVar("T")
THREADS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class ProxyInfo:
    """A proxy as the server describes it."""

    name: str
    listen: str
    upstream: str
    enabled: bool

    @property
    def port(self) -> int:
        """The port where it listens."""
        return int(self.listen.rpartition(":")[2])


@dataclasses.dataclass(frozen=True, slots=True)
class ToxicInfo:
    """A toxic as the server describes it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int]


class _Call:
    """What the current thread is doing: through which session, until when, and in words."""

    def __init__(self, session: Session, what: str, deadline: float) -> None:
        self._session = session
        self._deadline = deadline
        self.what = what
        self.answer: requests.Response | None = None

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        """One request of this call."""
        self.answer = self._session.send(method, path, body, self.what, self._deadline)
        return self.answer

    def json(self) -> Any:
        """The body of the last answer, which the package does not always give back."""
        return self.answer.json() if self.answer is not None else None


_CALL: contextvars.ContextVar[_Call] = contextvars.ContextVar("toxiproxy_call")


class _Bridge:
    """What the package takes for the module `requests`: the same verbs, for the current call.

    The host in the address is the package's shared one and means nothing; the path counts.
    """

    def get(self, url: str, params: Any = None) -> requests.Response:
        return _CALL.get().send("GET", _path(url))

    def post(self, url: str, data: Any = None, json: Any = None) -> requests.Response:
        return _CALL.get().send("POST", _path(url), json)

    def delete(self, url: str) -> requests.Response:
        return _CALL.get().send("DELETE", _path(url))


toxiproxy.api.requests = _Bridge()


class Toxiproxy:
    """A client of one server. Every method raises a ToxiproxyError of the kind that fits what happened.

    `async with` or `close()` gives threads and connections back.

    Args:
        url: of the admin API, such as http://127.0.0.1:8474.
        timeout: seconds after which any single call ends with TimedOut.

    Raises:
        BadUrl: `url` is no address of a server.
    """

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        self._session = Session(url)
        self._timeout = timeout
        self._package = toxiproxy.Toxiproxy()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="toxiproxy")
        self.url = self._session.base

    def __repr__(self) -> str:
        return f"<Toxiproxy {self.url}, timeout {self._timeout:g} s>"

    async def __aenter__(self) -> Toxiproxy:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server; no call may follow."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def version(self) -> str:
        """The server's version, such as "2.12.0"."""
        return await self._call("ask for the version", lambda call: _version(call.send("GET", "/version").text))

    async def proxies(self) -> dict[str, ProxyInfo]:
        """All proxies by name."""

        def find(call: _Call) -> dict[str, ProxyInfo]:
            return {name: _proxy(vars(one)) for name, one in self._package.proxies().items()}

        return await self._call("list the proxies", find)

    async def create(self, name: str, upstream: str, listen: str = "127.0.0.1:0", enabled: bool = True) -> ProxyInfo:
        """Make a proxy; port 0 takes a free port, which is in the answer. Raises Conflict, and Failed for a taken address."""

        def make(call: _Call) -> ProxyInfo:
            return _proxy(vars(self._package.create(upstream=upstream, name=name, listen=listen, enabled=enabled)))

        return await self._call(f"create proxy {name!r} from {listen} to {upstream}", make)

    async def populate(self, proxies: Iterable[Mapping[str, Any]]) -> list[ProxyInfo]:
        """Create or replace many proxies in one call; those with the same listen and upstream stay as they are."""
        wanted = [dict(proxy) for proxy in proxies]

        def make(call: _Call) -> list[ProxyInfo]:
            return [_proxy(one) for one in call.send("POST", "/populate", wanted).json()["proxies"] or ()]

        return await self._call(f"populate {len(wanted)} proxies", make)

    async def delete(self, name: str) -> None:
        """Close and forget a proxy. Raises NotFound."""
        await self._call(f"delete proxy {name!r}", lambda call: _handle(name).destroy())

    async def enable(self, name: str) -> None:
        """Let a proxy listen again, at the address that it had. Raises NotFound, and Failed when that was taken meanwhile."""
        await self._call(f"enable proxy {name!r}", lambda call: _handle(name).enable())

    async def disable(self, name: str) -> None:
        """Close a proxy's listener and all its connections. Raises NotFound."""
        await self._call(f"disable proxy {name!r}", lambda call: _handle(name).disable())

    async def toxics(self, proxy: str) -> list[ToxicInfo]:
        """The toxics of a proxy: upstream ones first, each in the order in which they were added. Raises NotFound."""

        def find(call: _Call) -> list[ToxicInfo]:
            return [_toxic(vars(one)) for one in _handle(proxy).toxics().values()]

        return await self._call(f"list the toxics of proxy {proxy!r}", find)

    async def add_toxic(
        self,
        proxy: str,
        type: str,
        attributes: Mapping[str, int] | None = None,
        stream: str = "downstream",
        toxicity: float = 1.0,
        name: str | None = None,
    ) -> ToxicInfo:
        """Add a toxic, to live connections too; its name is TYPE_STREAM by default. Raises NotFound, Conflict, Refused."""
        wanted = {"type": type, "stream": stream, "toxicity": toxicity, "attributes": dict(attributes or {})}
        if name is not None:
            wanted["name"] = name

        def add(call: _Call) -> ToxicInfo:
            _handle(proxy).add_toxic(**wanted)
            return _toxic(call.json())

        return await self._call(f"add toxic {type} {wanted['attributes']} ({stream}) to proxy {proxy!r}", add)

    async def update_toxic(
        self, proxy: str, name: str, attributes: Mapping[str, int] | None = None, toxicity: float | None = None
    ) -> ToxicInfo:
        """Change attributes (merged) and toxicity of a toxic, on live connections too. Raises NotFound or Refused."""
        body: dict[str, Any] = {"attributes": dict(attributes or {})}
        if toxicity is not None:
            body["toxicity"] = toxicity
        path = f"/proxies/{_quoted(proxy)}/toxics/{_quoted(name)}"
        what = f"update toxic {name!r} of proxy {proxy!r} to {body}"
        return await self._call(what, lambda call: _toxic(call.send("POST", path, body).json()))

    async def remove_toxic(self, proxy: str, name: str) -> None:
        """Take a toxic away, from live connections too. Raises NotFound."""
        what = f"remove toxic {name!r} of proxy {proxy!r}"
        await self._call(what, lambda call: _handle(proxy).destroy_toxic(_quoted(name)))

    async def reset(self) -> None:
        """Enable every proxy and remove every toxic."""
        await self._call("reset", lambda call: self._package.reset())

    async def _call(self, what: str, work: Callable[[_Call], T]) -> T:
        """Run `work` in a thread. It ends in time also when the server answers byte by byte."""
        call = _Call(self._session, what, time.monotonic() + self._timeout)

        def run() -> T:
            _CALL.set(call)
            try:
                return work(call)
            except toxiproxy.api.ProxyExists as error:  # the package looks before it creates
                raise Conflict.of(f"{what} ({self.url})", str(error)) from None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                seen = f"an answer that no Toxiproxy gives ({type(error).__name__}: {error})"
                raise Failed.of(f"{what} ({self.url})", seen) from None

        try:
            working = asyncio.get_running_loop().run_in_executor(self._threads, run)
            return await asyncio.wait_for(working, self._timeout + 0.5)
        except TimeoutError:
            raise TimedOut.of(f"{what} ({self.url})", f"no complete answer within {self._timeout:g} s") from None


def _handle(name: str) -> Any:
    """The package's proxy object, for calls that need nothing but the name, which it puts into paths unquoted."""
    return toxiproxy.Proxy(name=_quoted(name), listen="", upstream="", enabled=True)


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _version(text: str) -> str:
    try:
        return str(json.loads(text)["version"])
    except (ValueError, TypeError):
        return text.strip()  # before 2.2 it was bare text


def _proxy(fields: Mapping[str, Any]) -> ProxyInfo:
    return ProxyInfo(fields["name"], fields["listen"], fields["upstream"], fields["enabled"])


def _toxic(fields: Mapping[str, Any]) -> ToxicInfo:
    return ToxicInfo(fields["name"], fields["type"], fields["stream"], fields["toxicity"], fields["attributes"])
