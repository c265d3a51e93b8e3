"""Turns are shared by priority, and nobody starves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.turns import PRIORITIES, Turns

priorities = st.sampled_from(PRIORITIES)


@given(st.sets(priorities, min_size=1), st.integers(0, 500))
def test_where_all_wait_each_priority_gets_its_share(waiting: set[int], turns: int) -> None:
    line: Turns[int] = Turns()
    for priority in waiting:
        line.put(priority, priority)
    taken: Counter[int] = Counter()
    for _ in range(turns):
        priority = line.take()
        taken[priority] += 1
        line.put(priority, priority)
    weights = sum(priority + 1 for priority in waiting)
    for priority in waiting:
        share = turns * (priority + 1) / weights
        # Each other priority can be ahead or behind by one turn.
        assert abs(taken[priority] - share) <= len(waiting), (taken, priority)


@given(st.lists(st.one_of(priorities, st.none()), max_size=300), priorities)
def test_nobody_starves_whatever_the_others_do(history: list[int | None], mine: int) -> None:
    """Before, others come and go; then the others always wait, and never have I more than my share against me."""
    line: Turns[str] = Turns()
    for step in history:
        if step is not None:
            line.put("other", step)
        elif line:
            line.take()
    while line:
        line.take()
    line.put("mine", mine)
    passed = 0
    others = [priority for priority in PRIORITIES if priority != mine]
    for priority in others:
        line.put(f"{priority}", priority)
    while (taken := line.take()) != "mine":
        passed += 1
        line.put(taken, int(taken))
    assert passed <= sum((priority + 1) / (mine + 1) + 1 for priority in others)


@given(st.lists(st.tuples(st.integers(0, 99), priorities), max_size=60))
def test_within_a_priority_the_first_to_come_is_the_first_to_go_and_none_is_lost(
    waiting: list[tuple[int, int]],
) -> None:
    line: Turns[tuple[int, int]] = Turns()
    for number, priority in waiting:
        line.put((number, priority), priority)
    assert len(line) == len(waiting)
    taken = [line.take() for _ in waiting]
    for priority in PRIORITIES:
        assert [one for one in taken if one[1] == priority] == [one for one in waiting if one[1] == priority]
    with pytest.raises(IndexError):
        line.take()


def test_an_idle_priority_saves_no_turns_up() -> None:
    line: Turns[int] = Turns()
    for _ in range(1000):
        line.put(0, 0)
        line.take()
    line.put(9, 9)
    line.put(0, 0)
    line.put(0, 0)
    # Had 9 the turns of its idle time, it would go on before 0 for a thousand turns more.
    taken = []
    for _ in range(110):
        taken.append(line.take())
        line.put(taken[-1], taken[-1])
    assert taken.count(0) >= 9
