"""Schemas to and from messages.

The answers are those of `overlay`, in which descriptors are bytes: a version's files go out as they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from certes.v1.schema_pb2 import Schema
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Comparison, Origin
from certes_broker.schemas.descriptions import MessageDescription, describe_options
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.submissions import CompiledSet, Sources, Submission
from certes_broker.schemas.wire import varint

MOST_OF_COMMENT: Final = 4_096
"""Characters of a comment in a list; the description of a message has it whole."""
_FILE_IN_SET: Final = b"\x0a"
ORIGINS: Final[Mapping[Origin, Schema.Origin.ValueType]] = MappingProxyType(
    {
        Origin.REGISTERED: Schema.ORIGIN_REGISTERED,
        Origin.COMMUNITY: Schema.ORIGIN_COMMUNITY,
        Origin.SYSTEM: Schema.ORIGIN_SYSTEM,
        Origin.FOREIGN: Schema.ORIGIN_FOREIGN,
    }
)


def read_submission_message(request: Any) -> Submission:
    """Returns what a request submits. Raises `Invalid` (FIELD_REQUIRED) if that is nothing."""
    match request.WhichOneof("schemas"):
        case "files":
            return Sources(tuple((file.path, file.content) for file in request.files.files))
        case "descriptor_set":
            return CompiledSet(request.descriptor_set)
        case _:
            raise Invalid.field(Reason.FIELD_REQUIRED, "schemas", "needs one of files and descriptor_set")


def fill_schema(message: Any, schema: EventSchema, version: SchemaVersion) -> None:
    """Fills in a `Schema`."""
    message.type = schema.type_text
    message.message = schema.message_name
    message.revision = version.revision
    message.file = schema.descriptor.file.name
    for option in describe_options(schema):
        message.options.add(name=option.name, field=option.field, field_type=option.field_type)
    message.comment = version.comments.get(schema.message_name, "")[:MOST_OF_COMMENT]
    message.origin = ORIGINS[version.origin]
    if version.register_time is not None:
        message.register_time.FromMicroseconds(version.register_time)


def fill_version(message: Any, version: SchemaVersion, *, with_descriptors: bool, with_sources: bool) -> None:
    """Fills in a `SchemaVersion`."""
    message.domain, message.namespace, message.version = version.name
    message.revision = version.revision
    if version.register_time is not None:
        message.register_time.FromMicroseconds(version.register_time)
    if with_descriptors:
        message.descriptor_set = descriptor_set(version)
    if with_sources:
        for path, content in version.files.sources:
            message.sources.add(path=path, content=content)


def descriptor_set(version: SchemaVersion) -> bytes:
    """Returns the wire form of the `FileDescriptorSet` of a version."""
    # A `repeated FileDescriptorProto` is on the wire what a `repeated bytes` is: of each its tag, its length, its bytes.
    return b"".join(part for file in version.files.files for part in (_FILE_IN_SET, varint(len(file)), file))


def fill_comparison(message: Any, comparison: Comparison, room: int) -> int:
    """Fills in a `VersionComparison`, with as many changes as fit into `room` bytes; returns what is left of these."""
    message.domain, message.namespace, message.version = comparison.version
    message.registered_revision = comparison.registered_revision
    message.compatible = comparison.is_compatible
    for index, change in enumerate(comparison.changes):
        told = message.changes.add(
            rule=change.rule,
            element=change.element,
            before=change.before,
            after=change.after,
            breaking=change.breaking,
            description=change.description,
        )
        room -= told.ByteSize()
        if room < 0:
            del message.changes[-1]
            message.changes_left_out = len(comparison.changes) - index
            return 0
    return room


def fill_descriptions(messages: Any, descriptions: Sequence[MessageDescription], room: int) -> int:
    """Adds `MessageDescription`s, as many as fit into `room` bytes; returns how many do not."""
    for index, description in enumerate(descriptions):
        message = messages.add(name=description.name, comment=description.comment)
        for field in description.fields:
            message.fields.add(
                name=field.name,
                number=field.number,
                type=field.type,
                repeated=field.repeated,
                optional=field.optional,
                oneof=field.oneof,
                enum_values=field.enum_values,
                described=field.described,
                comment=field.comment,
            )
        room -= message.ByteSize()
        if room < 0:
            del messages[-1]
            return len(descriptions) - index
    return 0
