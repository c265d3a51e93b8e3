"""A schema reads, checks and writes the messages of its event type, whatever descriptor pool they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool

from certes.v1 import options_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables

Field = descriptor_pb2.FieldDescriptorProto
TYPE = parse_event_type("events.meetly.com/_/1/booked")
ROOM_FIELDS = (("name", Field.TYPE_STRING), ("floor", Field.TYPE_INT32), ("code", Field.TYPE_BYTES))


def schema(options: Sequence[tuple[str, str]] = (), more_fields: Sequence[tuple[str, int]] = ()) -> EventSchema:
    """Makes the schema of a booking of a room, in a descriptor pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="booking.proto", package="booking", syntax="proto3")
    status = file.enum_type.add(name="Status")
    status.value.add(name="STATUS_UNSPECIFIED", number=0)
    status.value.add(name="FINAL", number=1)
    room = file.message_type.add(name="Room")
    for number, (name, kind) in enumerate(ROOM_FIELDS, 1):
        room.field.add(name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    booked = file.message_type.add(name="Booked")
    booked.field.add(
        name="room", number=1, type=Field.TYPE_MESSAGE, type_name=".booking.Room", label=Field.LABEL_OPTIONAL
    )
    booked.field.add(name="guests", number=2, type=Field.TYPE_STRING, label=Field.LABEL_REPEATED)
    booked.field.add(
        name="paid", number=3, type=Field.TYPE_BOOL, label=Field.LABEL_OPTIONAL, proto3_optional=True, oneof_index=0
    )
    booked.oneof_decl.add(name="_paid")
    booked.field.add(
        name="status", number=4, type=Field.TYPE_ENUM, type_name=".booking.Status", label=Field.LABEL_OPTIONAL
    )
    for name, number in more_fields:
        booked.field.add(name=name, number=number, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    binding = booked.options.Extensions[options_pb2.event]
    binding.name = "booked"
    for name, path in options:
        binding.options.add(name=name, field=path)
    pool = DescriptorPool()
    pool.Add(file)
    return EventSchema(TYPE, pool.FindMessageTypeByName("booking.Booked"), JsonTables(), DocumentTables(PAYLOAD))


def options_of(document: dict[str, Any], *options: tuple[str, str]) -> dict[str, str]:
    found = schema(options)
    return dict(found.options_of(found.from_json(document)))


def refusal_by(schema_call: Any, *arguments: Any) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        schema_call(*arguments)
    return refusal.value


def test_data_is_read_when_its_type_url_names_the_message_whatever_stands_before_the_slash():
    booked = schema()
    data = booked.from_json({"guests": ["Ada"]}).SerializeToString()
    for type_url in ("type.googleapis.com/booking.Booked", "schemas.meetly.com/v/booking.Booked"):
        assert booked.parse(type_url, data).SerializeToString() == data


@pytest.mark.parametrize("type_url", ["type.googleapis.com/booking.Room", "type.googleapis.com/Booked", ""])
def test_data_that_names_another_message_is_refused_and_both_are_named(type_url):
    refusal = refusal_by(schema().parse, type_url, b"")
    assert refusal.reason is Reason.DATA_TYPE_MISMATCH
    assert refusal.metadata["expected"] == "booking.Booked"
    assert refusal.metadata["found"] == type_url.rpartition("/")[2]


@pytest.mark.parametrize("value", [b"\xff", b"\x0a\x05ab", b"\x12\x01\xff"])
def test_data_that_does_not_decode_is_refused(value):
    refusal = refusal_by(schema().parse, schema().type_url, value)
    assert refusal.reason is Reason.DATA_MALFORMED
    assert "booking.Booked" in refusal.message


def test_fields_of_a_newer_schema_are_kept_and_noticed():
    newer = schema(more_fields=[("note", 9)])
    data = newer.from_json({"note": "by the window"}).SerializeToString()
    older = schema()
    known = older.parse(older.type_url, data)
    assert older.has_unknown(known) is True
    assert known.SerializeToString() == data
    assert newer.has_unknown(newer.parse(newer.type_url, data)) is False


def test_unknown_fields_are_noticed_in_messages_within():
    booked = schema()
    message = booked.parse(booked.type_url, b"\x0a\x04\x7a\x02hi")  # field 15 of the room
    assert booked.has_unknown(message) is True


def test_options_are_read_in_the_order_of_their_names():
    booked = schema([("where", "room.name"), ("level", "room.floor")])
    message = booked.from_json({"room": {"name": "Attic", "floor": 4}})
    assert booked.options == ("level", "where")
    assert booked.options_of(message) == (("level", "4"), ("where", "Attic"))


@pytest.mark.parametrize("document", [{}, {"room": {}}, {"room": {"name": ""}}])
def test_a_text_that_is_absent_or_empty_selects_nothing(document):
    assert options_of(document, ("where", "room.name")) == {}


def test_a_number_is_a_value_also_when_it_is_zero_but_not_in_a_message_that_is_absent():
    assert options_of({"room": {}}, ("level", "room.floor")) == {"level": "0"}
    assert options_of({}, ("level", "room.floor")) == {}


def test_a_bool_with_presence_selects_only_where_it_is_said():
    assert options_of({"paid": False}, ("paid", "paid")) == {"paid": "false"}
    assert options_of({"paid": True}, ("paid", "paid")) == {"paid": "true"}
    assert options_of({}, ("paid", "paid")) == {}


def test_an_enum_selects_by_name_and_by_number_where_it_has_none():
    assert options_of({"status": "FINAL"}, ("status", "status")) == {"status": "FINAL"}
    assert options_of({"status": 9}, ("status", "status")) == {"status": "9"}


@pytest.mark.parametrize(
    "path", ["", "nowhere", "room", "room.", "guests", "room.code", "paid.name", "room.nowhere", "guests.x"]
)
def test_an_option_must_lead_to_one_value_that_can_be_compared(path):
    refusal = refusal_by(schema, [("bad", path)])
    assert refusal.reason is Reason.FIELD_INVALID
    assert refusal.metadata == {"option": "bad", "field": path}


def test_unknown_keys_of_a_document_are_ignored_or_refused_as_asked():
    document = {"room": {"name": "Attic", "windows": 2}, "colour": "green"}
    booked = schema()
    assert booked.to_json(booked.from_json({"room": {"name": "Attic", "windows": 2}}))["room"]["name"] == "Attic"
    refusal = refusal_by(booked.from_json_strict, document)
    assert refusal.reason is Reason.UNKNOWN_FIELD
    assert [violation.field for violation in refusal.violations] == ["room.windows", "colour"]


def test_a_refusal_lists_no_more_than_ten_unknown_keys():
    refusal = refusal_by(schema().from_json_strict, {f"key{n}": n for n in range(50)})
    assert len(refusal.violations) == 10


def test_what_is_written_has_every_field_that_cannot_be_absent():
    booked = schema()
    assert booked.to_json(booked.from_json({"room": {}})) == {
        "room": {"name": "", "floor": 0, "code": ""},
        "guests": [],
        "status": "STATUS_UNSPECIFIED",
    }
