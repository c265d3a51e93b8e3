"""Webhook bodies: each format as its specification says, and the same for the same event."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any
from urllib.parse import unquote

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import Invalid
from certes_broker.domain.events import AcceptedEvent, Micros, Original
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.outgoing import WebhookBodies, _attributes, json_bytes, original_body
from certes_broker.schemas.registry import Registry

REGISTRY = Registry(community_versions())
BODIES = WebhookBodies(EventDocuments(REGISTRY))
READER = EventReader(REGISTRY, max_event_bytes=1 << 20)
PING = "community.certes.dev/github/1/ping"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = Micros(1_700_000_000_000_000)


def accepted(**changes: Any) -> AcceptedEvent:
    data = AnyMessage()
    data.Pack(PingEvent(zen="Größe & “quotes”", hook_id=2**60))
    fields = {"id": "a-1", "type": PING, "source": "//x", "subscriber": "org_123", "data": data} | changes
    event = Event(**{name: value for name, value in fields.items() if value is not None})
    return READER.read(event.SerializeToString(), NOW)


def test_a_structured_event_is_one_document_with_its_data_as_json():
    event = accepted(
        subject="meetly/meetly",
        ordering_key="key",
        traceparent=TRACEPARENT,
        tracestate="v=1",
        attributes={"region": "eu"},
    )
    rendered = BODIES.render(event.body, Format.CLOUDEVENTS_JSON)
    assert rendered.content_type == "application/cloudevents+json; charset=utf-8"
    assert rendered.headers == (("traceparent", TRACEPARENT), ("tracestate", "v=1"))
    document = json.loads(rendered.body)
    assert document == {
        "specversion": "1.0",
        "id": "a-1",
        "source": "//x",
        "type": PING,
        "time": "2023-11-14T22:13:20Z",
        "subject": "meetly/meetly",
        "datacontenttype": "application/json",
        "subscriber": "org_123",
        "orderingkey": "key",
        "traceparent": TRACEPARENT,
        "tracestate": "v=1",
        "region": "eu",
        "data": document["data"],
    }
    assert document["data"]["zen"] == "Größe & “quotes”"
    assert document["data"]["hook_id"] == str(2**60)


def test_what_an_event_does_not_say_is_left_out():
    document = json.loads(BODIES.render(accepted().body, Format.CLOUDEVENTS_JSON).body)
    assert set(document) == {
        *("specversion", "id", "source", "type", "time", "subscriber", "datacontenttype", "data"),
    }


def test_an_event_for_everyone_says_so():
    event = accepted(subscriber=None, everyone=True)
    assert json.loads(BODIES.render(event.body, Format.CLOUDEVENTS_JSON).body)["everyone"] is True
    assert dict(BODIES.render(event.body, Format.CLOUDEVENTS_BINARY).headers)["ce-everyone"] == "true"


def test_a_binary_event_is_its_data_with_the_attributes_in_headers():
    event = accepted(subject="Euro € 😀", traceparent=TRACEPARENT)
    rendered = BODIES.render(event.body, Format.CLOUDEVENTS_BINARY)
    assert rendered.content_type == "application/json"
    assert json.loads(rendered.body)["zen"] == "Größe & “quotes”"
    assert dict(rendered.headers) == {
        "ce-specversion": "1.0",
        "ce-id": "a-1",
        "ce-source": "//x",
        "ce-type": PING,
        "ce-time": "2023-11-14T22:13:20Z",
        # The example of the HTTP Protocol Binding, 3.1.3.2.
        "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80",
        "ce-subscriber": "org_123",
        "ce-traceparent": TRACEPARENT,
        "traceparent": TRACEPARENT,
    }


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50))
def test_header_values_are_printable_ascii_and_decode_to_what_they_were(subject):
    value = dict(BODIES.render(accepted(subject=subject).body, Format.CLOUDEVENTS_BINARY).headers)["ce-subject"]
    assert value.isascii()
    assert value.isprintable()
    assert not set(value) & set(' "')
    assert unquote(value) == subject


def test_an_original_goes_out_as_it_came_in():
    original = Original("application/x-www-form-urlencoded", (("x-github-event", "ping"),), b"payload=%7B%7D")
    rendered = original_body(accepted(traceparent=TRACEPARENT).body, original)
    assert rendered.content_type == original.content_type
    assert rendered.headers == (("x-github-event", "ping"), ("traceparent", TRACEPARENT))
    assert rendered.body == original.body


def test_an_event_without_an_original_is_sent_as_binary_instead():
    event = accepted()
    assert BODIES.render(event.body, Format.ORIGINAL) == BODIES.render(event.body, Format.CLOUDEVENTS_BINARY)


def test_attribute_names_lose_their_underscores_and_never_take_the_place_of_others():
    event = accepted(
        attributes={
            "a_b": "underscored",
            "ab": "exact",
            "sub_ject": "hijack",
            "data": "hijack",
            "id": "hijack",
            "_": "x",
        }
    )
    document = json.loads(BODIES.render(event.body, Format.CLOUDEVENTS_JSON).body)
    assert document["ab"] == "exact"
    assert document["id"] == "a-1"
    assert document["data"]["zen"]
    assert "subject" not in document
    assert "" not in document


@pytest.mark.parametrize("form", list(Format))
def test_rendering_is_pure(form):
    attributes = {f"key{number}": str(number) for number in range(20)}
    once, again = (accepted(attributes=dict(items)) for items in (attributes.items(), reversed(attributes.items())))
    assert BODIES.render(once.body, form) == BODIES.render(again.body, form)


def test_an_event_whose_schema_is_gone_is_refused():
    with pytest.raises(Invalid):
        WebhookBodies(EventDocuments(Registry(()))).render(accepted().body, Format.CLOUDEVENTS_JSON)


def raw(content_type: str, content: bytes) -> bytes:
    event = Event(id="a", type="events.example.com/_/1/open", source="//x", everyone=True)
    event.raw.content_type, event.raw.bytes = content_type, content
    return event.SerializeToString()


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
)
def test_raw_json_is_the_data_of_a_structured_event_as_it_came(content_type):
    rendered = BODIES.render(raw(content_type, b'{"b": [1.50, null],\n"a":"\xc3\xa4"}'), Format.CLOUDEVENTS_JSON)
    document = json.loads(rendered.body)
    assert document["datacontenttype"] == content_type
    assert document["data"] == {"b": [1.5, None], "a": "ä"}
    assert b"1.50" in rendered.body


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/plain", b"hello"),
        ("application/json", b'{"a":1,"a":2}'),
        ("application/json", b"\xff"),
        ("image/png", b""),
    ],
)
def test_raw_content_that_is_no_json_goes_out_in_base64(content_type, content):
    document = json.loads(BODIES.render(raw(content_type, content), Format.CLOUDEVENTS_JSON).body)
    assert document["datacontenttype"] == content_type
    assert b64decode(document["data_base64"]) == content
    assert "data" not in document


@pytest.mark.parametrize("form", [Format.CLOUDEVENTS_BINARY, Format.ORIGINAL])
def test_raw_content_is_the_body_of_a_binary_event(form):
    rendered = BODIES.render(raw("text/plain", b"hello"), form)
    assert (rendered.content_type, rendered.body) == ("text/plain", b"hello")
    assert dict(rendered.headers)["ce-id"] == "a"


def test_a_document_that_is_nested_deeper_than_the_fast_writer_goes_is_written_all_the_same():
    document: dict[str, Any] = {}
    for _ in range(300):
        document = {"in": document}
    assert json.loads(json_bytes(document)) == document


@given(st.integers(-62135596800, 253402300799), st.integers(0, 999_999_999))
def test_a_time_is_written_as_protobuf_writes_it(seconds: int, nanos: int) -> None:
    for rounded in (nanos, nanos // 1000 * 1000, nanos // 1_000_000 * 1_000_000):
        event = Event(id="1", source="s", type=PING, everyone=True, time=Timestamp(seconds=seconds, nanos=rounded))
        assert _attributes(event)["time"] == event.time.ToJsonString()
