"""Classes of messages, however many of them lead to one another."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Origin
from certes_broker.schemas.descriptions import describe_messages
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.message_classes import message_class
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.version_makers import IMPORTED, MEETLY, meetly_file

LONG = 3_000


@pytest.fixture
def circle() -> EventSchema:
    """An event whose message is in a circle of three thousand, each of which has the next."""
    file = meetly_file({"booked": ["note"]})
    for index in range(LONG):
        message = file.message_type[0] if index == 0 else file.message_type.add(name=f"M{index}")
        following = f".meetly.M{index + 1}" if index + 1 < LONG else ".meetly.Booked"
        field = message.field.add(name="next", number=9, label=Field.LABEL_OPTIONAL, type=Field.TYPE_MESSAGE)
        field.type_name = following
    files = VersionFiles(MEETLY, (*IMPORTED, file.SerializeToString()), (("booked", "meetly.Booked"),))
    version = SchemaVersion(files, revision=1, origin=Origin.REGISTERED, register_time=Micros(1))
    schema = version.schema("booked")
    assert schema is not None
    return schema


def test_an_event_whose_messages_lead_to_thousands_of_others_is_read_and_written(circle) -> None:
    document = {"note": "a", "next": {"next": {"next": {}}}}
    message = circle.from_json_strict(document)
    wire = message.SerializeToString()
    assert circle.parse(circle.type_url, wire) == message
    assert circle.options_of(message) == (("note", "a"),)
    assert not circle.has_unknown(message)
    assert circle.to_json(message) == document
    assert len(describe_messages(circle, {})) == LONG


def test_a_message_has_one_class(circle) -> None:
    kind = message_class(circle.descriptor)
    assert message_class(circle.descriptor) is kind
    assert type(circle.new()) is kind
    inner = kind().next
    assert message_class(inner.DESCRIPTOR) is type(inner)
