"""The contract's messages with events left as bytes.

An event's bytes travel whole (design, section 7): what the broker is handed is the event's own slice of the request, and
what it hands out is what it kept. So the messages here are the contract's, but with every field of type `Event` declared
`bytes`. Protobuf encodes a message field and a bytes field alike (a tag, a length, the bytes), so both read and write the
same wire form. They live in a descriptor pool of their own, made from the contract's descriptors when this module is
imported, and so cannot drift from it.

Source: https://protobuf.dev/programming-guides/encoding/#submessages
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from certes.v1 import event_service_pb2


def _add_with_events_as_bytes(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Adds a file and what it imports to a pool, every field of type `Event` declared `bytes`."""
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add_with_events_as_bytes(pool, imported, added)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _declare_events_bytes(message)
    pool.Add(proto)


def _declare_events_bytes(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name == ".certes.v1.Event":
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
    for nested in message.nested_type:
        _declare_events_bytes(nested)


def _overlay(*names: str) -> tuple[Any, ...]:
    pool = DescriptorPool()
    _add_with_events_as_bytes(pool, event_service_pb2.DESCRIPTOR, set())
    return tuple(GetMessageClass(pool.FindMessageTypeByName(f"certes.v1.{name}")) for name in names)


# Made at run time, so nothing is known of their fields when types are checked: `Any`.
PublishRequest, PublishStreamRequest, GetEventResponse, ListEventsResponse = _overlay(
    "PublishRequest", "PublishStreamRequest", "GetEventResponse", "ListEventsResponse"
)
