"""The types of fields as they stand in a `.proto` file: `string`, `int64`, a full name, `map<string, int64>`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.descriptor import FieldDescriptor

# The numbers are those of `FieldDescriptorProto.Type` too.
SCALAR_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        FieldDescriptor.TYPE_DOUBLE: "double",
        FieldDescriptor.TYPE_FLOAT: "float",
        FieldDescriptor.TYPE_INT64: "int64",
        FieldDescriptor.TYPE_UINT64: "uint64",
        FieldDescriptor.TYPE_INT32: "int32",
        FieldDescriptor.TYPE_FIXED64: "fixed64",
        FieldDescriptor.TYPE_FIXED32: "fixed32",
        FieldDescriptor.TYPE_BOOL: "bool",
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_BYTES: "bytes",
        FieldDescriptor.TYPE_UINT32: "uint32",
        FieldDescriptor.TYPE_SFIXED32: "sfixed32",
        FieldDescriptor.TYPE_SFIXED64: "sfixed64",
        FieldDescriptor.TYPE_SINT32: "sint32",
        FieldDescriptor.TYPE_SINT64: "sint64",
    }
)
"""The scalar types by their number in a descriptor. Messages, groups and enums are not among them."""


def describe_type(field: FieldDescriptor) -> str:
    """Returns the type of one value of the field; whether there can be several is not said.

    A message or an enum is its full name, without a dot before it; a map is `map<key, value>`.
    """
    if field.message_type is not None:
        if is_map(field):
            key, value = field.message_type.fields
            return f"map<{describe_type(key)}, {describe_type(value)}>"
        return field.message_type.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    return SCALAR_NAMES[field.type]


def is_map(field: FieldDescriptor) -> bool:
    """Says whether the field was declared as a map, which a descriptor has as a list of generated entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry
