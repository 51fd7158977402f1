"""The core of the fake Assistants API: objects, pages, refusals, and the run state machine, with a hand-turned clock."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import beta
from openai.types.beta import threads
from openai.types.beta.threads import runs as run_models

from fakes import script
from fakes.assistants.core import Core
from fakes.assistants.errors import ApiError
from fakes.assistants.runs import Run, ToolCall, Usage
from fakes.ids import Ids

NOW = 1_800_000_000


class Clock:
    """Unix seconds that move only when told to."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the core under test."""
    return Clock()


@pytest.fixture
def core(clock: Clock) -> Core:
    """An empty core."""
    return Core(clock, Ids(7))


def new_run(core: Core, **body: Any) -> Run:
    """A run on a thread of its own, with an assistant of its own."""
    assistant = core.create_assistant({"model": "gpt-4o", "tools": list(script.TOOLS), "instructions": "Be kind."})
    thread = core.create_thread({"messages": [{"role": "user", "content": "hello"}]})
    run, _ = core.create_run(thread.id, {"assistant_id": assistant.id, **body})
    return run


def ask(core: Core, run: Run, *ids: str) -> None:
    """Take the run to requires_action with these calls."""
    attempt = core.begin(run)
    assert attempt is not None
    assert core.require_action(run, attempt, [ToolCall(i, "send_email", '{"reference": "r"}') for i in ids], Usage(10, 5))


def refusal(core: Core, call: Any, *args: Any) -> ApiError:
    """The refusal that a call of the core ends with."""
    with pytest.raises(ApiError) as caught:
        call(*args)
    return caught.value


def test_objects_have_every_field_of_the_sdk_models(core: Core) -> None:
    """Each object parses into the SDK's model, and no field of the model is left out."""
    assistant = core.create_assistant({"model": "gpt-4o", "tools": [*script.TOOLS, {"type": "file_search"}]})
    thread = core.create_thread({"messages": [{"role": "user", "content": "hello"}]})
    run, _ = core.create_run(thread.id, {"assistant_id": assistant.id})
    ask(core, run, "call_a", "call_b")
    waiting = run.json()
    core.submit(run, [("call_b", "2"), ("call_a", "1")])
    attempt = core.begin(run)
    assert attempt is not None
    message = core.complete(run, attempt, "All done.", Usage(3, 4))
    assert message is not None

    shown: list[tuple[Any, dict[str, Any]]] = [
        (beta.Assistant, assistant.json()),
        (beta.Thread, thread.json()),
        (threads.Message, message.json()),
        (threads.Message, core.list_messages(thread.id, {"order": "asc"}).items[0].json()),
        (threads.Run, waiting),
        (threads.Run, run.json()),
        *((run_models.RunStep, step.json()) for step in core.list_steps(thread.id, run.id, {}).items),
    ]
    for model, data in shown:
        parsed = model.model_validate(data)
        assert set(model.model_fields) <= set(data), model
        assert not parsed.model_extra, model
    assert waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"] == "call_a"
    assert run.json()["usage"] == {"prompt_tokens": 13, "completion_tokens": 9, "total_tokens": 22}
    first, second = core.list_steps(thread.id, run.id, {"order": "asc"}).items
    assert [call.output for call in first.calls] == ["1", "2"]
    assert second.json()["step_details"]["message_creation"] == {"message_id": message.id}


def test_assistant_lives_through_create_modify_list_and_delete(core: Core) -> None:
    """An assistant can be created, read, changed field by field, listed and deleted."""
    made = core.create_assistant({"model": "gpt-4o", "name": "Ann", "metadata": {"a": "b"}, "temperature": 0})
    core.modify_assistant(made.id, {"name": "Bea", "tools": [{"type": "code_interpreter"}]})
    assert core.assistant(made.id).json()["name"] == "Bea"
    assert core.assistant(made.id).json()["metadata"] == {"a": "b"}
    assert [a.id for a in core.list_assistants({}).items] == [made.id]
    assert core.delete_assistant(made.id) == {"id": made.id, "object": "assistant.deleted", "deleted": True}
    assert refusal(core, core.assistant, made.id).message == f"No assistant found with id '{made.id}'."


