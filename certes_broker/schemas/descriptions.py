"""Schemas described for people: their options, and the messages, fields and comments within them.

A schema is a graph, since messages may contain each other and themselves. So it is told as a list of messages that refer to
each other by name, the event's own first, the others in the order in which they are met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from certes.v1 import options_pb2
from certes_broker.schemas.comments import Comments
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.field_types import describe_type, is_map


@dataclass(frozen=True, slots=True)
class OptionDescription:
    """An option of an event type; `field_type` is `string`, `int64`, `bool`, … or the full name of an enum."""

    name: str
    field: str
    field_type: str


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """A field, as `certes.v1.FieldDescription` says it."""

    name: str
    number: int
    type: str
    repeated: bool
    optional: bool
    oneof: str
    enum_values: tuple[str, ...]
    described: bool
    comment: str


@dataclass(frozen=True, slots=True)
class MessageDescription:
    """A message type within a schema; its fields are by number."""

    name: str
    comment: str
    fields: tuple[FieldDescription, ...]


def describe_options(schema: EventSchema) -> Sequence[OptionDescription]:
    """Returns the options that an event type declares, by name."""
    declared = schema.descriptor.GetOptions().Extensions[options_pb2.event].options
    described = [
        OptionDescription(option.name, option.field, describe_type(_field_at(schema.descriptor, option.field)))
        for option in declared
    ]
    return sorted(described, key=lambda option: option.name)


def describe_messages(schema: EventSchema, comments: Comments) -> Sequence[MessageDescription]:
    """Returns the messages of a schema: every one that an event can hold, but for those of `google.protobuf`."""
    met: dict[str, Descriptor] = {schema.message_name: schema.descriptor}
    described: list[MessageDescription] = []
    waiting = [schema.descriptor]
    for message in waiting:
        described.append(_describe(message, comments))
        for field in message.fields:
            inner = _message_of(field)
            if inner is not None and inner.full_name not in met:
                met[inner.full_name] = inner
                waiting.append(inner)
    return described


def _describe(message: Descriptor, comments: Comments) -> MessageDescription:
    fields = tuple(_describe_field(field, comments) for field in sorted(message.fields, key=lambda field: field.number))
    return MessageDescription(message.full_name, comments.get(message.full_name, ""), fields)


def _describe_field(field: FieldDescriptor, comments: Comments) -> FieldDescription:
    value = _value(field)
    oneof = field.containing_oneof
    # An `optional` field has a oneof behind the scenes, which nobody declared.
    is_declared = oneof is not None and (len(oneof.fields) > 1 or oneof.name != f"_{field.name}")
    return FieldDescription(
        name=field.name,
        number=field.number,
        type=describe_type(field),
        repeated=field.is_repeated and not is_map(field),
        optional=field.has_presence,
        oneof=oneof.name if oneof is not None and is_declared else "",
        enum_values=tuple(one.name for one in sorted(value.enum_type.values, key=lambda one: one.number))
        if value.enum_type is not None
        else (),
        described=_message_of(field) is not None,
        comment=comments.get(field.full_name, ""),
    )


def _message_of(field: FieldDescriptor) -> Descriptor | None:
    """Returns the message that a field, or a map's value, holds; None for what has a form of its own in JSON."""
    message = _value(field).message_type
    return None if message is None or message.full_name.startswith("google.protobuf.") else message


def _value(field: FieldDescriptor) -> FieldDescriptor:
    """Returns the field itself, or the value of a map's entry."""
    if is_map(field) and field.message_type is not None:
        return field.message_type.fields_by_name["value"]
    return field


def _field_at(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, last = path.split(".")
    for parent in parents:
        inner = message.fields_by_name[parent].message_type
        assert inner is not None  # compile_option has refused it otherwise
        message = inner
    return message.fields_by_name[last]
