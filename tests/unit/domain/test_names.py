"""Resource names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import (
    SubscriberName,
    SubscriptionName,
    parse_id,
    parse_subscriber_name,
    parse_subscription_name,
)

ids = st.from_regex(r"[A-Za-z0-9._~:@-]{1,128}", fullmatch=True).filter(lambda text: text not in {"-", ".", ".."})


@given(ids, ids)
def test_reading_what_was_written_gives_the_same_name(subscriber, subscription):
    name = SubscriptionName(subscriber, subscription)
    assert parse_subscription_name(name.text) == name
    assert parse_subscriber_name(name.parent.text) == SubscriberName(subscriber) == name.parent


@pytest.mark.parametrize(
    "text",
    ["org_123", "0b6f3f3e-3c0c-4e0a-9a0e-0f3f3e3c0c4e", "ann@example.com", "tenant:7", "~x", "-x", "...", "A" * 128],
)
def test_the_ids_that_producers_have_already_are_ids(text):
    assert parse_id(text) == text
    assert parse_subscriber_name(f"subscribers/{text}").subscriber == text


@pytest.mark.parametrize("text", ["", "-", ".", "..", "a b", "a/b", "a%2Fb", "é", "a\n", "A" * 129, "*"])
def test_what_is_no_id_is_refused_alone_and_in_a_name(text):
    for parse, whole in ((parse_id, text), (parse_subscriber_name, f"subscribers/{text}")):
        with pytest.raises(Invalid) as refusal:
            parse(whole)
        assert refusal.value.reason is Reason.MALFORMED_NAME
        assert refusal.value.metadata["problem"] in refusal.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "subscribers",
        "subscribers/a",
        "subscribers/a/subscriptions",
        "subscribers/a/subscriptions/",
        "/subscribers/a/subscriptions/b",
        "subscribers/a/subscriptions/b/",
        "subscribers/a/sources/b",
        "Subscribers/a/subscriptions/b",
        "subscribers//subscriptions/b",
    ],
)
def test_a_name_of_another_form_is_refused_with_the_form_wanted(text):
    with pytest.raises(Invalid) as refusal:
        parse_subscription_name(text)
    assert refusal.value.reason is Reason.MALFORMED_NAME
    assert "subscribers/{subscriber}/subscriptions/{subscription}" in str(refusal.value)


def test_names_spell_themselves():
    assert str(parse_subscription_name("subscribers/a/subscriptions/b")) == "subscribers/a/subscriptions/b"
    assert str(parse_subscriber_name("subscribers/a")) == "subscribers/a"


def test_a_refusal_does_not_repeat_a_long_name_whole():
    with pytest.raises(Invalid) as refusal:
        parse_id("a" * 5000)
    assert len(refusal.value.message) < 300
