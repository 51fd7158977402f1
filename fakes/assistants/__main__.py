"""`python -m fakes.assistants`: the fake Assistants API in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from fakes.assistants.core import REPEAT_SUBMIT, Core
from fakes.assistants.endpoint import AssistantsEndpoint
from fakes.faults import Nemesis
from fakes.history import History
from fakes.ids import Ids
from fakes.llm.brain import complete
from fakes.llm.client import HttpGenerate
from fakes.remote.main import main, parser
from fakes.remote.session import Part
from fakes.script import ASSISTANT, ASSISTANT_ID


async def make(
    settings: Mapping[str, Any], history: History, nemesis: Nemesis, log: Callable[[str], None], token: str
) -> Part:
    """A service by `seed`, `repeat_submit`, `poll_after_ms` and `llm_url`; without the latter it generates by itself."""
    url = settings.get("llm_url")
    generate = HttpGenerate(url) if url else None
    core = Core(time.time, Ids(settings["seed"], "assistants"))
    core.create_assistant(ASSISTANT, ASSISTANT_ID)
    endpoint = AssistantsEndpoint(
        core, history, nemesis, generate or _alone,
        repeat_submit=settings["repeat_submit"], poll_after_ms=settings.get("poll_after_ms"),
    )

    async def close() -> None:
        await endpoint.aclose()
        if generate is not None:
            await generate.aclose()

    return Part("fake Assistants API", endpoint, close, {"assistant_id": ASSISTANT_ID}, runs=endpoint)


async def _alone(body: dict[str, Any]) -> dict[str, Any]:
    return complete(body, created=int(time.time()))


if __name__ == "__main__":
    options = parser("fakes.assistants", f"The fake Assistants API, with one assistant, {ASSISTANT_ID}.", 8101)
    options.add_argument("--llm-url", metavar="URL", help="of the LLM serving, without a path; left out: answers are made here")
    options.add_argument("--repeat-submit", default="400", choices=REPEAT_SUBMIT, help="what a repeat gets [default: 400]")
    sys.exit(main(options.parse_args(), make))
