"""The errors of a call to a Toxiproxy server. Each says what was tried, what was seen, and what to do."""

from __future__ import annotations

from typing import ClassVar


class ToxiproxyError(Exception):
    """Something that a Toxiproxy server was to do did not work out; the base of all others."""

    advice: ClassVar[str] = "See the server's log."

    @classmethod
    def of(cls, tried: str, seen: str) -> ToxiproxyError:
        """The error of a call: `tried` is what was asked of which server, `seen` what happened instead."""
        return cls(f"could not {tried}: {seen}. {cls.advice}")


class BadUrl(ToxiproxyError):
    """The address of the server is no http://host:port."""

    advice = "Expected http://HOST:PORT, such as http://127.0.0.1:8474."


class Unreachable(ToxiproxyError):
    """Nothing answers at the server's address, or it hung up."""

    advice = "Is Toxiproxy running there? Start one with `anechoic proxy`, or give no address to use the embedded one."


class TimedOut(ToxiproxyError):
    """The server took the call and did not answer in time; whether the change was made is unknown."""

    advice = "Real Toxiproxy is known to hang for good when a toxic is added while a client does not read: restart it."


class NotFound(ToxiproxyError):
    """No such proxy or toxic (404)."""

    advice = "It may have been deleted meanwhile, or the server was restarted."


class Conflict(ToxiproxyError):
    """A proxy or toxic of that name is already there (409)."""

    advice = "Another run may use the same server: delete what it left, or choose another name."


class Refused(ToxiproxyError):
    """The server finds the request wrong (another 4xx)."""

    advice = "Correct the fields of the request that the answer names."


class Failed(ToxiproxyError):
    """The server could not do it (5xx; an address that is taken, for one), or gave an answer that no Toxiproxy gives."""

    advice = "The server's log tells more; when a listen address is taken, ask for port 0."


def of_status(status: int) -> type[ToxiproxyError]:
    """The error that an HTTP status stands for."""
    if status == 404:
        return NotFound
    if status == 409:
        return Conflict
    return Refused if 400 <= status < 500 else Failed
