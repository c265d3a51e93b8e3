from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.webhook_headers import (
    MAXIMUM_KEPT_BYTES,
    MAXIMUM_KEPT_HEADERS,
    WebhookHeaders,
    is_credential,
    is_of_connection,
    kept_with_event,
    kept_with_rejected,
    parse_header_name,
)

CREDENTIALS = [
    "authorization",
    "proxy-authorization",
    "x-authorization",
    "x-forwarded-authorization",
    "cookie",
    "set-cookie",
    "cookie2",
    "x-gitlab-token",
    "x-auth-token",
    "x-amz-security-token",
    "x-webhook-secret",
    "x-api-key",
    "apikey",
    "x-access-key",
    "x-password",
    "x-credentials",
    "x-auth",
    "x-authentication",
    "x-jwt-assertion",
    "x-session-id",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "x-key",
    "key",
]
PLAIN = [
    "x-github-event",
    "x-hub-signature-256",
    "stripe-signature",
    "webhook-id",
    "webhook-signature",
    "x-shopify-hmac-sha256",
    "x-slack-retry-num",
    "idempotency-key",
    "x-partition-key",
    "x-keyed-by",
    "x-author",
    "user-agent",
    "content-type",
    "x-forwarded-for",
]

pairs = st.lists(
    st.tuples(st.sampled_from([*CREDENTIALS, *PLAIN, "x-own"]), st.text(max_size=40) | st.just("v" * 3000)), max_size=20
).map(tuple)


def test_a_header_that_came_once_is_found_by_its_name():
    headers = WebhookHeaders((("a", "1"), ("b", "2")))
    assert (headers.get("a"), headers.get("c")) == ("1", None)
    assert not headers.is_repeated("a")


def test_a_header_that_came_twice_is_known_to_have():
    headers = WebhookHeaders((("a", "1"), ("b", "2"), ("a", "1")))
    assert headers.is_repeated("a")
    assert not headers.is_repeated("b")
    assert not headers.is_repeated("c")


@pytest.mark.parametrize("name", CREDENTIALS)
def test_what_is_called_a_credential_is_one(name):
    assert is_credential(name)


@pytest.mark.parametrize("name", PLAIN)
def test_what_a_provider_says_of_a_webhook_is_no_credential(name):
    assert not is_credential(name)


def test_the_header_of_a_scheme_is_a_credential_whatever_it_is_called():
    assert is_credential("x-plain", "x-plain")


@given(pairs)
def test_no_credential_is_kept_whatever_is_asked_for(came):
    for name, _ in kept_with_rejected(came, [*CREDENTIALS, "x-own"], "x-own"):
        assert name in PLAIN


@given(pairs)
def test_all_other_headers_of_a_refused_payload_are_kept_as_far_as_there_is_room(came):
    kept = kept_with_rejected(came, ["webhook-id"], "x-own")
    sound = [pair for pair in came if pair[0] in PLAIN]
    assert sum(len(name) + len(value) for name, value in kept) <= MAXIMUM_KEPT_BYTES
    if sum(len(name) + len(value) for name, value in sound) <= MAXIMUM_KEPT_BYTES:
        assert list(kept) == sound
    else:
        assert set(kept) <= set(sound)


def test_headers_that_are_needed_come_before_those_that_fill_the_room():
    filling = tuple((f"x-{number}", "v" * 1000) for number in range(20))
    kept = kept_with_rejected((*filling, ("webhook-id", "m")), ["webhook-id"], None)
    assert kept[0] == ("webhook-id", "m")
    assert len(kept) == 9


@given(pairs)
def test_what_is_kept_with_an_event_is_bounded_and_in_order(came):
    wanted = [pair for pair in came if pair[0] in PLAIN]
    kept = kept_with_event(wanted)
    assert sum(len(name) + len(value) for name, value in kept) <= MAXIMUM_KEPT_BYTES
    rest = iter(wanted)
    assert all(pair in rest for pair in kept)
    if sum(len(name) + len(value) for name, value in wanted) <= MAXIMUM_KEPT_BYTES:
        assert list(kept) == wanted


def test_no_event_is_kept_with_more_headers_than_a_server_takes():
    came = [(f"x-{number}", "") for number in range(MAXIMUM_KEPT_HEADERS + 1)]
    assert list(kept_with_event(came)) == came[:MAXIMUM_KEPT_HEADERS]


@pytest.mark.parametrize("name", ["host", "connection", "expect", "upgrade", "te"])
def test_what_the_connection_was_told_is_known(name):
    assert is_of_connection(name)
    assert not is_of_connection("x-github-event")


@pytest.mark.parametrize("text", ["X-Gitlab-Token", "a", "~!#$%&'*+.^_`|-9"])
def test_the_name_of_a_header_is_read_in_lower_case(text):
    assert parse_header_name(text) == text.lower()


@pytest.mark.parametrize("text", ["", "a b", "a:", "ä", "a\n", "a" * 101, "(a)"])
def test_what_is_no_name_of_a_header_is_refused(text):
    with pytest.raises(Invalid) as caught:
        parse_header_name(text)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.violations[0].field == "header"
