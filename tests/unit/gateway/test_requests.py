"""Reading requests: what is not in the contract is refused, at any depth."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor

from certes.v1 import event_pb2, event_service_pb2, subscription_pb2, subscription_service_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway import overlay
from certes_broker.gateway.requests import decode, decode_envelope

UNKNOWN = b"\xf8\x06\x01"
"""Field 111 with the value 1."""

REQUEST = subscription_service_pb2.CreateSubscriptionRequest(
    parent="subscribers/a",
    subscription=subscription_pb2.Subscription(
        selectors=[subscription_pb2.Selector(pattern=pattern) for pattern in ("a.b/c/1/d", "a.b/c/1/e")],
        webhook=subscription_pb2.Webhook(url="https://a.b/"),
    ),
)


def with_unknown(part) -> bytes:
    """The wire form of `REQUEST` with an unknown field in the message that `part` picks from it."""
    request = subscription_service_pb2.CreateSubscriptionRequest()
    request.CopyFrom(REQUEST)
    part(request).MergeFromString(UNKNOWN)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (lambda request: request, "111"),
        (lambda request: request.subscription, "subscription.111"),
        (lambda request: request.subscription.webhook, "subscription.webhook.111"),
        (lambda request: request.subscription.selectors[1], "subscription.selectors[1].111"),
        (lambda request: request.start.time, "start.time.111"),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(part, path: str) -> None:
    with pytest.raises(Invalid) as raised:
        decode(subscription_service_pb2.CreateSubscriptionRequest, with_unknown(part))
    assert raised.value.reason is Reason.UNKNOWN_FIELD
    assert [violation.field for violation in raised.value.violations] == [path]


def test_a_known_request_is_read_as_it_is() -> None:
    assert decode(subscription_service_pb2.CreateSubscriptionRequest, REQUEST.SerializeToString()) == REQUEST


def test_a_million_unknown_fields_make_a_short_refusal() -> None:
    request = event_service_pb2.AcknowledgeRequest(acked=[event_service_pb2.OrdinalRange(first=1, last=1)] * 10_000)
    for one in request.acked:
        one.MergeFromString(UNKNOWN)
    with pytest.raises(Invalid) as raised:
        decode(event_service_pb2.AcknowledgeRequest, request.SerializeToString())
    assert len(raised.value.violations) == 16


def test_bytes_that_are_no_message_are_malformed() -> None:
    with pytest.raises(Invalid) as raised:
        decode(event_service_pb2.AcknowledgeRequest, b"\xff\xff\xff")
    assert raised.value.reason is Reason.MALFORMED_REQUEST


def test_a_request_over_4_mib_is_refused_with_the_limit() -> None:
    with pytest.raises(Invalid) as raised:
        decode_envelope(overlay.PublishRequest, bytes(4 * 1024 * 1024 + 1))
    assert raised.value.reason is Reason.REQUEST_TOO_LARGE
    assert raised.value.metadata["limit"] == "4194304"


def test_an_unknown_field_beside_the_events_is_refused() -> None:
    wire = event_service_pb2.PublishRequest(events=[event_pb2.Event(id="a")]).SerializeToString() + UNKNOWN
    with pytest.raises(Invalid) as raised:
        decode_envelope(overlay.PublishRequest, wire)
    assert (raised.value.reason, raised.value.metadata["field"]) == (Reason.UNKNOWN_FIELD, "111")


def test_an_unknown_field_within_an_event_is_left_to_who_reads_events() -> None:
    event = event_pb2.Event(id="a").SerializeToString() + UNKNOWN
    wire = overlay.PublishRequest(events=[event]).SerializeToString()
    assert list(decode_envelope(overlay.PublishRequest, wire).events) == [event]


def test_no_map_of_the_contract_holds_messages() -> None:
    """So that looking for unknown fields need not look into maps."""
    files = (event_service_pb2, subscription_service_pb2, event_pb2, subscription_pb2)
    messages = [message for file in files for message in every_message(file.DESCRIPTOR.message_types_by_name.values())]
    entries = [message for message in messages if message.GetOptions().map_entry]
    assert entries
    assert [entry.full_name for entry in entries if entry.fields_by_name["value"].message_type] == []


def every_message(messages) -> list[Descriptor]:
    return [inner for message in messages for inner in [message, *every_message(message.nested_types)]]


def test_a_request_with_events_is_bounded_by_the_setting_which_the_refusal_names() -> None:
    with pytest.raises(Invalid) as refused:
        decode_envelope(overlay.PublishRequest, bytes(1025), 1024)
    assert refused.value.reason is Reason.REQUEST_TOO_LARGE
    assert refused.value.metadata["setting"] == "limits.request_bytes"
