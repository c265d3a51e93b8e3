"""Retry policies; the vectors are shared with the SDKs."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.retry import (
    DEFAULT_RETRY_POLICY,
    Exponential,
    GiveUp,
    GiveUpReason,
    Linear,
    Logarithmic,
    RetryAt,
    RetryPolicy,
    Schedule,
    next_try,
    parse_retry_after,
    wait_after,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "backoff.json").read_text())
KINDS = {"exponential": Exponential, "linear": Linear, "logarithmic": Logarithmic}

DAY = 86_400.0
waits = st.floats(0.001, DAY)
backoffs = st.one_of(
    st.builds(Exponential, waits, st.floats(1, 100), st.floats(DAY, 7 * DAY)),
    st.builds(Linear, waits, st.floats(0, DAY), st.floats(DAY, 7 * DAY)),
    st.builds(Logarithmic, waits, st.floats(0, DAY), st.floats(DAY, 7 * DAY)),
    st.lists(st.floats(0, 7 * DAY), max_size=99).map(lambda delays: Schedule((0.0, *delays))),
)
policies = st.builds(
    RetryPolicy,
    backoffs,
    st.none() | st.integers(1, 100),
    st.none() | st.floats(0.001, 30 * DAY),
    st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)
times = st.floats(0, 4e9)


def policy_of(vector):
    settings = dict(vector)
    ((kind, values),) = settings.pop("backoff").items()
    backoff = Schedule(tuple(values["delays"])) if kind == "schedule" else KINDS[kind](**values)
    return RetryPolicy(backoff, **settings)


@pytest.mark.parametrize("vector", VECTORS["decisions"], ids=lambda vector: f"{vector['why']}, {vector['attempt']}")
def test_a_failed_attempt_is_followed_by_what_the_policy_says(vector):
    decision = next_try(
        policy_of(vector["policy"]),
        vector["attempt"],
        vector["first_try_at"],
        vector["now"],
        vector["chance"],
        vector["asked"],
    )
    expected = vector["expect"]
    if "give_up" in expected:
        assert decision == GiveUp(GiveUpReason[expected["give_up"]])
    else:
        assert isinstance(decision, RetryAt)
        assert decision.time == pytest.approx(expected["retry_at"], abs=1e-6)
        assert decision.attempt == expected["attempt"]


@pytest.mark.parametrize("vector", VECTORS["retry_after"], ids=lambda vector: f"{vector['value'][:40]!r}")
def test_retry_after_is_seconds_or_an_http_date_or_says_nothing(vector):
    assert parse_retry_after(vector["value"], vector["now"]) == vector["seconds"]


@given(st.text(max_size=40), times)
def test_a_retry_after_of_any_text_is_within_bounds_or_says_nothing(text, now):
    seconds = parse_retry_after(text, now)
    assert seconds is None or 0 <= seconds <= DAY


def test_the_default_policy_is_the_default_vector():
    assert policy_of(VECTORS["decisions"][0]["policy"]) == DEFAULT_RETRY_POLICY


@given(policies, times, chances, st.none() | st.floats(-10, 1e12))
def test_every_policy_ends_and_counts_attempts_one_by_one(policy, start, chance, asked):
    now, attempt = start, 1
    while isinstance(decision := next_try(policy, attempt, start, now, chance, asked), RetryAt):
        assert decision.attempt == attempt + 1 <= policy.attempts <= 100
        assert decision.time >= now
        if policy.max_duration is not None:
            assert decision.time <= start + policy.max_duration
        now, attempt = decision.time, decision.attempt
    assert decision.reason is GiveUpReason.DURATION_EXHAUSTED or attempt == policy.attempts


@given(policies, st.integers(1, 100), times, chances, chances)
def test_chance_moves_the_time_within_the_jitter_and_never_the_verdict(policy, attempt, now, chance, other):
    early, late = (next_try(policy, attempt, now, now, each) for each in sorted((chance, other)))
    if isinstance(early, GiveUp):
        assert late == early
    else:
        assert isinstance(late, RetryAt)
        longest = wait_after(policy.backoff, attempt) * (1 + policy.jitter)
        assert now <= early.time <= late.time <= now + longest + 1e-6


@given(policies, st.integers(1, 99), times, chances, st.floats(-10, 1e12))
def test_a_receiver_can_delay_the_next_attempt_and_never_hasten_it(policy, attempt, now, chance, asked):
    without = next_try(policy, attempt, now, now, chance)
    with_asked = next_try(policy, attempt, now, now, chance, asked)
    if isinstance(without, RetryAt) and isinstance(with_asked, RetryAt):
        assert without.time <= with_asked.time <= max(without.time, now + DAY * (1 + policy.jitter)) + 1e-6
    else:
        assert isinstance(with_asked, GiveUp)


@given(backoffs.filter(lambda backoff: not isinstance(backoff, Schedule)), st.integers(1, 10**6))
def test_waits_grow_and_stay_within_the_maximum(backoff, attempt):
    assert backoff.initial <= wait_after(backoff, attempt) <= wait_after(backoff, attempt + 1) <= backoff.maximum


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Exponential(0), "exponential.initial"),
        (lambda: Exponential(-1), "exponential.initial"),
        (lambda: Exponential(math.nan), "exponential.initial"),
        (lambda: Exponential(DAY + 1, maximum=7 * DAY), "exponential.initial"),
        (lambda: Exponential(1, multiplier=0.99), "exponential.multiplier"),
        (lambda: Exponential(1, multiplier=100.1), "exponential.multiplier"),
        (lambda: Exponential(1, multiplier=math.nan), "exponential.multiplier"),
        (lambda: Exponential(10, maximum=9), "exponential.maximum"),
        (lambda: Exponential(1, maximum=7 * DAY + 1), "exponential.maximum"),
        (lambda: Exponential(1, maximum=math.inf), "exponential.maximum"),
        (lambda: Linear(0, 1), "linear.initial"),
        (lambda: Linear(1, -1), "linear.increment"),
        (lambda: Linear(1, DAY + 1), "linear.increment"),
        (lambda: Linear(2, 1, 1), "linear.maximum"),
        (lambda: Logarithmic(0, 1), "logarithmic.initial"),
        (lambda: Logarithmic(1, -1), "logarithmic.scale"),
        (lambda: Logarithmic(2, 1, 1), "logarithmic.maximum"),
        (lambda: Schedule(()), "schedule.delays"),
        (lambda: Schedule((0.0,) * 101), "schedule.delays"),
        (lambda: Schedule((1.0, 2.0)), "schedule.delays[0]"),
        (lambda: Schedule((0.0, 1.0, -1.0)), "schedule.delays[2]"),
        (lambda: Schedule((0.0, 7 * DAY + 1)), "schedule.delays[1]"),
        (lambda: RetryPolicy(Exponential(1), max_attempts=0), "max_attempts"),
        (lambda: RetryPolicy(Exponential(1), max_attempts=101), "max_attempts"),
        (lambda: RetryPolicy(Exponential(1), max_duration=0), "max_duration"),
        (lambda: RetryPolicy(Exponential(1), max_duration=30 * DAY + 1), "max_duration"),
        (lambda: RetryPolicy(Exponential(1), max_duration=math.nan), "max_duration"),
        (lambda: RetryPolicy(Exponential(1), jitter=-0.1), "jitter"),
        (lambda: RetryPolicy(Exponential(1), jitter=1.1), "jitter"),
        (lambda: RetryPolicy(Exponential(1), jitter=math.nan), "jitter"),
    ],
)
def test_a_policy_out_of_bounds_cannot_be_made_and_the_field_is_named(make, field):
    with pytest.raises(Invalid) as refusal:
        make()
    assert refusal.value.reason is Reason.FIELD_INVALID
    assert [violation.field for violation in refusal.value.violations] == [f"retry_policy.{field}"]
