"""An allowance: bounded at any moment and over any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.allowance import Allowance


def test_all_of_it_can_be_used_at_once_and_comes_back_with_time():
    allowance = Allowance(3, 0.5)
    assert [allowance.take(1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(1, 1.9)
    assert allowance.take(1, 2.1)
    assert not allowance.take(1, 2.2)


def test_what_is_more_than_there_ever_is_takes_all():
    allowance = Allowance(10, 1)
    assert allowance.take(100, 0.0)
    assert not allowance.take(1, 0.5)
    assert not allowance.take(100, 9.0)
    assert allowance.take(100, 20.0)


def test_what_was_used_without_asking_leaves_nothing_and_no_debt():
    allowance = Allowance(3, 0.5)
    allowance.use(10, 0.0)
    assert allowance.wait(1, 0.0) == 2.0
    allowance.use(1, 2.0)
    assert allowance.wait(1, 2.0) == 2.0


def test_what_is_given_back_can_be_used_again_and_no_more_than_there_ever_is():
    allowance = Allowance(3, 0.5)
    allowance.use(3, 0.0)
    assert not allowance.give(2, 0.0)
    assert allowance.wait(2, 0.0) == 0
    assert allowance.give(100, 0.0)
    assert allowance.take(3, 0.0)
    assert not allowance.take(1, 0.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=100))
def test_no_more_is_used_than_there_was_and_came_back(steps):
    allowance, now, used = Allowance(10, 2), 0.0, 0.0
    for passed, amount in steps:
        now += passed
        if allowance.take(amount, now):
            used += min(amount, 10)
        assert used <= 10 + 2 * now + 1e-6


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=100), st.floats(0.001, 100))
def test_who_waits_as_long_as_is_said_gets_it_and_not_much_earlier(steps, rate):
    allowance, now = Allowance(10, rate), 0.0
    for passed, amount in steps:
        now += passed
        wait = allowance.wait(amount, now)
        assert (wait == 0) == allowance.take(amount, now)
        if wait > 0.01:
            assert not allowance.take(amount, now + wait * 0.99)
            now += wait
            assert allowance.take(amount, now)
