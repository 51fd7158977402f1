"""Fakes in processes of their own, tied to the harness by the hub: the same history, faults and verdicts, and clear errors."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from anechoic import gate
from chaos import builtin
from chaos.containers import hub
from chaos.wire.chamber import Chamber
from chaos.wire.errors import WireError
from chaos.wire.settings import RemoteFakes, Settings, by_name
from fakes import history as h
from fakes.gateway.profile import PROFILES

TOKEN = "a-token-of-this-run"
Start = Callable[..., "tuple[subprocess.Popen[str], str]"]


def launch(*words: str, say: str, **environ: str) -> tuple[subprocess.Popen[str], str]:
    """Start a fake and wait for the line that tells `say`; the process, and what follows these words."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *words], env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(rf"{say} (\S+)", line):
            return process, found[1]
    raise AssertionError(f"{words} ended with {process.wait()}")


def end(process: subprocess.Popen[str]) -> int:
    process.terminate()
    try:
        return process.wait(10)
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()


def tied(*words: str) -> tuple[subprocess.Popen[str], str]:
    return launch(*words, "--port", "0", "--control", "0", say="a harness connects to", ANECHOIC_TOKEN=TOKEN)


@pytest.fixture(scope="module")
def fakes() -> Iterator[RemoteFakes]:
    """The three fakes, each a process, resident for all tests here."""
    started = [tied("fakes.assistants"), tied("fakes.gateway"), tied("fakes.llm.router", "serve-llm-1=http://127.0.0.1:1")]
    yield RemoteFakes(started[0][1], started[1][1], started[2][1], TOKEN)
    assert [end(process) for process, _ in started] == [0, 0, 0]


def settings(name: str, fakes: RemoteFakes | None, **more: object) -> Settings:
    return Settings(by_name(name), PROFILES["keyless"], **{"seed": 5, "fakes": fakes, **more})  # type: ignore[arg-type]


def run(name: str, fakes: RemoteFakes | None, plans: list[str], **more: object) -> gate.Outcome:
    asked = gate.Gate(settings(name, fakes, **more), turns=8, plans=[builtin.find(plan) for plan in plans])
    return asyncio.run(gate.run(asked, gate.Observer()))


def test_faults_are_as_exact_as_in_one_process(fakes: RemoteFakes, tmp_path: Path) -> None:
    """A kill after a commit is over before the gateway answers, every kind of fault takes effect, and the history is whole."""
    plans = ["kill-after-commit", "replica-restart", "regenerated-new-ids", "duplicate-callback", "store-outage"]
    outcome = run("hardened", fakes, plans, report_dir=tmp_path)
    assert outcome.judgement.exit_code == 0, outcome.data
    _, events, _ = h.read(tmp_path / "history.jsonl")
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    injected = {e.fault for e in events if isinstance(e, h.FaultInjected)}
    assert injected == {"kill", "regenerate_step", "duplicate_callback", "store_outage"}
    kills = [e for e in events if isinstance(e, h.FaultIntended) and e.rule == "kill-after-commit/1"]
    assert kills
    for kill in kills:
        assert kill.cause is not None
        commit = events[kill.cause - 1]
        assert isinstance(commit, h.EffectCommitted)
        done = next(e.seq for e in events if isinstance(e, h.FaultInjected) and e.rule == kill.rule and e.seq > kill.seq)
        answer = next(
            e for e in events
            if isinstance(e, h.ToolReplied | h.CallbackDue) and e.request_id == commit.request_id and e.seq > commit.seq
        )
        assert kill.seq < done < answer.seq
    lost = [e for e in events if isinstance(e, h.GenerationEnded) and e.outcome == "lost"]
    assert lost
    again = [e for e in events if isinstance(e, h.GenerationEnded) and e.request_id == lost[0].request_id]
    assert again[-1].outcome == "ok"
    assert again[-1].replica != lost[0].replica
    logs = {p.name: p.read_text() for p in (tmp_path / "logs").iterdir()}
    assert "tool-gw AUDIT action=" in logs["tool-gw.log"]
    assert 'event="worker restarted" reason="OOMKilled"' in logs["llm-serve.log"]
    assert "INFO request path=/v1/threads/" in logs["llm-serve.log"]


