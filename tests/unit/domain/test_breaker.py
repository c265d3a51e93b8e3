"""The circuit breaker of an endpoint: its table, its numbers, and what it promises whatever happens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from certes_broker.domain.breaker import (
    TRANSITIONS,
    Breaker,
    BreakerLimits,
    Condition,
    Outcome,
    Signal,
)
from certes_broker.domain.deliveries import IllegalTransition

SUCCESS, FAILURE = Outcome.SUCCESS, Outcome.FAILURE


def tried(breaker: Breaker, *outcomes: Outcome | None, now: float = 0.0) -> Breaker:
    """Makes one request after the other."""
    for outcome in outcomes:
        breaker.end(breaker.begin(now), outcome, now)
    return breaker


def opened(limits: BreakerLimits | None = None) -> Breaker:
    return tried(Breaker(limits or BreakerLimits()), *[FAILURE] * 10)


def test_every_condition_is_left_and_reached_by_the_table() -> None:
    assert {condition for condition, _ in TRANSITIONS} == set(Condition)
    assert set(TRANSITIONS.values()) == set(Condition)
    assert {signal for _, signal in TRANSITIONS} == set(Signal)


def test_it_opens_at_seven_failures_of_ten_and_not_at_six() -> None:
    assert tried(Breaker(BreakerLimits()), *[SUCCESS] * 3, *[FAILURE] * 7).condition is Condition.OPEN
    assert tried(Breaker(BreakerLimits()), *[SUCCESS] * 4, *[FAILURE] * 6).condition is Condition.CLOSED


def test_nine_failures_are_too_few_to_judge() -> None:
    assert tried(Breaker(BreakerLimits()), *[FAILURE] * 9).condition is Condition.CLOSED
    assert opened().condition is Condition.OPEN


def test_what_happened_five_minutes_ago_is_forgotten() -> None:
    breaker = tried(Breaker(BreakerLimits()), *[FAILURE] * 9, now=0.0)
    assert tried(breaker, FAILURE, now=300.0).condition is Condition.CLOSED
    assert tried(breaker, *[FAILURE] * 9, now=569.0).condition is Condition.OPEN


def test_after_thirty_seconds_of_nothing_but_failures_it_opens_however_much_went_well_before() -> None:
    breaker = tried(Breaker(BreakerLimits()), *[SUCCESS] * 10_000)
    assert tried(breaker, *[FAILURE] * 1_000, now=1.0).condition is Condition.CLOSED
    assert tried(breaker, FAILURE, now=30.5).condition is Condition.CLOSED
    assert tried(breaker, FAILURE, now=31.0).condition is Condition.OPEN


def test_one_success_among_failures_is_not_nothing_but_failures() -> None:
    breaker = tried(Breaker(BreakerLimits()), *[SUCCESS] * 10_000)
    tried(breaker, *[FAILURE] * 1_000, SUCCESS, FAILURE, now=1.0)
    assert tried(breaker, *[FAILURE] * 8, now=32.0).condition is Condition.CLOSED
    assert tried(breaker, FAILURE, now=33.0).condition is Condition.OPEN


PACED = BreakerLimits(minimum=10_000, failures=5, failures_a_second=10.0)
"""Judges nobody, so that only the pace of failures is seen."""


def test_what_fails_and_is_not_judged_yet_may_fail_so_often_at_once_and_then_so_often_a_second() -> None:
    breaker, made = Breaker(PACED), 0
    for tick in range(2_001):
        while breaker.wait(now := tick / 100) == 0:
            tried(breaker, FAILURE, now=now)
            made += 1
    assert made == 5 + 20 * 10


def test_what_is_under_way_may_fail_as_well() -> None:
    breaker = tried(Breaker(PACED), FAILURE, FAILURE)
    for _ in range(3):
        assert breaker.wait(0.0) == 0
        breaker.begin(0.0)
    assert breaker.wait(0.0) == pytest.approx(0.1)


def test_failures_that_successes_make_up_for_hold_nobody_up() -> None:
    breaker = Breaker(PACED)
    for _ in range(1_000):
        for outcome in (FAILURE, FAILURE, SUCCESS):
            assert breaker.wait(0.0) == 0
            tried(breaker, outcome)


def test_who_is_well_again_is_soon_sent_as_much_as_ever() -> None:
    breaker = tried(Breaker(BreakerLimits(minimum=10_000)), *[FAILURE] * 200)
    now, at_once = breaker.wait(0.0), []
    assert now > 0
    while breaker.is_paced:
        under_way = []
        while breaker.wait(now) == 0 and len(under_way) < 1_000:
            under_way.append(breaker.begin(now))
        at_once.append(len(under_way))
        for one in under_way:
            breaker.end(one, SUCCESS, now)
    assert at_once[0] == 1
    assert all(later >= 2 * earlier for earlier, later in pairwise(at_once))


OUTCOMES = st.lists(st.sampled_from([SUCCESS, FAILURE, None]), max_size=PACED.failures)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.5, 60.0]), OUTCOMES)))
def test_no_more_fail_than_may_at_once_and_with_time_and_for_what_succeeds(
    rounds: list[tuple[float, list[Outcome | None]]],
) -> None:
    breaker, now, failures, allowed = Breaker(PACED), 0.0, 0, 5.0
    for passed, outcomes in rounds:
        now += passed
        allowed += passed * 10
        together = [(breaker.begin(now), outcome) for outcome in outcomes if breaker.wait(now) == 0]
        for began_in, outcome in together:
            breaker.end(began_in, outcome, now)
            failures += outcome is FAILURE
            allowed += (outcome is SUCCESS) * 7 / 3
        assert failures <= allowed + 1e-6


def test_a_fault_of_our_own_is_charged_to_nobody() -> None:
    breaker = tried(Breaker(BreakerLimits()), *[None] * 100)
    assert (breaker.condition, breaker.in_flight) == (Condition.CLOSED, 0)
    assert tried(breaker, *[FAILURE] * 9).condition is Condition.CLOSED


def test_while_open_nothing_is_admitted_until_thirty_seconds_have_passed() -> None:
    breaker = opened()
    assert not breaker.admits(29.9)
    with pytest.raises(IllegalTransition):
        breaker.begin(29.9)
    assert breaker.condition is Condition.OPEN
    assert breaker.admits(30.0)


def test_a_half_open_breaker_lets_one_request_through_at_a_time() -> None:
    breaker = opened()
    probe = breaker.begin(30.0)
    assert breaker.condition is Condition.HALF_OPEN
    assert not breaker.admits(1000.0)
    breaker.end(probe, None, 31.0)
    assert (breaker.condition, breaker.admits(31.0)) == (Condition.HALF_OPEN, True)


def test_a_probe_that_fails_opens_it_for_another_thirty_seconds() -> None:
    breaker = opened()
    breaker.end(breaker.begin(40.0), FAILURE, 41.0)
    assert (breaker.condition, breaker.admits(70.9), breaker.admits(71.0)) == (Condition.OPEN, False, True)


def test_after_a_probe_that_succeeds_one_more_is_admitted_with_each_success() -> None:
    breaker = tried(opened(BreakerLimits(full=4)), SUCCESS, now=30.0)
    admitted = []
    while breaker.condition is Condition.RECOVERING:
        admitted.append(breaker.slots)
        tried(breaker, SUCCESS, now=31.0)
    assert admitted == [1, 2, 3]
    assert breaker.condition is Condition.CLOSED


def test_a_failure_while_recovering_halves_what_is_admitted_and_many_open_it_again() -> None:
    breaker = tried(opened(), SUCCESS, *[SUCCESS] * 5, now=30.0)
    assert tried(breaker, FAILURE, now=30.0).slots == 3
    assert tried(breaker, *[FAILURE] * 10, now=31.0).slots == 1
    assert tried(breaker, FAILURE, now=31.0).condition is Condition.OPEN


def test_what_began_before_it_opened_says_nothing_any_more() -> None:
    breaker = Breaker(BreakerLimits())
    late = [breaker.begin(0.0) for _ in range(3)]
    tried(breaker, *[FAILURE] * 10)
    breaker.end(late[0], SUCCESS, 1.0)
    assert breaker.condition is Condition.OPEN
    probe = breaker.begin(30.0)
    breaker.end(late[1], SUCCESS, 31.0)
    assert (breaker.condition, breaker.admits(31.0)) == (Condition.HALF_OPEN, False)
    breaker.end(probe, SUCCESS, 32.0)
    breaker.end(late[2], FAILURE, 33.0)
    assert (breaker.condition, breaker.slots, breaker.in_flight) == (Condition.RECOVERING, 1, 0)


class BreakerMachine(RuleBasedStateMachine):
    """Requests that begin and end as they like, against what is promised of a breaker whatever they do."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = BreakerLimits(share=0.7, window=60.0, minimum=5, pause=30.0, full=4, failures=3)
        self.breaker = Breaker(self.limits)
        self.now = 0.0
        self.under_way: list[int] = []
        self.ended: list[tuple[float, Outcome]] = []
        self.opened_at: float | None = None

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 29.0, 31.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.admits(self.now))
    @rule()
    def a_request_begins(self) -> None:
        was = self.breaker.condition
        self.under_way.append(self.breaker.begin(self.now))
        if was is Condition.OPEN:
            assert self.opened_at is not None
            assert self.now >= self.opened_at + self.limits.pause
            assert self.breaker.condition is Condition.HALF_OPEN

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from([SUCCESS, FAILURE, FAILURE, FAILURE, None]))
    def a_request_ends(self, data: st.DataObject, outcome: Outcome | None) -> None:
        began_in = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        was = self.breaker.condition
        self.breaker.end(began_in, outcome, self.now)
        if outcome is not None:
            self.ended.append((self.now, outcome))
        now = self.breaker.condition
        if now is not was:
            assert outcome is not None, "what says nothing of the endpoint moves nothing"
            assert (was, now) in {(before, after) for (before, _), after in TRANSITIONS.items()}
        if now is Condition.OPEN and was is not Condition.OPEN:
            assert outcome is FAILURE
            self.opened_at = self.now
            if was is Condition.CLOSED:
                recent = [one for at, one in self.ended if at > self.now - self.limits.window]
                assert len(recent) >= self.limits.minimum

    @invariant()
    def it_knows_how_many_are_under_way(self) -> None:
        assert self.breaker.in_flight == len(self.under_way)

    @invariant()
    def what_may_be_under_way_is_what_is_admitted(self) -> None:
        slots = self.breaker.slots
        if self.breaker.condition is Condition.RECOVERING:
            assert 1 <= slots < self.limits.full
            assert self.breaker.admits(self.now) == (len(self.under_way) < slots)

    @invariant()
    def it_is_never_stuck(self) -> None:
        """When nothing is under way, it admits something, now or after its pause, and soon."""
        if not self.under_way:
            assert self.breaker.admits(self.now + self.limits.pause)
            assert self.breaker.wait(self.now) <= 1 / self.limits.failures_a_second


TestBreakerMachine = BreakerMachine.TestCase