def test_thread_and_messages_live_through_modify_and_delete(core: Core) -> None:
    """Threads and messages can be changed and deleted, and then are gone."""
    thread = core.create_thread({"metadata": {"k": "v"}})
    message = core.create_message(thread.id, {"role": "assistant", "content": [{"type": "text", "text": "hi"}]})
    core.modify_message(thread.id, message.id, {"metadata": {"seen": "yes"}})
    assert core.message(thread.id, message.id).json()["metadata"] == {"seen": "yes"}
    core.modify_thread(thread.id, {"metadata": {}, "tool_resources": {"code_interpreter": {"file_ids": ["file_1"]}}})
    assert thread.json()["metadata"] == {}
    assert thread.json()["tool_resources"] == {"code_interpreter": {"file_ids": ["file_1"]}}
    assert core.delete_message(thread.id, message.id)["object"] == "thread.message.deleted"
    assert refusal(core, core.message, thread.id, message.id).status == 404
    assert core.delete_thread(thread.id) == {"id": thread.id, "object": "thread.deleted", "deleted": True}
    assert refusal(core, core.thread, thread.id).message == f"No thread found with id '{thread.id}'."


def test_deleting_a_thread_cancels_its_run(core: Core) -> None:
    """A run whose thread is deleted ends as cancelled, and what its generation brings back counts no more."""
    run = new_run(core)
    attempt = core.begin(run)
    core.delete_thread(run.thread_id)
    assert [(e.run.id, e.run.status) for e in core.ended] == [(run.id, "cancelled")]
    assert core.complete(run, attempt or 0, "too late", Usage()) is None


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ({}, "432 10", False),
        ({"order": "asc"}, "01 234", False),
        ({"limit": "2"}, "43", True),
        ({"limit": "2", "order": "asc"}, "01", True),
        ({"limit": "2", "after": "3"}, "21", True),
        ({"limit": "3", "after": "2", "order": "asc"}, "34", False),
        ({"limit": "2", "before": "4", "order": "asc"}, "23", True),
        ({"limit": "2", "before": "1", "order": "asc"}, "0", False),
        ({"limit": "1", "after": "0", "before": "4", "order": "asc"}, "1", True),
        ({"before": "4"}, "", False),
    ],
)
def test_pages(core: Core, query: dict[str, str], expected: str, more: bool) -> None:
    """limit, order, after and before choose the page; first_id, last_id and has_more describe it."""
    thread = core.create_thread({})
    made = [core.create_message(thread.id, {"role": "user", "content": str(n)}) for n in range(5)]
    named = {key: made[int(value)].id if key in ("after", "before") else value for key, value in query.items()}
    page = core.list_messages(thread.id, named)
    chosen = [made[int(n)].id for n in expected.replace(" ", "")]
    assert [message.id for message in page.items] == chosen
    shown = page.json()
    assert (shown["object"], shown["has_more"]) == ("list", more)
    assert (shown["first_id"], shown["last_id"]) == ((chosen[0], chosen[-1]) if chosen else (None, None))


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "", "1e1", "9" * 5000])
def test_limit_must_be_a_whole_number_from_1_to_100(core: Core, limit: str) -> None:
    """Any other limit is a 400 that names the parameter."""
    error = refusal(core, core.list_assistants, {"limit": limit})
    assert (error.status, error.param) == (400, "limit")


def test_order_and_cursors_are_checked(core: Core) -> None:
    """An order that does not exist is a 400, an unknown cursor a 404."""
    assert refusal(core, core.list_assistants, {"order": "up"}).status == 400
    error = refusal(core, core.list_assistants, {"after": "asst_gone"})
    assert (error.status, error.message) == (404, "No assistant found with id 'asst_gone'.")