def test_the_verdict_is_the_same_as_in_one_process(fakes: RemoteFakes) -> None:
    """The design as it was deployed fails in the same way, wherever the fakes are."""
    outcome = run("as_deployed", fakes, ["stale-polls"])
    inside = run("as_deployed", None, ["stale-polls"])
    assert outcome.judgement.exit_code == inside.judgement.exit_code == 1
    words = ("verdict", "safe", "live", "honest")
    assert [outcome.data[w] for w in words] == [inside.data[w] for w in words]
    broken = [{r.contract for r in o.judgement.results if r.violations} for o in (outcome, inside)]
    assert broken[0] == broken[1] != set()


def start_chamber(asked: Settings) -> None:
    async def enter() -> None:
        async with Chamber(asked, alone=True):
            pass

    asyncio.run(enter())


def test_another_token_is_refused(fakes: RemoteFakes) -> None:
    """A harness that does not know the token gets no session."""
    with pytest.raises(WireError, match="refused this run: the token is not this fake's"):
        start_chamber(settings("hardened", dataclasses.replace(fakes, token="another"), replicas=1))


def test_nobody_at_the_control_port(fakes: RemoteFakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the fake, the address, and the option that it is to be started with."""
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    with pytest.raises(WireError, match=r"the fake LLM serving did not answer at 127\.0\.0\.1:9 within 0\.5 s.*--control 9"):
        start_chamber(settings("hardened", dataclasses.replace(fakes, router="127.0.0.1:9"), replicas=1))


def test_a_fake_that_dies_ends_the_run(fakes: RemoteFakes) -> None:
    """A run whose gateway is gone is worth nothing: it ends with an error at once, not with a verdict."""
    process, address = tied("fakes.gateway")

    class Killer(gate.Observer):
        def event(self, event: h.Event) -> None:
            if isinstance(event, h.EffectCommitted):
                process.send_signal(signal.SIGKILL)

    try:
        asked = gate.Gate(settings("hardened", dataclasses.replace(fakes, gateway=address)), turns=8)
        with pytest.raises(WireError, match="the fake tool gateway is gone"):
            asyncio.run(gate.run(asked, Killer()))
    finally:
        end(process)


def test_each_fake_alone() -> None:
    """Without a harness: the gateway commits, the API runs a turn on a router and a replica of its own, /admin takes the token."""
    started = [launch("fakes.llm.replica", "--port", "0", say="replica at")]
    try:
        started.append(launch("fakes.llm.router", f"one={started[0][1]}", "--port", "0", say="serving at"))
        started.append(launch("fakes.assistants", "--port", "0", "--llm-url", started[1][1], say="API at", ANECHOIC_TOKEN=TOKEN))
        started.append(launch("fakes.gateway", "--port", "0", "--gateway", "keyed", say="gateway at", ANECHOIC_TOKEN=TOKEN))
        asyncio.run(talk(started[2][1], started[3][1]))
    finally:
        assert [end(process) for process, _ in started] == [0] * len(started)


async def talk(assistants: str, gateway: str) -> None:
    async with aiohttp.ClientSession() as http:
        body = {"assistant_id": "asst_anechoic", "thread": {"messages": [{"role": "user", "content": "Refund me."}]}}
        async with http.post(f"{assistants}/v1/threads/runs", json=body) as answer:
            run = await answer.json()
        async with asyncio.timeout(10):
            while run["status"] != "requires_action":
                await asyncio.sleep(0.02)
                async with http.get(f"{assistants}/v1/threads/{run['thread_id']}/runs/{run['id']}") as answer:
                    run = await answer.json()
        tools = {c["function"]["name"] for c in run["required_action"]["submit_tool_outputs"]["tool_calls"]}
        assert tools == {"create_ticket", "send_email", "refund_payment"}
        async with http.post(f"{gateway}/tools/send_email", json={"arguments": {"reference": "r1"}}) as answer:
            assert answer.status == 200
        async with http.get(f"{gateway}/admin/events") as answer:
            assert answer.status == 401
        async with http.get(f"{gateway}/admin/events", headers={"authorization": f"Bearer {TOKEN}"}) as answer:
            assert '"kind":"effect_committed"' in await answer.text()


@pytest.mark.parametrize("words", [
    ["fakes.gateway", "--gateway", "keyd"],
    ["fakes.llm.router", "no-address"],
    ["fakes.assistants", "--port", "99999"],
    ["fakes.llm.replica", "--port", "TAKEN"],
])
def test_bad_words(words: list[str]) -> None:
    """What cannot be started says so in one line, and ends with 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", *(port if word == "TAKEN" else word for word in words)],
            capture_output=True, text=True, timeout=30, check=False,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words[-1] in done.stderr or "cannot be had" in done.stderr
