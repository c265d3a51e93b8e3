"""Events as CloudEvents' protobuf message, read by its field numbers as any reader of the specification would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1.event_pb2 import Event
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.outgoing import WebhookBodies
from certes_broker.schemas.registry import Registry

BODIES = WebhookBodies(EventDocuments(Registry(community_versions())))
PING = "community.certes.dev/github/1/ping"
TYPE_URL = "type.googleapis.com/certes.community.github.v1.PingEvent"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

ID, SOURCE, SPEC_VERSION, TYPE, ATTRIBUTES, BINARY, TEXT, PROTO = range(1, 9)
BOOLEAN, STRING, URI, TIMESTAMP = 1, 3, 5, 7


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Reads the numbers and values of a message (https://protobuf.dev/programming-guides/encoding/), by hand."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at, number, shift = at + 1, number | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return number

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        assert tag & 7 == 2
        length = varint()
        yield tag >> 3, message[at : at + length]
        at += length


def rendered(event: Event) -> tuple[dict[int, bytes | int], dict[str, tuple[int, bytes | int]]]:
    """The fields of an event's body but for its attributes, and its attributes with the number of their type."""
    body = BODIES.render(event.SerializeToString(), Format.CLOUDEVENTS_PROTOBUF)
    assert body.content_type == "application/cloudevents+protobuf"
    found, attributes = {}, {}
    for number, value in fields(body.body):
        if number == ATTRIBUTES:
            assert isinstance(value, bytes)
            entry = dict(fields(value))
            key, inner = entry[1], entry[2]
            assert isinstance(key, bytes)
            assert isinstance(inner, bytes)
            [attributes[key.decode()]] = fields(inner)
        else:
            found[number] = value
    return found, attributes


def ping(**changes: object) -> Event:
    data = AnyMessage()
    data.Pack(PingEvent(zen="Größe"))
    return Event(**{"id": "a-1", "type": PING, "source": "//x", "everyone": True, "data": data} | changes)


def test_a_message_goes_as_it_is_with_its_type_as_schema():
    event = ping()
    found, attributes = rendered(event)
    proto = found.pop(PROTO)
    assert found == {ID: b"a-1", SOURCE: b"//x", SPEC_VERSION: b"1.0", TYPE: PING.encode()}
    assert isinstance(proto, bytes)
    assert dict(fields(proto)) == {1: TYPE_URL.encode(), 2: event.data.value}
    assert attributes == {
        "everyone": (BOOLEAN, 1),
        "datacontenttype": (STRING, b"application/protobuf"),
        "dataschema": (URI, TYPE_URL.encode()),
    }


def test_attributes_have_the_types_of_the_specification():
    event = ping(
        subject="s",
        time=Timestamp(seconds=5, nanos=7),
        ordering_key="k",
        traceparent=TRACEPARENT,
        attributes={"my_region": "eu"},
    )
    _, attributes = rendered(event)
    assert attributes["subject"] == (STRING, b"s")
    assert attributes["orderingkey"] == (STRING, b"k")
    assert attributes["myregion"] == (STRING, b"eu")
    assert attributes["traceparent"] == (STRING, TRACEPARENT.encode())
    number, time = attributes["time"]
    assert number == TIMESTAMP
    assert isinstance(time, bytes)
    assert dict(fields(time)) == {1: 5, 2: 7}


@pytest.mark.parametrize(
    ("content_type", "content", "number"),
    [
        ("application/json; charset=utf-8", b'{"a": 1}', TEXT),
        ("text/plain", "Größe".encode(), TEXT),
        ("image/svg+xml", b"<svg/>", TEXT),
        ("text/plain; charset=latin-1", b"Gr\xf6\xdfe", BINARY),
        ("application/octet-stream", b"abc", BINARY),
    ],
)
def test_raw_content_is_text_where_it_says_so_and_is(content_type: str, content: bytes, number: int):
    event = Event(
        id="1", type="a.b/_/1/c", source="s", subscriber="o", raw={"content_type": content_type, "bytes": content}
    )
    found, attributes = rendered(event)
    assert found[number] == content
    assert not {BINARY, TEXT, PROTO} - {number} & found.keys()
    assert attributes["datacontenttype"] == (STRING, content_type.encode())


def test_the_same_event_is_always_the_same_bytes():
    event = ping(attributes={f"a{number}": str(number) for number in range(50)}).SerializeToString()
    assert len({BODIES.render(event, Format.CLOUDEVENTS_PROTOBUF).body for _ in range(5)}) == 1
