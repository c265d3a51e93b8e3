from __future__ import annotations

import pytest

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.sources import (
    Everyone,
    PayloadSubscriber,
    Source,
    SourceSecret,
    parse_audience,
    parse_source_name,
)


@pytest.mark.parametrize("text", ["a", "github", "github-2", "0_x", "a" * 63])
def test_a_name_of_a_source_is_returned_unchanged(text):
    assert parse_source_name(text) == text


@pytest.mark.parametrize("text", ["", "A", "-a", "_a", "a b", "a/b", "é", "a" * 64, "a\n"])
def test_what_is_no_name_of_a_source_is_refused(text):
    with pytest.raises(Invalid) as caught:
        parse_source_name(text)
    assert caught.value.reason is Reason.MALFORMED_NAME


def test_an_audience_is_everyone_or_one_subscriber():
    assert parse_audience("everyone") == Everyone()
    assert parse_audience("subscribers/org_1") == SubscriberName("org_1")
    assert parse_audience("subscriber_in_payload") == PayloadSubscriber()


@pytest.mark.parametrize("text", ["", "Everyone", "all", "org_1", "subscribers/", "subscribers/-", "subscribers/a/b"])
def test_any_other_audience_is_refused_with_the_forms_it_has(text):
    with pytest.raises(Invalid, match="'subscriber_in_payload' or 'subscribers/ID'") as caught:
        parse_audience(text)
    assert caught.value.reason is Reason.MALFORMED_NAME


@pytest.mark.parametrize("text", ["everyone", "subscriber_in_payload", "subscribers/a", "subscribers/tenant:7"])
def test_an_audience_is_spelled_as_it_was_read(text):
    assert parse_audience(text).text == text


def test_secrets_are_not_in_the_representation():
    assert "hush" not in repr(Source("github", "github", Everyone(), (SourceSecret("hush"),)))


def test_a_secret_verifies_until_it_expires():
    secrets = (SourceSecret("new"), SourceSecret("old", Micros(2_000_000)), SourceSecret("older", Micros(1_000_000)))
    source = Source("github", "github", Everyone(), secrets)
    assert source.secrets_at(Micros(999_999)) == ("new", "old", "older")
    assert source.secrets_at(Micros(1_000_000)) == ("new", "old")
    assert source.secrets_at(Micros(2_000_000)) == ("new",)
