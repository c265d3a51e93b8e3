"""A version has a pool of its own, made when it is needed and freed when nobody needs it any more."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import SchemaVersion, link
from tests.unit.schemas.version_makers import BOOKED, IMPORTED, meetly_file, meetly_files, meetly_version


def test_its_event_types_are_known_without_a_pool():
    version = meetly_version({"booked": ["room"], "cancelled": []})
    assert [event_type.text for event_type in version.event_types] == [BOOKED, "events.meetly.com/_/1/cancelled"]
    assert not version.is_linked


def test_its_pool_is_made_when_a_schema_of_it_is_asked_for():
    version = meetly_version({"booked": ["room"]})
    assert version.schema("cancelled") is None
    assert not version.is_linked
    schema = version.schema("booked")
    assert schema is not None
    assert version.is_linked
    assert schema is version.schema("booked")
    assert (schema.message_name, schema.options, schema.revision) == ("meetly.Booked", ("room",), 1)


def test_two_domains_may_use_one_full_message_name():
    ours = meetly_version({"booked": ["room"]}).schema("booked")
    theirs = meetly_version({"booked": ["seat"]}, VersionName("events.theirs.com", "_", 1)).schema("booked")
    assert ours is not None
    assert theirs is not None
    assert ours.message_name == theirs.message_name
    assert ours.to_json(ours.from_json({"room": "blue"})) == {"room": "blue"}
    assert theirs.to_json(theirs.from_json({"seat": "12"})) == {"seat": "12"}


def test_files_that_use_messages_of_what_binds_them_are_linked_with_it():
    file = meetly_file({"booked": []})
    file.message_type[0].field.add(
        name="binding",
        number=1,
        type=Field.TYPE_MESSAGE,
        type_name=".certes.v1.EventBinding",
        label=Field.LABEL_OPTIONAL,
    )
    pool = link([*IMPORTED, file.SerializeToString()])
    field = pool.FindMessageTypeByName("meetly.Booked").fields_by_name["binding"]
    assert field.message_type.full_name == "certes.v1.EventBinding"


def test_files_that_do_not_fit_together_are_refused():
    with pytest.raises(Invalid, match="do not fit together") as refusal:
        link([b"\x0a\x03abc\x1a\x07missing"])
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED


def test_a_pool_is_freed_when_its_version_is_replaced():
    registry = Registry([meetly_version({"booked": ["room"]})])
    schema = registry.lookup(BOOKED)
    # A class keeps its descriptor, which keeps the pool; neither of those can be watched itself.
    classes = weakref.WeakSet([type(schema.new())])
    schema.to_json(schema.from_json_strict({"room": "blue"}))
    registry.put(meetly_version({"booked": ["room", "seat"]}, revision=2))
    del schema
    gc.collect()
    assert not classes
    assert registry.lookup(BOOKED).revision == 2


def test_pools_that_were_replaced_do_not_pile_up():
    """Nobody collects here but the registry."""
    registry = Registry()
    classes: weakref.WeakSet[type] = weakref.WeakSet()
    gc.disable()
    try:
        for revision in range(1, 100):
            registry.put(meetly_version({"booked": ["room"]}, revision=revision))
            classes.add(type(registry.lookup(BOOKED).new()))
    finally:
        gc.enable()
    assert len(classes) < 50


def test_a_version_of_generated_code_needs_no_pool():
    files = replace(meetly_files({"booked": ["room"]}), files=())
    types = meetly_version({"booked": ["room"]}).types
    version = SchemaVersion(files, revision=1, origin=Origin.COMMUNITY, types=types)
    schema = version.schema("booked")
    assert schema is not None
    assert schema.descriptor is types.descriptor("meetly.Booked")
