"""Timetables."""

from __future__ import annotations

import pytest

from chaos import builtin
from load.timetable import TooShort, timetable


def test_each_plan_has_a_window_and_time_to_recover() -> None:
    plans = [builtin.find("incident"), builtin.find("kill-after-commit")]
    stages = timetable(100, 20, plans)
    assert [s.kind for s in stages] == ["warm-up", "healthy", "fault", "recovery", "fault", "recovery"]
    assert [s.plan.name for s in stages if s.plan] == ["incident", "kill-after-commit"]
    assert sum(s.seconds for s in stages[1:]) == pytest.approx(100)


def test_two_coordinators_share_the_time_in_the_order_abba() -> None:
    stages = timetable(120, 20, [builtin.find("incident")], sides=2)
    healthy = [s.side for s in stages if s.kind == "healthy"]
    assert healthy[:8] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert sum(s.seconds for s in stages if s.side == 0 and s.kind != "warm-up") == pytest.approx(60)
    assert [(s.kind, s.side) for s in stages[-4:]] == [("fault", 0), ("recovery", 0), ("fault", 1), ("recovery", 1)]


def test_too_short_says_how_long_it_has_to_be() -> None:
    with pytest.raises(TooShort, match=r"give --for (\d+)s") as caught:
        timetable(10, 20, [builtin.find("incident")])
    enough = float(str(caught.value).split("--for ")[1].split("s")[0])
    assert timetable(enough, 20, [builtin.find("incident")])


def test_a_window_is_longer_than_the_clock_of_its_plan() -> None:
    with pytest.raises(TooShort):
        timetable(14, 20, [builtin.find("incident")])  # 4.7 s each, and the last toxic begins at 2.9 s and lasts
    fault = next(s for s in timetable(20, 20, [builtin.find("incident")]) if s.kind == "fault")
    assert fault.seconds > 4