def test_messages_of_one_run(core: Core) -> None:
    """run_id keeps the messages that this run wrote."""
    run = new_run(core)
    attempt = core.begin(run)
    message = core.complete(run, attempt or 0, "done", Usage())
    assert message is not None
    assert [m.id for m in core.list_messages(run.thread_id, {"run_id": run.id}).items] == [message.id]
    assert core.list_messages(run.thread_id, {"run_id": "run_other"}).items == []


def test_run_takes_its_settings_from_the_assistant_unless_it_names_them(core: Core) -> None:
    """Settings of the run win, null ones fall back, additional instructions are appended."""
    run = new_run(core, model="gpt-4.1", temperature=None, additional_instructions="Be brief.", tools=[], top_p=0.5)
    shown = run.json()
    assert (shown["model"], shown["temperature"], shown["top_p"]) == ("gpt-4.1", 1.0, 0.5)
    assert shown["instructions"] == "Be kind.\nBe brief."
    assert shown["tools"] == []
    assert new_run(core).json()["tools"] == list(script.TOOLS)


def test_additional_messages_come_with_the_run(core: Core) -> None:
    """A run can bring messages of its own, which are on the thread before it starts."""
    assistant = core.create_assistant({"model": "gpt-4o"})
    thread = core.create_thread({})
    more = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    _, added = core.create_run(thread.id, {"assistant_id": assistant.id, "additional_messages": more})
    assert [m.text for m in added] == ["one", "two"]
    assert list(thread.messages) == [m.id for m in added]


def test_thread_and_run_in_one_request(core: Core) -> None:
    """The thread comes with its messages and its metadata, and the run is on it."""
    assistant = core.create_assistant({"model": "gpt-4o"})
    new = {"messages": [{"role": "user", "content": "hi"}], "metadata": {"a": "b"}}
    thread, run = core.create_thread_and_run({"assistant_id": assistant.id, "thread": new})
    assert run.thread_id == thread.id
    assert core.run(thread.id, run.id).status == "queued"
    assert (thread.metadata, len(thread.messages)) == ({"a": "b"}, 1)
    assert refusal(core, core.create_thread_and_run, {"assistant_id": assistant.id, "thread": []}).status == 400


def test_thread_is_locked_while_a_run_is_active(core: Core) -> None:
    """No message and no second run until the run is over, in the known words."""
    run = new_run(core)
    thread_id = run.thread_id
    locked = refusal(core, core.create_message, thread_id, {"role": "user", "content": "more"})
    assert (locked.status, locked.message) == (400, f"Can't add messages to {thread_id} while a run {run.id} is active.")
    busy = refusal(core, core.create_run, thread_id, {"assistant_id": run.assistant_id})
    assert (busy.status, busy.message) == (400, f"Thread {thread_id} already has an active run {run.id}.")
    core.cancel(run)
    assert refusal(core, core.create_message, thread_id, {"role": "user", "content": "more"}).status == 400
    core.cancelled(run, "asked for")
    core.create_message(thread_id, {"role": "user", "content": "more"})
    core.create_run(thread_id, {"assistant_id": run.assistant_id})


def test_submit_wants_exactly_the_calls_of_the_step(core: Core) -> None:
    """Missing, foreign and repeated calls are refused in the known words, and nothing is committed."""
    run = new_run(core)
    ask(core, run, "call_a", "call_b")
    for given in (["call_a"], ["call_a", "call_c"], ["call_a", "call_b", "call_b"], []):
        error = refusal(core, core.submit, run, [(i, "out") for i in given])
        assert (error.status, error.message) == (400, f"Expected tool outputs for call_ids ['call_a', 'call_b'], got {given}")
    assert run.status == "requires_action"
    assert not core.submit(run, [("call_b", "2"), ("call_a", "1")]).repeat
    assert run.status == "queued"


