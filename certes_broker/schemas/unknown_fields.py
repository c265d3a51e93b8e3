"""The fields in a message that its schema does not know.

Protobuf keeps what it does not know, by number. That is no fault: who publishes may have a newer schema. It is *drift*, and
worth telling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from certes_broker.schemas.field_types import is_map


class UnknownField(NamedTuple):
    """A field that a message type does not know.

    `path` is that of its message from the event's message, as a payload has it and without indices, and its number:
    `commits.99`. `message` is the full name of the message type.
    """

    path: str
    message: str


def unknown_fields(message: Message) -> Iterator[UnknownField]:
    """Yields the unknown fields of a message and of all within it, each path once.

    It looks at everything that the message holds, so it takes time in proportion to the message; its memory is that of the
    paths. Whoever wants few stops early.
    """
    seen: set[str] = set()
    for found in _found(message, ""):
        if found.path not in seen:
            seen.add(found.path)
            yield found


def _found(message: Message, prefix: str) -> Iterator[UnknownField]:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        name = cast("Descriptor", message.DESCRIPTOR).full_name
        for number in sorted({unknown[index].field_number for index in range(len(unknown))}):
            yield UnknownField(f"{prefix}{number}", name)
    for field, value in message.ListFields():
        for inner in _messages(field, value):
            yield from _found(inner, f"{prefix}{field.name}.")


def _messages(field: FieldDescriptor, value: object) -> Iterator[Message]:
    if field.message_type is None:
        return
    if not field.is_repeated:
        yield cast("Message", value)
    elif not is_map(field):
        yield from cast("list[Message]", value)
    elif field.message_type.fields_by_name["value"].message_type is not None:
        yield from cast("dict[object, Message]", value).values()
