"""Streaks of failure: how long, how many, and what ends one."""

from __future__ import annotations

from certes_broker.domain.events import Micros
from certes_broker.domain.streaks import MINIMUM_FAILURES, Streak, with_failure

DAY = 86_400 * 1_000_000
NEVER = Micros(0)


def failed(times: int, *, apart: int, streak: Streak | None = None, changed: Micros = NEVER) -> Streak:
    """Lets attempts fail one after the other, beginning at day 1."""
    for number in range(times):
        streak = with_failure(streak, changed, Micros(DAY + number * apart))
    assert streak is not None
    return streak


def test_it_is_over_after_five_days_and_not_a_moment_before():
    streak = failed(20, apart=1)
    assert not streak.is_over(5 * 86_400, Micros(6 * DAY - 1))
    assert streak.is_over(5 * 86_400, Micros(6 * DAY))


def test_few_failures_do_not_speak_for_the_days_between():
    assert not failed(MINIMUM_FAILURES - 1, apart=DAY).is_over(5 * 86_400, Micros(100 * DAY))
    assert failed(MINIMUM_FAILURES, apart=DAY).is_over(5 * 86_400, Micros(100 * DAY))


def test_a_change_of_the_subscription_begins_it_anew():
    old = failed(20, apart=1)
    assert with_failure(old, Micros(2 * DAY), Micros(3 * DAY)) == Streak(Micros(3 * DAY))
    assert with_failure(old, Micros(DAY), Micros(3 * DAY)) == old


def test_what_is_counted_is_bounded():
    assert failed(10_000, apart=1).failures == MINIMUM_FAILURES
