"""Which plans were in force where: those of a turn are its conversation's, and so are those of a violation in it."""

from __future__ import annotations

import dataclasses
from collections import Counter

from contracts.index import Index
from contracts.result import Violation

NO_PLAN = "none"
"""What the plan of a turn without faults is called; there is a built-in one of that name."""


class Bound:
    """The plans of each conversation of a history.

    `turns` counts the turns of each plan and `since` has the number of the event with which the first one began; `together`
    holds every set of plans that a conversation had.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._plans: dict[str, frozenset[str]] = {}
        self._alone: set[frozenset[str]] = set()
        self.turns: Counter[str] = Counter()
        self.since: dict[str, int] = {}
        for turn in index.turns.values():
            if turn.planned is None:
                continue
            plans = frozenset(turn.planned.plans or (NO_PLAN,))
            self.turns.update(sorted(plans))
            for plan in plans:
                self.since.setdefault(plan, turn.since)
            if turn.conversation is None:
                self._alone.add(plans)
            else:
                self._plans[turn.conversation] = self._plans.get(turn.conversation, frozenset()) | plans
        self.together = frozenset(self._plans.values()) | self._alone

    def conversation(self, violation: Violation) -> str | None:
        """The conversation that a violation is about, None where it belongs to no single one."""
        run = self._index.runs.get(violation.run_id or "")
        if run is not None and run.conversation is not None:
            return run.conversation
        events = (self._index.event(seq) for seq in violation.events)
        found = {e.conversation for e in events if e is not None and e.conversation is not None}
        return found.pop() if len(found) == 1 else None

    def known(self, violation: Violation) -> Violation:
        """The violation with its conversation, and the plans bound to that; none where it is not known."""
        conversation = self.conversation(violation)
        plans = self._plans.get(conversation, frozenset()) if conversation is not None else frozenset[str]()
        return dataclasses.replace(violation, conversation=conversation, plans=plans)
