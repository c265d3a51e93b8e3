"""The overlay reads and writes the same wire form as the contract."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from certes.v1 import event_pb2, event_service_pb2, schema_service_pb2
from certes_broker.gateway import overlay

NAMES = [
    *("PublishRequest", "PublishStreamRequest", "GetEventResponse", "ListEventsResponse"),
    *("RegisterSchemasRequest", "RegisterSchemasResponse", "GetSchemaResponse", "ListSchemasResponse"),
    *("CheckCompatibilityRequest", "ValidateEventRequest"),
]
AS_BYTES = {"certes.v1.Event", "google.protobuf.FileDescriptorSet"}

EVENTS = st.lists(
    st.builds(
        event_pb2.Event,
        id=st.text(max_size=20),
        type=st.text(max_size=20),
        subscriber=st.text(max_size=5),
        # At most one: protobuf promises no order of a map's entries.
        attributes=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=1),
    ),
    max_size=5,
)


def shape(message: Descriptor) -> dict[int, object]:
    """What decides the wire form of a message: of each field its number, its type, whether it repeats; and its name."""
    return {field.number: (field.name, repeats(field), kind(field)) for field in message.fields}


def repeats(field: FieldDescriptor) -> bool:
    return isinstance(field.default_value, list) or field.default_value == []


def kind(field: FieldDescriptor) -> object:
    if is_as_bytes(field):
        return FieldDescriptor.TYPE_BYTES
    return field.type if field.message_type is None else shape(field.message_type)


@pytest.mark.parametrize("name", NAMES)
def test_the_overlay_equals_the_contract_but_for_events_and_descriptors_being_bytes(name: str) -> None:
    contract = getattr(event_service_pb2, name, None) or getattr(schema_service_pb2, name)
    assert any(is_as_bytes(field) for field in every_field(contract.DESCRIPTOR))
    assert shape(getattr(overlay, name).DESCRIPTOR) == shape(contract.DESCRIPTOR)


@given(EVENTS)
def test_each_event_is_its_own_slice_of_the_request(events: list[event_pb2.Event]) -> None:
    wire = event_service_pb2.PublishRequest(events=events).SerializeToString()
    assert list(overlay.PublishRequest.FromString(wire).events) == [event.SerializeToString() for event in events]
    assert overlay.PublishRequest.FromString(wire).SerializeToString() == wire


@given(EVENTS)
def test_what_the_overlay_writes_the_contract_reads(events: list[event_pb2.Event]) -> None:
    answer = overlay.ListEventsResponse(next_page_token="t")
    for event in events:
        answer.events.add(name="events/x", event=event.SerializeToString())
    read = event_service_pb2.ListEventsResponse.FromString(answer.SerializeToString())
    assert [kept.event for kept in read.events] == events


def test_the_contracts_own_classes_are_untouched() -> None:
    assert (
        event_service_pb2.PublishRequest.DESCRIPTOR.fields_by_name["events"].message_type is event_pb2.Event.DESCRIPTOR
    )


def every_field(message: Descriptor) -> list[FieldDescriptor]:
    below = [field.message_type for field in message.fields if field.message_type and not is_as_bytes(field)]
    return [*message.fields, *(inner for each in below for inner in every_field(each))]


def is_as_bytes(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in AS_BYTES
