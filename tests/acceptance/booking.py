"""A producer's own schema: of rooms that are booked."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from certes.v1 import event_pb2, schema_pb2
from certes.v1 import schema_service_pb2 as pb
from tests.acceptance.client import Client

DOMAIN = "events.meetly.com"
BOOKED = f"{DOMAIN}/rooms/1/booked"
VERSION = f"{DOMAIN}/rooms/1/_version"

SOURCE = """syntax = "proto3";
package meetly.rooms.v1;
import "certes/v1/options.proto";
option (certes.v1.schema) = {domain: "events.meetly.com" namespace: "rooms"};

// A room was booked.
message Booked {
  option (certes.v1.event) = {options {name: "building" field: "room.building"}};
  Room room = 1;
  string by = 2;
}

message Room {
  string building = 1;
  int32 number = 2;
}
"""


def files(text: str = SOURCE) -> pb.SourceFiles:
    return pb.SourceFiles(files=[schema_pb2.SourceFile(path="meetly/rooms/v1/booked.proto", content=text)])


async def register(client: Client, text: str = SOURCE) -> pb.RegisterSchemasResponse:
    return await client.schemas.RegisterSchemas(pb.RegisterSchemasRequest(files=files(text)))


async def message_class(client: Client, event_type: str = BOOKED) -> type[Message]:
    """The message of an event type, made of what the broker tells of it, as a client that has no stubs would."""
    shown = await client.schemas.GetSchema(pb.GetSchemaRequest(type=event_type))
    pool = DescriptorPool()
    for file in shown.version.descriptor_set.file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(shown.schema.message))


async def booked(client: Client, event_id: str, **fields: Any) -> event_pb2.Event:
    event = event_pb2.Event(id=event_id, type=BOOKED, source="//meetly", everyone=True)
    event.data.Pack((await message_class(client))(**fields))
    return event
