"""What JSON values are plain for each kind of field, and how the others that are legal are made so.

The forms are those of proto3's JSON mapping, read as generously as `json_format` reads them: where a number is wanted, a
string of one does too. What is none of them raises `NotPlain`, or whatever Python raises of itself.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import EncodeError
from google.protobuf.message_factory import GetMessageClass

MAXIMUM_DEPTH: Final = 100
"""Messages within messages: the bound of `json_format`, and of every protobuf parser."""

Clean: TypeAlias = Callable[[object, int], object]
"""Makes a value plain. The second argument counts the messages around it."""


class NotPlain(Exception):
    """A value that does not fit its field, as far as this package knows. Never leaves it."""


class Plain(NamedTuple):
    """Says how one field takes values: of class `kind` as they are, null as `null`, all others through `clean`."""

    kind: type | None
    clean: Clean
    null: object = None


FAULTS: Final = (
    NotPlain,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    LookupError,
    EncodeError,
    json_format.Error,
)
"""What comes of a value that does not fit its field."""


def refuse(_value: object, _depth: int) -> object:
    """Takes nothing."""
    raise NotPlain


def plain_scalar(field: FieldDescriptor) -> Plain:
    """Returns how a field that is no message takes values.

    A string of an enum that is no name of its values becomes None: such a value is left out, as by `json_format` where it
    ignores unknown fields.
    """
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return Plain(str, refuse)
        case FieldDescriptor.TYPE_BOOL:
            return Plain(bool, refuse)
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
    """Returns how a field takes values whose message type `has_own_form`, but for `Any`."""
    if _is_wrapper(descriptor):
        return _plain_wrapper(descriptor)
    match descriptor.full_name:
        case "google.protobuf.Struct":
            return Plain(None, _clean_struct)
        case "google.protobuf.ListValue":
            return Plain(None, _clean_list_value)
        case "google.protobuf.Value":
            return Plain(None, _clean_value, {"null_value": 0})
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


def is_map(field: FieldDescriptor) -> bool:
    """Says whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def entry_fields(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Returns the key and the value of a map field."""
    entry = field.message_type
    assert entry is not None
    return entry.fields_by_name["key"], entry.fields_by_name["value"]


_OWN_FORMS: Final = frozenset(
    f"google.protobuf.{name}" for name in ("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value")
)
_LARGEST_FLOAT: Final = float.fromhex("0x1.fffffep+127")


def _is_wrapper(descriptor: Descriptor) -> bool:
    return descriptor.file.name == "google/protobuf/wrappers.proto"


def _clean_integer(value: object, _depth: int) -> object:
    if value.__class__ is str:
        return _integer_of(value)
    if value.__class__ is float and value.is_integer():
        return int(value)
    raise NotPlain


def _integer_of(text: str) -> int:
    if " " in text:
        raise NotPlain
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():
        raise NotPlain
    return int(number)


def _clean_integer_key(key: str) -> object:
    return _integer_of(key)


def _clean_bool_key(key: str) -> object:
    if key == "true":
        return True
    if key == "false":
        return False
    raise NotPlain


def _clean_double(value: object, _depth: int) -> object:
    # JSON text has no NaN and no infinity, but Python's reader makes them, of `NaN` and of 1e400.
    if value.__class__ is float and not math.isfinite(value):
        raise NotPlain
    if value.__class__ in _NUMBERS or (value.__class__ is str and value != "nan"):
        return float(cast("str", value))
    raise NotPlain


def _clean_float(value: object, depth: int) -> object:
    number = cast("float", _clean_double(value, depth))
    if value.__class__ is float and abs(number) > _LARGEST_FLOAT:
        raise NotPlain
    return number


_NUMBERS: Final = (float, int, bool)


def _clean_bytes(value: object, _depth: int) -> object:
    encoded = cast("str", value).encode()
    # Both alphabets, with padding or without: JSON mapping says that a reader takes all four.
    return urlsafe_b64decode(encoded + b"=" * (4 - len(encoded) % 4))


def _plain_enum(descriptor: EnumDescriptor) -> Plain:
    numbers = {value.name: value.number for value in descriptor.values}

    def clean(value: object, _depth: int) -> object:
        if value.__class__ is not str:
            return int(cast("float", value))
        number = numbers.get(value)
        if number is not None:
            return number
        value.encode()  # a lone surrogate is in no string
        try:
            return int(value)
        except ValueError:
            return None

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
    for item in cast("dict[str, object]", value).values():
        if item.__class__ in _NESTED:
            _clean_value(item, depth + 1)
    return value


def _clean_list_value(value: object, depth: int) -> object:
    """Checks for google.protobuf.ListValue, whose constructor takes the content as it is."""
    if value.__class__ is not list or depth >= MAXIMUM_DEPTH:
        raise NotPlain
    for item in cast("list[object]", value):
        if item.__class__ in _NESTED:
            _clean_value(item, depth + 1)
    return value


_NESTED: Final = (dict, list)
