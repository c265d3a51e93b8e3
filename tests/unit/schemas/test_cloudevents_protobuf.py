"""Events as CloudEvents' protobuf message, read by its field numbers as any reader of the specification would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf import any_pb2, timestamp_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

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

PUBLISHED = {
    "CloudEvent": {
        "id": (1, "TYPE_STRING"),
        "source": (2, "TYPE_STRING"),
        "spec_version": (3, "TYPE_STRING"),
        "type": (4, "TYPE_STRING"),
        "attributes": (5, ".io.cloudevents.v1.AttributesEntry"),
        "binary_data": (6, "TYPE_BYTES"),
        "text_data": (7, "TYPE_STRING"),
        "proto_data": (8, ".google.protobuf.Any"),
    },
    "AttributesEntry": {"key": (1, "TYPE_STRING"), "value": (2, ".io.cloudevents.v1.CloudEventAttributeValue")},
    "CloudEventAttributeValue": {
        "ce_boolean": (1, "TYPE_BOOL"),
        "ce_integer": (2, "TYPE_INT32"),
        "ce_string": (3, "TYPE_STRING"),
        "ce_bytes": (4, "TYPE_BYTES"),
        "ce_uri": (5, "TYPE_STRING"),
        "ce_uri_ref": (6, "TYPE_STRING"),
        "ce_timestamp": (7, ".google.protobuf.Timestamp"),
    },
}
"""The numbers and types of the published message: cloudevents/formats/cloudevents.proto in https://github.com/cloudevents/spec,
commit bad81171bd3d1c0343ef43b4b2ad4ffca9dc2012. Where a message stands changes nothing about its bytes, nor does a `oneof`."""


def published_reader():
    """Makes a message class of what is published, of nothing that the broker has."""
    made = FileDescriptorProto(name="published.proto", package="io.cloudevents.v1", syntax="proto3")
    pool = DescriptorPool()
    for imported in (any_pb2.DESCRIPTOR, timestamp_pb2.DESCRIPTOR):
        pool.AddSerializedFile(imported.serialized_pb)
        made.dependency.append(imported.name)
    for name, members in PUBLISHED.items():
        message = made.message_type.add(name=name)
        for member, (number, kind) in members.items():
            typed = f'type_name: "{kind}" type: TYPE_MESSAGE' if kind.startswith(".") else f"type: {kind}"
            repeated = "LABEL_REPEATED" if member == "attributes" else "LABEL_OPTIONAL"
            Parse(f'name: "{member}" number: {number} label: {repeated} {typed}', message.field.add())
    pool.Add(made)
    return GetMessageClass(pool.FindMessageTypeByName("io.cloudevents.v1.CloudEvent"))


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


def test_a_reader_made_of_the_published_numbers_reads_everything():
    event = ping(subject="s", time=Timestamp(seconds=5, nanos=7), attributes={"my_region": "eu"})
    raw = Event(id="1", type="a.b/_/1/c", source="s", subscriber="o", raw={"content_type": "text/plain", "bytes": b"t"})
    binary = Event(id="1", type="a.b/_/1/c", source="s", subscriber="o", raw={"content_type": "a/b", "bytes": b"\xff"})
    read, text, blob = (
        published_reader().FromString(BODIES.render(one.SerializeToString(), Format.CLOUDEVENTS_PROTOBUF).body)
        for one in (event, raw, binary)
    )
    assert (read.id, read.source, read.spec_version, read.type) == ("a-1", "//x", "1.0", PING)
    said = {entry.key: entry.value for entry in read.attributes}
    assert said["everyone"].ce_boolean
    assert said["subject"].ce_string == "s"
    assert said["myregion"].ce_string == "eu"
    assert said["dataschema"].ce_uri == TYPE_URL
    assert said["time"].ce_timestamp.SerializeToString() == event.time.SerializeToString()
    assert said.keys() == {"everyone", "subject", "myregion", "dataschema", "time", "datacontenttype"}
    assert read.proto_data.SerializeToString() == event.data.SerializeToString()
    assert (text.text_data, blob.binary_data) == ("t", b"\xff")
    # Nothing was written that the published message does not have.
    for message in (read, text, blob, *said.values()):
        assert not len(UnknownFieldSet(message))


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
