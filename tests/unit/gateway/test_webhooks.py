"""The webhook of a subscription: its URL, its secrets, and what its receiver consented to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.consent import NOT_REQUIRED, UNASKED, Consent, Granted, Withheld
from certes_broker.domain.custom_headers import CustomHeader
from certes_broker.domain.errors import Invalid
from certes_broker.domain.events import Micros
from certes_broker.domain.subscriptions import Format, StoredSecret, WebhookDelivery
from certes_broker.gateway.convert.webhooks import read_webhook, webhook_message
from certes_broker.gateway.faults import Faults

URL = "https://example.com/hook"
SECRET = "whsec_" + "A" * 32


def read(stored: WebhookDelivery | None = None, **fields: Any) -> WebhookDelivery:
    faults = Faults()
    webhook = read_webhook(faults, "webhook", pb.Webhook(**{"url": URL, **fields}), stored)
    faults.check()
    return webhook


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com:8443/a/b?c=d&e=%20",
        "https://127.0.0.1/",
        "https://[::1]:9000/",
        "HTTPS://EXAMPLE.COM/",
        "https://example.com/" + "a" * 2_028,
    ],
)
def test_a_url_is_taken_as_it_is(url: str) -> None:
    assert read(url=url).url == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is required"),
        ("example.com/hook", "neither http"),
        ("ftp://example.com/", "neither http"),
        ("javascript:alert(1)", "neither http"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://:443/", "no host"),
        ("https://user@example.com/", "credentials"),
        ("https://user:secret@example.com/", "credentials"),
        ("https://example.com/#top", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:99999/", "is no URL"),
        ("https://example.com:0/", "port 0"),
        ("https://[::1/", "is no URL"),
        ("https://user:secret/1@example.com/", "is no URL"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com\\@evil.example/", "percent-encoded"),
        ("https://exämple.com/", "percent-encoded"),
        ("https://example.com/\r\nhost: evil", "percent-encoded"),
        ("https://example.com/" + "a" * 2_029, "2048 are allowed"),
    ],
)
def test_a_url_that_two_parsers_could_read_differently_or_that_is_none_is_refused(url: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem) as raised:
        read(url=url)
    assert [violation.field for violation in raised.value.violations] == ["webhook.url"]
    assert "secret" not in str(raised.value)


def test_defaults_are_those_of_the_contract() -> None:
    assert read() == WebhookDelivery(URL, (), Format.CLOUDEVENTS_JSON, 15.0)


def test_a_webhook_that_brings_no_secrets_keeps_the_stored_ones() -> None:
    stored = WebhookDelivery(URL, (StoredSecret(SECRET),))
    assert read(stored).secrets == stored.secrets
    assert read(stored, secrets=["whsec_" + "B" * 32]).secrets == (StoredSecret("whsec_" + "B" * 32),)


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        (["geheim"], "webhook.secrets[0]"),
        ([SECRET, "whsec_AAAA"], "webhook.secrets[1]"),
        ([SECRET] * 5, "webhook.secrets"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secrets: list[str], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(secrets=secrets)
    assert [violation.field for violation in raised.value.violations] == [field]
    assert secrets[-1] not in str(raised.value)


GRANTED = Granted("events.example.com", Micros(1_000_000), 60)


def test_a_receiver_has_consented_until_the_url_or_the_wish_changes() -> None:
    stored = WebhookDelivery(URL, (StoredSecret(SECRET),), consent=GRANTED)
    assert read(stored, require_consent=True, max_in_flight=3).consent == GRANTED
    assert read(stored, require_consent=True, url=f"{URL}/other").consent == UNASKED
    assert read(stored).consent == NOT_REQUIRED
    assert read(replace(stored, consent=NOT_REQUIRED), require_consent=True).consent == UNASKED
    assert read(require_consent=True).consent == UNASKED


def test_what_a_caller_says_of_the_consent_counts_for_nothing() -> None:
    said = pb.Webhook.Consent(state=pb.Webhook.Consent.STATE_GRANTED)
    assert read(require_consent=True, consent=said).consent == UNASKED
    assert read(consent=said).consent == NOT_REQUIRED


@pytest.mark.parametrize(
    ("consent", "shown"),
    [
        (UNASKED, {"state": "STATE_UNASKED"}),
        (
            Withheld(Micros(2_000_000), "HTTP 405"),
            {"state": "STATE_WITHHELD", "time": "1970-01-01T00:00:02Z", "reason": "HTTP 405"},
        ),
        (GRANTED, {"state": "STATE_GRANTED", "time": "1970-01-01T00:00:01Z", "allowed_per_minute": 60}),
        (Granted("a.example", Micros(1_000_000)), {"state": "STATE_GRANTED", "time": "1970-01-01T00:00:01Z"}),
    ],
)
def test_the_consent_is_shown_with_since_when_it_is_so_and_why(consent: Consent, shown: dict[str, Any]) -> None:
    message = webhook_message(WebhookDelivery(URL, (), consent=consent))
    assert message.require_consent
    assert MessageToDict(message.consent, preserving_proto_field_name=True) == shown


def test_where_no_consent_is_required_none_is_shown() -> None:
    message = webhook_message(WebhookDelivery(URL, ()))
    assert not message.require_consent
    assert not message.HasField("consent")


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ({}, "count"),
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": 10_001}, "count"),
        ({"count": 1, "interval": Duration()}, "interval"),
        ({"count": 1, "interval": Duration(nanos=999_999_999)}, "interval"),
        ({"count": 1, "interval": Duration(seconds=3601)}, "interval"),
        ({"count": 1, "interval": Duration(seconds=1, nanos=-1)}, "interval"),
    ],
)
def test_a_rate_outside_its_bounds_is_refused(limit: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(rate_limit=limit)
    assert [violation.field for violation in raised.value.violations] == [f"webhook.rate_limit.{field}"]


@pytest.mark.parametrize(
    ("limit", "read_back"),
    [
        ({"count": 1}, {"count": 1, "interval": Duration(seconds=1)}),
        ({"count": 10_000, "interval": Duration(seconds=3600)}, {"count": 10_000, "interval": Duration(seconds=3600)}),
    ],
)
def test_a_rate_reads_back_with_its_default_spelled_out(limit: dict[str, Any], read_back: dict[str, Any]) -> None:
    assert webhook_message(read(rate_limit=limit)).rate_limit == pb.RateLimit(**read_back)


@pytest.mark.parametrize("number", [-1, 0, 33])
def test_how_many_may_be_under_way_is_bounded(number: int) -> None:
    with pytest.raises(Invalid, match=f"{number} is outside 1 to 32") as raised:
        read(max_in_flight=number)
    assert [violation.field for violation in raised.value.violations] == ["webhook.max_in_flight"]


@pytest.mark.parametrize("form", Format)
def test_every_form_goes_out_and_comes_back(form: Format) -> None:
    webhook = WebhookDelivery(URL, (StoredSecret(SECRET),), form, 2.5, 3, (CustomHeader("x-team", "blue"),))
    message = webhook_message(webhook)
    assert not message.secrets
    faults = Faults()
    assert read_webhook(faults, "webhook", message, webhook) == webhook
    faults.check()


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(Invalid, match="99 is no format"):
        read(format=99)


def test_headers_are_kept_by_lower_case_names_and_go_out_without_their_values() -> None:
    webhook = read(headers={"X-Api-Key": "k-1", "authorization": "Bearer t"})
    assert webhook.headers == (CustomHeader("authorization", "Bearer t"), CustomHeader("x-api-key", "k-1"))
    assert dict(webhook_message(webhook).headers) == {"authorization": "", "x-api-key": ""}
    assert "k-1" not in repr(webhook)


def test_a_header_without_a_value_keeps_the_stored_one_and_one_left_out_is_removed() -> None:
    stored = read(headers={"x-a": "1", "x-b": "2", "x-c": "3"})
    changed = read(stored, headers={"X-A": "", "x-b": "new"})
    assert changed.headers == (CustomHeader("x-a", "1"), CustomHeader("x-b", "new"))


@pytest.mark.parametrize(
    ("headers", "field", "problem"),
    [
        ({"": "v"}, "webhook.headers['']", "is no name"),
        ({"x y": "v"}, "webhook.headers['x y']", "is no name"),
        ({"x:": "v"}, "webhook.headers['x:']", "is no name"),
        ({"x-a": "geheim\r\nhost: evil"}, "webhook.headers['x-a']", "not printable ASCII"),
        ({"x-a": "geheim\0"}, "webhook.headers['x-a']", "not printable ASCII"),
        ({"x-a": "geheim \u00e4"}, "webhook.headers['x-a']", "not printable ASCII"),
        ({"x-a": " geheim"}, "webhook.headers['x-a']", "white space"),
        ({"x-a": "g" * 4_097}, "webhook.headers['x-a']", "4096 are allowed"),
        ({"x-a": ""}, "webhook.headers['x-a']", "has no value"),
        ({"X-A": "geheim", "x-a": "geheim"}, "webhook.headers['x-a']", "twice"),
        ({f"x-{number}": "v" for number in range(33)}, "webhook.headers", "32 are allowed"),
        ({f"x-{number}": "g" * 4_000 for number in range(3)}, "webhook.headers", "8192 are allowed"),
        *[
            ({name: "geheim"}, f"webhook.headers[{name!r}]", "set by the broker alone")
            for name in (
                *("Host", "connection", "Keep-Alive", "te", "trailer", "Transfer-Encoding", "upgrade", "expect"),
                *("proxy-authorization", "proxy-connection", "Content-Length", "content-type", "content-encoding"),
                *("webhook-id", "Webhook-Signature", "webhook-request-origin", "ce-id", "CE-Type", "traceparent"),
                *("tracestate", "origin", "date", "user-agent"),
            )
        ],
    ],
)
def test_a_header_that_is_none_or_the_broker_s_own_is_refused_and_its_value_not_repeated(
    headers: dict[str, str], field: str, problem: str
) -> None:
    with pytest.raises(Invalid, match=problem) as raised:
        read(headers=headers)
    assert [violation.field for violation in raised.value.violations] == [field]
    assert "geheim" not in str(raised.value)
