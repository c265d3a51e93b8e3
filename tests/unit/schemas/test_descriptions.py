"""A schema is described as a list of messages, each once, with what one has to know to write or read one."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor

from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.descriptions import FieldDescription, OptionDescription, describe_messages, describe_options
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables
from tests.unit.schemas.every_kind import every_kind
from tests.unit.schemas.version_makers import meetly_version


def schema_of(descriptor: Descriptor) -> EventSchema:
    event_type = parse_event_type("events.meetly.com/_/1/every")
    return EventSchema(event_type, descriptor, JsonTables(), DocumentTables(PAYLOAD))


def every_field() -> dict[str, FieldDescription]:
    [described] = describe_messages(schema_of(every_kind()), {"every.EveryKind.one_string": "A text."})
    return {field.name: field for field in described.fields}


def test_a_message_that_contains_itself_is_described_once_with_its_fields_by_number():
    [described] = describe_messages(schema_of(every_kind()), {"every.EveryKind": "Every kind."})
    assert (described.name, described.comment) == ("every.EveryKind", "Every kind.")
    assert [field.number for field in described.fields] == list(range(1, len(described.fields) + 1))


def test_a_plain_field_is_its_name_number_type_and_comment():
    assert every_field()["one_string"] == FieldDescription(
        name="one_string",
        number=every_field()["one_string"].number,
        type="string",
        repeated=False,
        optional=False,
        oneof="",
        enum_values=(),
        described=False,
        comment="A text.",
    )


def test_lists_maps_and_presence_are_told():
    fields = every_field()
    assert (fields["many_int64"].type, fields["many_int64"].repeated) == ("int64", True)
    assert (fields["by_string_int64"].type, fields["by_string_int64"].repeated) == ("map<string, int64>", False)
    assert (fields["maybe_bool"].optional, fields["maybe_bool"].oneof) == (True, "")
    assert (fields["choice_int64"].optional, fields["choice_int64"].oneof) == (True, "choice")


def test_an_enum_is_told_with_its_values_also_in_a_map():
    fields = every_field()
    for name in ("one_color", "many_color", "by_string_color"):
        assert fields[name].enum_values == ("COLOR_UNSPECIFIED", "RED", "GREEN")
    assert fields["one_color"].type == "every.Color"


def test_a_message_is_described_but_for_those_of_everybody():
    fields = every_field()
    assert fields["by_string_every_kind"].described
    assert fields["by_string_every_kind"].type == "map<string, every.EveryKind>"
    assert not fields["one_timestamp"].described
    assert fields["one_timestamp"].type == "google.protobuf.Timestamp"


def test_options_are_told_by_name_with_the_type_of_their_field():
    schema = meetly_version({"booked": ["room", "guest"]}).schema("booked")
    assert schema is not None
    assert describe_options(schema) == [
        OptionDescription("guest", "guest", "string"),
        OptionDescription("room", "room", "string"),
    ]
