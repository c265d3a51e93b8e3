"""Versions of schemas made in a test, without a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes.v1 import options_pb2
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

MEETLY = VersionName("events.meetly.com", "_", 1)
BOOKED = "events.meetly.com/_/1/booked"
IMPORTED = (options_pb2.DESCRIPTOR.dependencies[0].serialized_pb, options_pb2.DESCRIPTOR.serialized_pb)


def meetly_file(
    events: Mapping[str, Sequence[str]], name: VersionName = MEETLY, path: str = "meetly.proto", package: str = "meetly"
) -> FileDescriptorProto:
    """A file with a message for each event, which has string fields with these names; all of them are options."""
    file = FileDescriptorProto(name=path, package=package, syntax="proto3", dependency=["certes/v1/options.proto"])
    binding = file.options.Extensions[options_pb2.schema]
    binding.domain, binding.namespace, binding.version = name
    for event, fields in events.items():
        message = file.message_type.add(name=event.title().replace("_", ""))
        message.options.Extensions[options_pb2.event].name = event
        for number, field in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
            message.options.Extensions[options_pb2.event].options.add(name=field, field=field)
    return file


def meetly_files(
    events: Mapping[str, Sequence[str]], name: VersionName = MEETLY, package: str = "meetly"
) -> VersionFiles:
    """A version of one such file."""
    file = meetly_file(events, name, package=package)
    messages = zip(events, (message.name for message in file.message_type), strict=True)
    types = tuple(sorted((event, f"{package}.{message}") for event, message in messages))
    return VersionFiles(name, (*IMPORTED, file.SerializeToString()), types)


def meetly_version(
    events: Mapping[str, Sequence[str]], name: VersionName = MEETLY, *, revision: int = 1, package: str = "meetly"
) -> SchemaVersion:
    """The same, registered."""
    files = meetly_files(events, name, package)
    return SchemaVersion(files, revision=revision, origin=Origin.REGISTERED, register_time=Micros(revision))
