"""Descriptor sets made in a test, without a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from certes.v1 import options_pb2
from certes_broker.schemas.compiling.shared_files import shared_descriptors

OPTIONS = "certes/v1/options.proto"


def schema_file(
    path: str = "orders/v1/orders.proto",
    package: str = "orders.v1",
    *,
    messages: Sequence[str] = (),
    events: Mapping[str, Mapping[str, Any]] | None = None,
    schema: Mapping[str, Any] | None = None,
    imports: Sequence[str] = (),
) -> FileDescriptorProto:
    """A file with messages, of which `events` have `(certes.v1.event)` with these values. Each has one field, `id`."""
    dependency = [OPTIONS, *imports] if events else imports
    file = FileDescriptorProto(name=path, package=package, syntax="proto3", dependency=dependency)
    if schema is not None:
        file.options.Extensions[options_pb2.schema].CopyFrom(options_pb2.SchemaBinding(**schema))
    for name in messages:
        file.message_type.add(name=name).field.append(text_field())
    for name, values in (events or {}).items():
        message = file.message_type.add(name=name)
        message.field.append(text_field())
        message.options.Extensions[options_pb2.event].CopyFrom(options_pb2.EventBinding(**values))
    return file


def text_field(name: str = "id", number: int = 1) -> Field:
    """A singular string."""
    return Field(name=name, json_name=name, number=number, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)


def schema_set(*files: FileDescriptorProto) -> FileDescriptorSet:
    """A set of files, in this order, after those that `(certes.v1.event)` needs."""
    needed = [shared_descriptors()[path] for path in ("google/protobuf/descriptor.proto", OPTIONS)]
    return FileDescriptorSet(file=[*needed, *files])
