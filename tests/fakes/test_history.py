"""The recorder and its files: what is kept, what is written, and what a damaged file says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fakes.history import (
    ActionRequired,
    Call,
    Event,
    History,
    HistoryError,
    HistoryFile,
    InstanceReady,
    NotKept,
    RunTold,
    TurnSent,
    read,
    save,
)


def recorded(path: Path | None, **how: bool) -> History:
    """A history of three events, its file closed."""
    history = History(path=path, header={"seed": 7}, **how)
    history.record(TurnSent, conversation="C1", turn_id="t1", instance="coordinator-1", attempt=1)
    call = Call(tool_call_id="call_1", tool="send_email", position=0, nonce="C1_r", payload_hash="f00d")
    history.record(ActionRequired, run_id="run_1", thread_id="th", step_id="s", ordinal=0, generation=1, calls=(call,))
    history.record(InstanceReady, instance="coordinator-1", life=1, capabilities={"big": 2**70, "list": [1, 2]})
    history.close()
    return history


def test_without_keeping(tmp_path: Path) -> None:
    """Numbers go on, subscribers and the file get all of it, and nobody takes the missing list for an empty run."""
    kept = recorded(tmp_path / "kept.jsonl")
    history = History(path=tmp_path / "h.jsonl", keep=False)
    seen: list[Event] = []
    history.subscribe(seen.append)
    for event in kept.events:
        fields = {name: getattr(event, name) for name in type(event).__slots__ if name not in ("seq", "t")}
        history.record(type(event), **fields)
    history.close()
    assert (kept.keeps, kept.count, history.keeps, history.count) == (True, 3, False, 3)
    with pytest.raises(NotKept, match="read its file"):
        _ = history.events
    assert list(HistoryFile(tmp_path / "h.jsonl")) == seen
    assert [e.seq for e in seen] == [1, 2, 3]


def test_a_file_is_a_stream_that_can_be_read_again(tmp_path: Path) -> None:
    """Header at once, events one at a time, the same each time, and the same as read whole."""
    kept = recorded(tmp_path / "h.jsonl")
    file = HistoryFile(tmp_path / "h.jsonl")
    assert file.header == {"format_version": 1, "seed": 7}
    assert next(iter(file)) == kept.events[0]
    assert list(file) == list(file) == kept.events
    assert read(tmp_path / "h.jsonl") == (file.header, kept.events, None)
    save(tmp_path / "again" / "h.jsonl", {"seed": 7}, kept.events)
    assert (tmp_path / "again" / "h.jsonl").read_bytes() == (tmp_path / "h.jsonl").read_bytes()


@pytest.mark.parametrize("cut", [1, 40])
def test_a_last_line_cut_off(tmp_path: Path, cut: int) -> None:
    """What a killed writer leaves behind is left out, and said once all others were read."""
    path = tmp_path / "h.jsonl"
    kept = recorded(path)
    path.write_bytes(path.read_bytes()[:-cut])
    file = HistoryFile(path)
    assert (list(file), file.warning) == (kept.events[:2], f"{path}, line 4: cut off in the middle, left out")
    assert read(path)[1:] == (kept.events[:2], file.warning)


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (1, "{}", "line 1: format_version is None"),
        (1, '{"format_version":99}', "line 1: format_version is 99"),
        (1, "[1]", "line 1: expected a JSON object, got '[1]'"),
        (3, '{"seq":2,', "line 3: not JSON"),
        (3, '{"seq":2,"t":0,"kind":"party"}', "line 3: unknown kind of event 'party'"),
        (3, '{"seq":2,"t":0,"kind":"run_ended"}', "line 3: event of kind 'run_ended'"),
        (3, '{"seq":2,"t":0,"kind":"submit_received","outputs":[{"x":1}]}', "line 3: event of kind 'submit_received'"),
        (3, '{"seq":2,"t":0,"kind":"action_required","calls":[1]}', "line 3: event of kind 'action_required'"),
        (3, '{"seq":9,"t":0,"kind":"run_ended","run_id":"r","status":"failed"}', "line 3: seq is 9, expected 2; a line is missing"),
        (3, "\udcff", "cannot be read as text"),
    ],
)
def test_damage(tmp_path: Path, line: int, text: str, said: str) -> None:
    """The line is named, what was seen and what was expected; read whole or as a stream."""
    path = tmp_path / "h.jsonl"
    recorded(path)
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = text.encode("utf-8", "surrogateescape")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryError) as whole:
        read(path)
    assert said in str(whole.value)
    assert str(path) in str(whole.value)
    with pytest.raises(HistoryError) as streamed:
        list(HistoryFile(path))
    assert str(streamed.value) == str(whole.value)


def test_no_file(tmp_path: Path) -> None:
    """Missing, empty and cut off in the header are told apart from a history without events."""
    with pytest.raises(HistoryError, match="no such file"):
        HistoryFile(tmp_path / "none.jsonl")
    with pytest.raises(HistoryError, match="cannot be read as text"):
        HistoryFile(tmp_path)
    for content in ("", '{"format_version":1}'):
        (tmp_path / "h.jsonl").write_text(content)
        with pytest.raises(HistoryError, match="empty or cut off in its first line"):
            HistoryFile(tmp_path / "h.jsonl")
    (tmp_path / "h.jsonl").write_text('{"format_version":1}\n')
    assert read(tmp_path / "h.jsonl") == ({"format_version": 1}, [], None)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """`anechoic check <(zcat history.jsonl.gz)`: it can be read again all the same."""
    kept = recorded(tmp_path / "h.jsonl")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "h.jsonl").read_bytes()))
    writer.start()
    file = HistoryFile(tmp_path / "pipe")
    writer.join()
    assert list(file) == list(file) == kept.events
    assert [file.event(seq) for seq in range(5)] == [None, *kept.events, None]


def test_numbers_that_json_has_and_the_fast_decoder_not(tmp_path: Path) -> None:
    """A whole number beyond 64 bits comes back as it was."""
    recorded(tmp_path / "h.jsonl")
    ready = list(HistoryFile(tmp_path / "h.jsonl"))[2]
    assert isinstance(ready, InstanceReady)
    assert ready.capabilities == {"big": 2**70, "list": [1, 2]}


def test_an_event_is_written_without_its_defaults(tmp_path: Path) -> None:
    """What a poll leaves behind is one short line."""
    history = History(path=tmp_path / "h.jsonl", clock=lambda: 5.0)
    history.record(RunTold, run_id="run_1", status="queued", via="poll")
    history.close()
    last = (tmp_path / "h.jsonl").read_text().splitlines()[-1]
    assert last == '{"seq":1,"t":0.0,"kind":"run_told","run_id":"run_1","status":"queued","via":"poll"}'
