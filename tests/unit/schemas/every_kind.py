"""A message type with every kind of field that proto3 has, in a descriptor pool of its own."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in Field.Type.items()
    if number not in {Field.TYPE_GROUP, Field.TYPE_MESSAGE, Field.TYPE_ENUM}
}
WELL_KNOWN = [
    *("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"),
    *("BoolValue", "BytesValue", "DoubleValue", "FloatValue", "StringValue"),
    *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
]
NAMED = {"Color": Field.TYPE_ENUM, "EveryKind": Field.TYPE_MESSAGE} | {
    f"google.protobuf.{name}": Field.TYPE_MESSAGE for name in WELL_KNOWN
}
NULL = "google.protobuf.NullValue"
VALUES = [*SCALARS, *NAMED]
KEYS = ("string", "bool", "int32", "uint64")


def short(kind: str) -> str:
    """Spells a kind as the end of a field's name."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.rpartition(".")[2]).lstrip(
        "_"
    )


FIELDS: list[tuple[str, str, str]] = [
    *((f"one_{short(kind)}", "one", kind) for kind in [*VALUES, NULL]),
    *((f"many_{short(kind)}", "many", kind) for kind in [*VALUES, NULL]),
    *((f"by_string_{short(kind)}", "string", kind) for kind in VALUES),
    *((f"by_{key}", key, "string") for key in KEYS[1:]),
    *(
        (f"choice_{short(kind)}", "one", kind)
        for kind in ("string", "int64", "EveryKind", "google.protobuf.Value", NULL)
    ),
    *((f"maybe_{kind}", "one", kind) for kind in ("string", "bool", "int32")),
    ("named_otherwise", "one", "string"),
]
"""Each field: its name, its shape (`one`, `many` or the kind of a map's keys), and the kind of its values."""


def every_kind() -> Descriptor:
    """Builds the message type. Each call makes a pool of its own."""
    pool = DescriptorPool()
    for module in (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(_file())
    return pool.FindMessageTypeByName("every.EveryKind")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="every/kind.proto", package="every", syntax="proto3")
    file.dependency.extend(
        f"google/protobuf/{name}.proto" for name in ("any", "duration", "field_mask", "struct", "timestamp", "wrappers")
    )
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(("COLOR_UNSPECIFIED", "RED", "GREEN")):
        color.value.add(name=name, number=number)
    message = file.message_type.add(name="EveryKind")
    message.oneof_decl.add(name="choice")
    for name, shape, kind in FIELDS:
        if shape in KEYS:
            entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            _add(entry, "key", shape)
            _add(entry, "value", kind)
            kind = f"EveryKind.{entry.name}"
        field = _add(message, name, kind, repeated=shape != "one")
        if name.startswith("choice_"):
            field.oneof_index = 0
        elif name == "named_otherwise":
            field.json_name = "+1"
    for field in message.field:
        # After the written oneofs, as descriptors must have them.
        if field.name.startswith("maybe_"):
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")
    return file


def _add(message: Any, name: str, kind: str, *, repeated: bool = False) -> Any:
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=len(message.field) + 1, label=label)
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type = Field.TYPE_ENUM if kind in {"Color", NULL} else Field.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".every.{kind}"
    return field
