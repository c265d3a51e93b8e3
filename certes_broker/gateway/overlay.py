"""The contract's messages with events and descriptors left as bytes.

An event's bytes travel whole (design, section 7): what the broker is handed is the event's own slice of the request, and
what it hands out is what it kept. Descriptors travel whole too, because their options may be of any file, which nobody but
their compiler has to know. So the messages here are the contract's, but with every field of type `Event` or
`FileDescriptorSet` declared `bytes`. Protobuf encodes a message field and a bytes field alike (a tag, a length, the bytes), so both read and write the
same wire form. They live in a descriptor pool of their own, made from the contract's descriptors when this module is
imported, and so cannot drift from it.

Source: https://protobuf.dev/programming-guides/encoding/#submessages
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from certes.v1 import event_service_pb2, schema_service_pb2

_AS_BYTES: Final = (".certes.v1.Event", ".google.protobuf.FileDescriptorSet")


def _add(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Adds a file and what it imports to a pool, every field of those types declared `bytes`."""
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, added)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _declare_bytes(message)
    pool.Add(proto)


def _declare_bytes(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name in _AS_BYTES:
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
    for nested in message.nested_type:
        _declare_bytes(nested)


def _overlay(file: FileDescriptor, *names: str) -> tuple[Any, ...]:
    pool = DescriptorPool()
    _add(pool, file, set())
    return tuple(GetMessageClass(pool.FindMessageTypeByName(f"certes.v1.{name}")) for name in names)


# Made at run time, so nothing is known of their fields when types are checked: `Any`.
PublishRequest, PublishStreamRequest, GetEventResponse, ListEventsResponse = _overlay(
    event_service_pb2.DESCRIPTOR, "PublishRequest", "PublishStreamRequest", "GetEventResponse", "ListEventsResponse"
)
(
    RegisterSchemasRequest,
    RegisterSchemasResponse,
    GetSchemaResponse,
    ListSchemasResponse,
    CheckCompatibilityRequest,
    ValidateEventRequest,
    DiscoverSchemasResponse,
) = _overlay(
    schema_service_pb2.DESCRIPTOR,
    "RegisterSchemasRequest",
    "RegisterSchemasResponse",
    "GetSchemaResponse",
    "ListSchemasResponse",
    "CheckCompatibilityRequest",
    "ValidateEventRequest",
    "DiscoverSchemasResponse",
)
