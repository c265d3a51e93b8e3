"""What JSON a field takes, and what it got instead, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import FieldDescriptor


def expected_of(field: FieldDescriptor) -> str:
    """Says what one value of a field is, such as `an integer of 32 bits`."""
    if field.enum_type is not None:
        return f"a value of {field.enum_type.full_name}"
    if field.message_type is not None:
        return _MESSAGES.get(field.message_type.full_name, "an object")
    return _SCALARS[field.type]


def describe(value: object) -> str:
    """Says what a JSON value is, such as `the string "12"`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {_short(json.dumps(value, ensure_ascii=not value.isprintable()))}"
        case int() | float():
            return _short(repr(value)) if abs(value) < _LARGE else "a very large number"
        case dict():
            return "an object"
        case _:
            return "an array"


def kind_of(value: object) -> str:
    """Says of what kind a JSON value is, and of a string no more: where an object or an array belongs, it may be a secret."""
    return "a string" if isinstance(value, str) else describe(value)


_LONGEST: Final = 50
_LARGE: Final = 1e300


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_F: Final = FieldDescriptor
_SCALARS: Final[Mapping[int, str]] = {
    _F.TYPE_STRING: "a string",
    _F.TYPE_BOOL: "true or false",
    _F.TYPE_BYTES: "a string of base64",
    _F.TYPE_DOUBLE: "a number",
    _F.TYPE_FLOAT: "a number of single precision",
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), "an integer of 32 bits"),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), "an integer of 32 bits that is not negative"),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), "an integer of 64 bits"),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), "an integer of 64 bits that is not negative"),
}
_MESSAGES: Final[Mapping[str, str]] = {
    "google.protobuf.Any": "an object with an '@type' that is known here, and with what that has",
    "google.protobuf.Timestamp": 'a time such as "2020-02-03T04:05:06Z"',
    "google.protobuf.Duration": 'a duration such as "1.5s"',
    "google.protobuf.FieldMask": 'a field mask in lowerCamelCase such as "labels,webhook.rateLimit"',
    "google.protobuf.ListValue": "an array, nested not too deeply",
    "google.protobuf.Struct": "an object, nested not too deeply",
    "google.protobuf.Value": "nested less deeply",
    "google.protobuf.BoolValue": "true or false",
    "google.protobuf.BytesValue": "a string of base64",
    "google.protobuf.DoubleValue": "a number",
    "google.protobuf.FloatValue": "a number of single precision",
    "google.protobuf.StringValue": "a string",
    "google.protobuf.Int32Value": "an integer of 32 bits",
    "google.protobuf.Int64Value": "an integer of 64 bits",
    "google.protobuf.UInt32Value": "an integer of 32 bits that is not negative",
    "google.protobuf.UInt64Value": "an integer of 64 bits that is not negative",
}