@pytest.mark.parametrize(("setting", "status"), [("400", 400), ("409", 409)])
def test_repeated_submit_is_refused(core: Core, setting: str, status: int) -> None:
    """A repeat gets the status that is set, other calls always a 400."""
    run = new_run(core)
    ask(core, run, "call_a")
    core.submit(run, [("call_a", "1")])
    repeat = refusal(core, core.submit, run, [("call_a", "1")], setting)
    assert (repeat.status, repeat.message) == (status, 'Runs in status "queued" do not accept tool outputs.')
    assert refusal(core, core.submit, run, [("call_z", "1")], setting).status == 400
    ask(core, run, "call_b")
    late = refusal(core, core.submit, run, [("call_a", "1")], setting)
    assert (late.status, late.message) == (status, "Expected tool outputs for call_ids ['call_b'], got ['call_a']")


def test_repeated_submit_can_be_idempotent(core: Core) -> None:
    """With the setting 200 a repeat is accepted, and the first outputs stay."""
    run = new_run(core)
    ask(core, run, "call_a")
    first = core.submit(run, [("call_a", "1")])
    again = core.submit(run, [("call_a", "other")], "200")
    assert (again.repeat, again.step) == (True, first.step)
    assert first.step.calls[0].output == "1"
    ask(core, run, "call_b")
    assert core.submit(run, [("call_a", "1")], "200").repeat
    assert run.status == "requires_action"


def test_run_expires_600_seconds_after_it_was_created(core: Core, clock: Clock) -> None:
    """Expiry is noticed when the run is looked at, ends its step, frees the thread and refuses outputs."""
    run = new_run(core)
    assert run.json()["expires_at"] == NOW + 600
    ask(core, run, "call_a")
    clock.now += 599.9
    assert core.run(run.thread_id, run.id).status == "requires_action"
    clock.now += 0.1
    error = refusal(core, core.submit, run, [("call_a", "1")])
    assert (error.status, error.message) == (400, 'Runs in status "expired" do not accept tool outputs.')
    assert [(e.run.status, e.reason) for e in core.ended] == [("expired", "expires_at passed")]
    (step,) = core.list_steps(run.thread_id, run.id, {}).items
    assert (step.json()["status"], step.json()["expired_at"]) == ("expired", NOW + 600)
    core.create_message(run.thread_id, {"role": "user", "content": "next"})
    threads.Run.model_validate(run.json())


@pytest.mark.parametrize("before", ["queued", "in_progress", "requires_action"])
def test_working_run_can_be_cancelled(core: Core, before: str) -> None:
    """Cancelling goes through `cancelling`, and takes no outputs any more."""
    run = new_run(core)
    if before == "in_progress":
        core.begin(run)
    elif before == "requires_action":
        ask(core, run, "call_a")
    core.cancel(run)
    assert run.json()["required_action"] is None
    assert refusal(core, core.submit, run, [("call_a", "1")]).message.startswith('Runs in status "cancelling"')
    assert refusal(core, core.cancel, run).message == "Cannot cancel run with status 'cancelling'."
    core.cancelled(run, "asked for")
    assert (run.json()["status"], run.json()["cancelled_at"]) == ("cancelled", NOW)
    assert refusal(core, core.cancel, run).message == "Cannot cancel run with status 'cancelled'."
    assert not core.expire(run, "late")


def test_failed_generation_fails_the_run(core: Core) -> None:
    """last_error says why, with the code server_error."""
    run = new_run(core)
    attempt = core.begin(run)
    core.fail(run, attempt or 0, "no replica is up")
    shown = threads.Run.model_validate(run.json())
    assert (shown.status, shown.failed_at) == ("failed", NOW)
    assert shown.last_error is not None
    assert (shown.last_error.code, shown.last_error.message) == ("server_error", "no replica is up")


