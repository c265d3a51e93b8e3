"""The subscription options of an event type, read from its messages.

`(certes.v1.event)` declares each option as a name and the path of a field. Routing asks for their values once per event,
so each path is compiled once, into something that needs no look-up by name afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from certes_broker.domain.errors import Invalid, Reason

ReadOption: TypeAlias = Callable[[Message], str]
"""Reads the value of an option from a message, as text; empty where the field is absent or empty."""


def compile_option(descriptor: Descriptor, option: str, path: str) -> ReadOption:
    """Compiles the path of an option's field, such as `repository.full_name`.

    Strings are read as they are, integers in decimal, bools as `true` and `false`, enums by name. Raises `Invalid` /
    `FIELD_INVALID` where the path leads to no such field.
    """
    parents, field = _resolve(descriptor, option, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type != FieldDescriptor.TYPE_BYTES:
        # A message that is absent reads as an empty one, so an absent string and an empty one need no telling apart.
        return attrgetter(path)
    return _reader_of_number(parents, field, _spelling(option, path, field))


_INTEGERS: Final = frozenset(
    (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    )
)


def _resolve(descriptor: Descriptor, option: str, path: str) -> tuple[list[str], FieldDescriptor]:
    *parents, last = path.split(".")
    for parent in parents:
        field = descriptor.fields_by_name.get(parent)
        if field is None or field.message_type is None or field.is_repeated:
            raise _unfit(option, path, f"{parent!r} is no singular message in {descriptor.full_name}")
        descriptor = field.message_type
    field = descriptor.fields_by_name.get(last)
    if field is None or field.is_repeated:
        raise _unfit(option, path, f"{last!r} is no singular field of {descriptor.full_name}")
    return parents, field


def _spelling(option: str, path: str, field: FieldDescriptor) -> Callable[[int], str]:
    if field.enum_type is not None:
        names: Mapping[int, str] = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, str(number))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda value: "true" if value else "false"
    if field.cpp_type in _INTEGERS:
        return str
    raise _unfit(option, path, "only strings, integers, bools and enums can be selected by")


def _reader_of_number(parents: list[str], field: FieldDescriptor, spell: Callable[[int], str]) -> ReadOption:
    name, has_presence = field.name, field.has_presence

    def read(message: Message) -> str:
        # Zero is a value like any other here, so absence must be asked for, on the whole way.
        for parent in parents:
            if not message.HasField(parent):
                return ""
            message = getattr(message, parent)
        if has_presence and not message.HasField(name):
            return ""
        return spell(getattr(message, name))

    return read


def _unfit(option: str, path: str, problem: str) -> Invalid:
    return Invalid(
        Reason.FIELD_INVALID,
        f"subscription option {option!r} cannot select by the field {path!r}: {problem}",
        metadata={"option": option, "field": path},
    )
