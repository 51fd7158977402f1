"""The parent of the replicas: a small warm process that forks one in milliseconds, where a fresh interpreter takes a second.

Run as `python -m fakes.llm.nursery`. Commands come in as JSON lines on stdin, reports leave as JSON lines on stdout:

    {"do": "start", "name": ..., "life": ..., "profile": ..., "seed": ...}     {"do": "signal", "pid": ..., "signal": ...}
    {"is": "forked"|"ready"|"exited", "name": ..., "life": ..., "pid": ..., "port": ..., "code": ...}

It has one thread and no event loop, so that forking is safe; and it alone reaps its children, so that a signal can never
reach a stranger who got the pid of a dead replica. When stdin ends (the harness stopped, or was killed), it kills every
replica, a stopped one too, and ends. When it is killed itself, the replicas see their lifeline end.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import traceback
from typing import Any, NoReturn

import uvicorn.protocols.http.httptools_impl  # noqa: F401 - uvicorn imports it late; warm for every child

from fakes import loop
from fakes.llm import replica


class Nursery:
    """Forks, signals and reaps replicas, on command."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._reports = reports
        self._children: dict[int, dict[str, Any]] = {}
        self._lifeline, self._alive = os.pipe()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def run(self) -> None:
        """Serve commands until stdin ends."""
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        rest = b""
        while True:
            readable, _, _ = select.select([self._commands, self._woken], [], [])
            if self._woken in readable:
                os.read(self._woken, 4096)
                self._reap()
            if self._commands in readable:
                data = os.read(self._commands, 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        for pid in list(self._children):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _obey(self, command: dict[str, Any]) -> None:
        if command["do"] == "signal":
            if command["pid"] in self._children:
                os.kill(command["pid"], command["signal"])
            return
        who = {"name": command["name"], "life": command["life"]}
        pid = os.fork()
        if pid == 0:
            self._be_replica(who, command)
        self._children[pid] = who
        self._report("forked", who, pid=pid)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._report("exited", self._children.pop(pid), pid=pid, code=os.waitstatus_to_exitcode(status))

    def _be_replica(self, who: dict[str, Any], command: dict[str, Any]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._commands, self._alive, self._woken, self._wake):
                os.close(descriptor)
            seed = f"{command['seed']}/{who['name']}/{who['life']}"
            loop.run(replica.serve(command["profile"], seed, self._ready(who), self._lifeline))
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _ready(self, who: dict[str, Any]) -> Any:
        return lambda port: self._report("ready", who, pid=os.getpid(), port=port)

    def _report(self, what: str, who: dict[str, Any], **fields: Any) -> None:
        """One line in one write: shorter than PIPE_BUF, so lines of several processes never mix."""
        with contextlib.suppress(BrokenPipeError):  # the harness is gone: stdin ends next
            os.write(self._reports, json.dumps({"is": what, **who, **fields}).encode() + b"\n")


def main() -> None:
    """Be a nursery on stdin and stdout."""
    commands, reports = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # what a library prints is not a report
    gc.collect()
    gc.freeze()
    Nursery(commands, reports).run()


if __name__ == "__main__":
    main()