def test_token_budget_ends_a_run_as_incomplete(core: Core) -> None:
    """More tokens than allowed, or words that were cut off, make the run incomplete and say why."""
    run = new_run(core, max_completion_tokens=4)
    assert core.require_action(run, core.begin(run) or 0, [ToolCall("call_a", "t", "{}")], Usage(1, 5)) is None
    assert run.json()["incomplete_details"] == {"reason": "max_completion_tokens"}
    other = new_run(core, max_prompt_tokens=4)
    assert core.complete(other, core.begin(other) or 0, "words", Usage(5, 1)) is not None
    assert other.json()["incomplete_details"] == {"reason": "max_prompt_tokens"}
    third = new_run(core)
    core.complete(third, core.begin(third) or 0, "wor", Usage(1, 1), cut_off=True)
    assert threads.Run.model_validate(third.json()).status == "incomplete"


def test_outdated_generation_changes_nothing(core: Core) -> None:
    """What a generation brings back counts only while it is the current one."""
    run = new_run(core)
    attempt = core.begin(run) or 0
    assert core.begin(run) is None
    core.expire(run, "made to")
    assert core.require_action(run, attempt, [ToolCall("call_a", "t", "{}")], Usage()) is None
    assert core.complete(run, attempt, "late", Usage()) is None
    core.fail(run, attempt, "late")
    assert run.status == "expired"


@pytest.mark.parametrize("keep", [True, False])
def test_lost_step_comes_back(core: Core, keep: bool) -> None:
    """A lost step is gone from the list, then comes back one generation later, under its old or under new ids."""
    run = new_run(core)
    ask(core, run, "call_a")
    old = run.pending
    assert old is not None
    assert run.lose(old, keep)
    assert (run.status, core.list_steps(run.thread_id, run.id, {}).items) == ("queued", [])
    assert not run.lose(old, keep)
    ask(core, run, "call_b")
    (step,) = core.list_steps(run.thread_id, run.id, {}).items
    assert (step.ordinal, step.generation) == (0, 2)
    assert (step.id == old.id, step.call_ids) == (keep, ("call_a",) if keep else ("call_b",))
    if not keep:
        error = refusal(core, core.submit, run, [("call_a", "1")])
        assert error.message == "Expected tool outputs for call_ids ['call_b'], got ['call_a']"


def test_steps_are_counted_and_isolated(core: Core) -> None:
    """Ordinals count the tool steps of one run, and nothing of a run is reachable through another thread."""
    run, other = new_run(core), new_run(core)
    for number in range(3):
        ask(core, run, f"call_{number}")
        assert core.submit(run, [(f"call_{number}", "out")]).step.ordinal == number
    step = next(iter(run.steps.values()))
    assert core.step(run.thread_id, run.id, step.id) is step
    assert refusal(core, core.run, other.thread_id, run.id).message == f"No run found with id '{run.id}'."
    assert refusal(core, core.step, other.thread_id, other.id, step.id).message == f"No run step found with id '{step.id}'."
    assert len(core.list_runs(run.thread_id, {}).items) == 1


def test_run_is_encoded_once_for_each_change(core: Core) -> None:
    """Polls share one encoding until the run changes."""
    run = new_run(core)
    first = run.encoded()
    assert run.encoded() is first
    core.modify_run(run.thread_id, run.id, {"metadata": {"a": "b"}})
    assert run.encoded() != first


def test_reset_forgets_everything(core: Core) -> None:
    """After a reset there is nothing left, and ids do not come again."""
    run = new_run(core)
    core.reset()
    assert refusal(core, core.thread, run.thread_id).status == 404
    assert new_run(core).id != run.id


def test_same_seed_gives_the_same_ids(clock: Clock) -> None:
    """Two cores with one seed are equal, another seed is not."""
    one, two, other = (new_run(Core(clock, Ids(seed))) for seed in (1, 1, 2))
    assert one.json() == two.json()
    assert one.id != other.id
