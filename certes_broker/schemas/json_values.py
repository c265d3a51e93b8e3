"""What JSON values are plain for each kind of field, and how the usual others are made so.

The forms are those of proto3's JSON mapping. A form that is legal and rare is left to `json_format`, as is every fault:
both raise `NotPlain`.
"""

from __future__ import annotations

import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

MAXIMUM_DEPTH: Final = 100
"""Messages within messages: the bound of `json_format`, and of every protobuf parser."""

Clean: TypeAlias = Callable[[object, int], object]
"""Makes a value plain. The second argument counts the messages around it."""


class NotPlain(Exception):
    """The document has something that only `json_format` can judge. Never leaves this package."""


class Plain(NamedTuple):
    """Says how one field takes values: of class `kind` as they are, null as `null`, all others through `clean`."""

    kind: type | None
    clean: Clean
    null: object = None


def plain_scalar(field: FieldDescriptor) -> Plain:
    """Returns how a field that is no message takes values."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return Plain(str, _refuse)
        case FieldDescriptor.TYPE_BOOL:
            return Plain(bool, _refuse)
        case FieldDescriptor.TYPE_BYTES:
            return Plain(None, _clean_bytes)
        case FieldDescriptor.TYPE_DOUBLE:
            return Plain(None, _clean_double)
        case FieldDescriptor.TYPE_FLOAT:
            return Plain(None, _clean_float)
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return _plain_enum(field.enum_type)
        case _:
            # The constructor checks the range. `bool` is a class of its own here, so no True slips in as 1.
            return Plain(int, _clean_integer)


def has_own_form(descriptor: Descriptor) -> bool:
    """Says whether JSON writes messages of the type in a form of its own, and not as objects with their fields."""
    return descriptor.full_name in _OWN_FORMS or _is_wrapper(descriptor)


def plain_well_known(descriptor: Descriptor) -> Plain:
    """Returns how a field takes values whose message type `has_own_form`."""
    if _is_wrapper(descriptor):
        return _plain_wrapper(descriptor)
    match descriptor.full_name:
        case "google.protobuf.Struct":
            return Plain(None, _clean_struct)
        case "google.protobuf.ListValue":
            return Plain(None, _clean_list_value)
        case "google.protobuf.Value":
            return Plain(None, _clean_value, {"null_value": 0})
        case "google.protobuf.Any":
            return Plain(None, _refuse)
        case _:
            return _plain_text_form(descriptor)


def clean_map_key(field: FieldDescriptor) -> Callable[[str], object]:
    """Returns what turns the keys of an object into the keys of a map."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return str
        case FieldDescriptor.TYPE_BOOL:
            return _clean_bool_key
        case _:
            return _clean_integer_key


_OWN_FORMS: Final = frozenset(
    f"google.protobuf.{name}" for name in ("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value")
)
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_LARGEST_FLOAT: Final = float.fromhex("0x1.fffffep+127")


def _is_wrapper(descriptor: Descriptor) -> bool:
    return descriptor.file.name == "google/protobuf/wrappers.proto"


def _refuse(_value: object, _depth: int) -> object:
    raise NotPlain


def _clean_integer(value: object, _depth: int) -> object:
    if value.__class__ is str and _INTEGER.fullmatch(value):
        return int(value)
    if value.__class__ is float and value.is_integer():
        return int(value)
    raise NotPlain


def _clean_integer_key(key: str) -> object:
    return _clean_integer(key, 0)


def _clean_bool_key(key: str) -> object:
    if key == "true":
        return True
    if key == "false":
        return False
    raise NotPlain


def _clean_double(value: object, _depth: int) -> object:
    # JSON text has no NaN and no infinity, but Python's reader makes them, of `NaN` and of 1e400.
    if value.__class__ is int or (value.__class__ is float and math.isfinite(value)):
        return float(value)
    raise NotPlain


def _clean_float(value: object, depth: int) -> object:
    number = cast("float", _clean_double(value, depth))
    if abs(number) > _LARGEST_FLOAT:
        raise NotPlain
    return number


def _clean_bytes(value: object, _depth: int) -> object:
    if value.__class__ is not str:
        raise NotPlain
    encoded = value.encode()
    # Both alphabets, with padding or without: JSON mapping says that a reader takes all four.
    return urlsafe_b64decode(encoded + b"=" * (4 - len(encoded) % 4))


def _plain_enum(descriptor: EnumDescriptor) -> Plain:
    numbers = {value.name: value.number for value in descriptor.values}

    def clean(value: object, _depth: int) -> object:
        number = numbers.get(value) if value.__class__ is str else None
        if number is None:
            raise NotPlain
        return number

    is_null = descriptor.full_name == "google.protobuf.NullValue"
    return Plain(int, clean, 0 if is_null else None)


def _plain_wrapper(descriptor: Descriptor) -> Plain:
    kind, clean_inner, _ = plain_scalar(descriptor.fields_by_name["value"])

    def clean(value: object, depth: int) -> object:
        if depth >= MAXIMUM_DEPTH:
            raise NotPlain
        return {"value": value if value.__class__ is kind else clean_inner(value, depth)}

    return Plain(None, clean)


def _plain_text_form(descriptor: Descriptor) -> Plain:
    # GetMessageClass is typed as Message, which lacks the methods that the runtime adds to the well-known types.
    new = cast("Callable[[], _HasTextForm]", GetMessageClass(descriptor))

    def clean(value: object, depth: int) -> object:
        if value.__class__ is not str or depth >= MAXIMUM_DEPTH:
            raise NotPlain
        message = new()
        message.FromJsonString(value)
        return message

    return Plain(None, clean)


class _HasTextForm(Protocol):
    """What the runtime adds to the well-known types that JSON writes as a string."""

    def FromJsonString(self, value: str) -> None: ...  # noqa: N802 — the runtime's name


def _clean_value(value: object, depth: int) -> object:
    """Cleans for google.protobuf.Value."""
    if depth >= MAXIMUM_DEPTH:
        raise NotPlain
    match value:
        case str():
            return {"string_value": value}
        case bool():
            return {"bool_value": value}
        case int() | float():
            return {"number_value": value}
        case None:
            return {"null_value": 0}
        case dict():
            return {"struct_value": _clean_struct(value, depth + 1)}
        case list():
            return {"list_value": _clean_list_value(value, depth + 1)}
        case _:
            raise NotPlain


def _clean_struct(value: object, depth: int) -> object:
    """Checks for google.protobuf.Struct, whose constructor takes the content as it is."""
    if value.__class__ is not dict or depth >= MAXIMUM_DEPTH:
        raise NotPlain
    for item in value.values():
        _clean_value(item, depth + 1)
    return value


def _clean_list_value(value: object, depth: int) -> object:
    """Checks for google.protobuf.ListValue, whose constructor takes the content as it is."""
    if value.__class__ is not list or depth >= MAXIMUM_DEPTH:
        raise NotPlain
    for item in value:
        _clean_value(item, depth + 1)
    return value
