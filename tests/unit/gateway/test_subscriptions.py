"""Subscriptions go out as messages and come back unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.custom_headers import CustomHeader
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import BEGINNING, Micros
from certes_broker.domain.matching import Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.retry import Exponential, Linear, Logarithmic, RetryPolicy, Schedule
from certes_broker.domain.subscriptions import (
    Format,
    Scope,
    State,
    StoredSecret,
    StreamDelivery,
    Subscription,
    WebhookDelivery,
)
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.convert.subscriptions import changed_subscription, new_subscription, subscription_message
from certes_broker.gateway.faults import Faults

NAME = SubscriptionName("org_1", "app")
SECRET = StoredSecret("whsec_" + "A" * 32)

# Durations travel in nanoseconds.
WAITS = st.integers(1, 86_400 * 10**9).map(lambda nanos: nanos / 10**9)
BACKOFFS = st.one_of(
    WAITS.flatmap(
        lambda initial: st.one_of(
            st.builds(Exponential, st.just(initial), st.floats(1, 100), st.floats(86_400, 604_800).map(round)),
            st.builds(Linear, st.just(initial), WAITS, st.just(604_800.0)),
            st.builds(Logarithmic, st.just(initial), WAITS, st.just(604_800.0)),
        )
    ),
    st.lists(WAITS, max_size=5).map(lambda waits: Schedule((0.0, *waits))),
)
POLICIES = st.builds(
    RetryPolicy, BACKOFFS, st.none() | st.integers(1, 100), st.none() | WAITS, st.floats(0, 1, allow_subnormal=False)
)
DELIVERIES = st.one_of(
    st.builds(StreamDelivery, st.integers(1, 3_600).map(float)),
    st.builds(
        WebhookDelivery,
        st.just("https://example.com/hook"),
        st.just((SECRET,)),
        st.sampled_from(Format),
        st.integers(1, 60).map(float),
        headers=st.just((CustomHeader("x-key", "k-geheim"),)),
    ),
)
SELECTORS = st.lists(
    st.builds(
        Selector,
        st.sampled_from(["a.b/c/1/d", "a.b/c/*/d", "a.b/**"]).map(parse_pattern),
        st.dictionaries(st.sampled_from(["org", "repo"]), st.text(min_size=1, max_size=5)).map(
            lambda options: tuple(sorted(options.items()))
        ),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
SUBSCRIPTIONS = st.builds(
    Subscription,
    name=st.just(NAME),
    selectors=SELECTORS,
    delivery=DELIVERIES,
    start=st.just(BEGINNING),
    create_time=st.just(Micros(1_800_000_000_000_001)),
    update_time=st.just(Micros(1_800_000_000_999_999)),
    scope=st.sampled_from(Scope),
    retry_policy=st.none() | POLICIES,
    state=st.sampled_from(State),
    generation=st.none() | st.integers(0, 2**63 - 1),
    labels=st.just((("a", "b"),)),
    revision=st.integers(1, 9),
)


def no_check(*_: object) -> None:
    """Takes any selector."""


def read(**fields: Any) -> Subscription:
    faults = Faults()
    given_fields = {"selectors": [{"pattern": "a.b/c/1/d"}], **fields}
    if "webhook" not in fields:
        given_fields.setdefault("stream", {})
    subscription = new_subscription(faults, NAME, pb.Subscription(**given_fields), no_check)
    faults.check()
    return subscription


@given(SUBSCRIPTIONS)
def test_what_goes_out_comes_back_unchanged(subscription: Subscription) -> None:
    faults = Faults()
    assert changed_subscription(faults, subscription, subscription_message(subscription), no_check) == subscription
    faults.check()


@given(SUBSCRIPTIONS)
def test_no_message_has_a_secret_in_it(subscription: Subscription) -> None:
    message = subscription_message(subscription).SerializeToString()
    assert SECRET.secret.encode() not in message
    assert b"k-geheim" not in message


def test_what_only_the_broker_says_is_passed_over_in_a_new_subscription() -> None:
    new = read(state=pb.Subscription.STATE_PAUSED, create_time={"seconds": 5}, etag="r9", state_reason="x")
    assert (new.state, new.create_time, new.revision, new.state_reason) == (State.ACTIVE, Micros(0), 0, "")


@pytest.mark.parametrize("kind", ["exponential", "linear", "logarithmic"])
def test_a_first_wait_above_the_default_maximum_is_the_maximum(kind: str) -> None:
    policy = read(retry_policy={kind: {"initial": {"seconds": 7_200}}}).retry_policy
    assert policy is not None
    assert not isinstance(policy.backoff, Schedule)
    assert policy.backoff.maximum == 7_200


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"selectors": []}, "subscription.selectors"),
        ({"selectors": [{}]}, "subscription.selectors[0].pattern"),
        ({"selectors": [{"pattern": "a.b/c/1/d"}] * 1_001}, "subscription.selectors"),
        (
            {"selectors": [{"pattern": "a.b/**", "options": {str(i): "x" for i in range(17)}}]},
            "subscription.selectors[0].options",
        ),
        ({"selectors": [{"pattern": "a.b/**", "options": {"a": ""}}]}, "subscription.selectors[0].options['a']"),
        ({"scope": 9}, "subscription.scope"),
        ({"ack_deadline": {"nanos": 999_999_999}}, "subscription.ack_deadline"),
        ({"ack_deadline": {"seconds": 3_600, "nanos": 1}}, "subscription.ack_deadline"),
        ({"ack_deadline": {"seconds": 5, "nanos": -1}}, "subscription.ack_deadline"),
        (
            {"webhook": {"url": "https://a.b/"}, "ack_deadline": {"seconds": 5}},
            "subscription.ack_deadline",
        ),
        ({"labels": {f"k{i}": "v" for i in range(65)}}, "subscription.labels"),
        ({"labels": {"": "v"}}, "subscription.labels['']"),
        ({"labels": {"k": "v" * 64}}, "subscription.labels['k']"),
        ({"retry_policy": {}}, "subscription.retry_policy"),
        ({"retry_policy": {"exponential": {}}}, "subscription.retry_policy.exponential.initial"),
        ({"retry_policy": {"linear": {"initial": {}}}}, "subscription.retry_policy.linear.initial"),
        ({"retry_policy": {"schedule": {}}}, "subscription.retry_policy.schedule.delays"),
        (
            {"retry_policy": {"schedule": {"delays": [{}, {"seconds": 1, "nanos": -1}]}}},
            "subscription.retry_policy.schedule.delays[1]",
        ),
        (
            {"retry_policy": {"schedule": {"delays": [{}]}, "max_attempts": 0}},
            "subscription.retry_policy.max_attempts",
        ),
        (
            {"retry_policy": {"schedule": {"delays": [{}]}, "jitter": float("nan")}},
            "subscription.retry_policy.jitter",
        ),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_by_its_path(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(**fields)
    assert [violation.field for violation in raised.value.violations] == [at_fault]


def test_a_delivery_is_required() -> None:
    faults = Faults()
    new_subscription(faults, NAME, pb.Subscription(selectors=[pb.Selector(pattern="a.b/c/1/d")]), no_check)
    with pytest.raises(Invalid) as raised:
        faults.check()
    assert (raised.value.reason, raised.value.metadata["field"]) == (Reason.FIELD_REQUIRED, "subscription.delivery")


def test_the_defaults_of_back_offs_are_those_of_the_contract() -> None:
    second = {"initial": {"seconds": 1}}
    for fields, backoff in (
        ({"exponential": second}, Exponential(1.0, 2.0, 3_600.0)),
        ({"linear": second}, Linear(1.0, 1.0, 3_600.0)),
        ({"logarithmic": second}, Logarithmic(1.0, 1.0, 3_600.0)),
    ):
        assert read(retry_policy=fields).retry_policy == RetryPolicy(backoff, None, None, 0.2)


def test_a_selector_that_is_stored_already_is_not_checked_again() -> None:
    checked = []
    stored = read()
    message = subscription_message(stored)
    message.selectors.add(pattern="a.b/**")
    changed_subscription(Faults(), stored, message, lambda pattern, _: checked.append(pattern.text))
    assert checked == ["a.b/**"]
