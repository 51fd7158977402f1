"""HTTP to one Toxiproxy server: deadlines on every request, and typed errors for everything but a success."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

import requests

from chaos.toxiproxy.failures import BadUrl, TimedOut, Unreachable, of_status

DEFAULT_PORT = 8474


class Session:
    """Connections to one server, kept alive between calls.

    Args:
        url: of the admin API; port 8474 when it names none.

    Raises:
        BadUrl: `url` is no address of a server.
    """

    def __init__(self, url: str) -> None:
        self.base = _base(url)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy for the web, from the environment, is none for this

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, method: str, path: str, body: Any, what: str, deadline: float) -> requests.Response:
        """One request, blocking until `deadline` (of time.monotonic) at the latest while nothing comes.

        Args:
            what: the request in words, for the error.

        Raises:
            ToxiproxyError: of the kind that fits what happened.
        """
        tried = f"{what} ({method} {self.base}{path})"
        left = max(0.001, deadline - time.monotonic())
        try:
            answer = self._session.request(method, self.base + path, json=body, timeout=left, allow_redirects=False)
        except requests.Timeout:
            raise TimedOut.of(tried, f"no answer in the {left:.1f} s that were left") from None
        except requests.RequestException as error:
            raise Unreachable.of(tried, _root(error)) from None
        if answer.status_code >= 300:
            raise of_status(answer.status_code).of(tried, _seen(answer))
        return answer


def _seen(answer: requests.Response) -> str:
    """Status and reason of a refusal, in one line."""
    text = answer.text.strip()
    try:
        reason = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        reason = text[:200] or answer.reason or "no reason given"
    return f"{answer.status_code}: {reason}"


def _root(error: BaseException) -> str:
    """The innermost reason of a failed connection, which requests wraps several times."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


def _base(url: str) -> str:
    """scheme://host:port of an admin API's address; a bare host:port is taken, too."""
    full = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise BadUrl.of(f"use {url!r} as the address of a Toxiproxy server", str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise BadUrl.of(f"use {url!r} as the address of a Toxiproxy server", "it is not of that form")
    return full if port else f"{full}:{DEFAULT_PORT}"
