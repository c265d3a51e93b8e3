"""Message types of every shape that protobuf has, each in a descriptor pool of its own, and documents for them."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import assume
from hypothesis import strategies as st

from tests.unit.schemas.every_kind import KEYS, NULL, SCALARS, WELL_KNOWN
from tests.unit.schemas.json_documents import JUNK, KEYS_AS_TEXT, USUAL

Field = descriptor_pb2.FieldDescriptorProto
IMPORTED = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
PACKAGE = "made"
MESSAGES = ("Alpha", "Beta")
ENUMS = ("Color", "Size")
NAMES = ("a", "b", "a_b", "c_3d", "_x", "self", "class", "value", "x__y")
"""Names of fields."""
JSON_NAMES = (*NAMES, "aB", "+1", "@type", "", "choice", "é")
"""Names that fields may have in JSON; some are other fields' own, or that of a oneof."""
KINDS = st.sampled_from(
    [*SCALARS, *ENUMS, *MESSAGES, NULL, "google.protobuf.Empty", *(f"google.protobuf.{name}" for name in WELL_KNOWN)]
)
ENUM_VALUES = {"Color": {"COLOR_UNSPECIFIED": 0, "RED": 1, "ROUGE": 1, "DARK": -3}, "Size": {"SMALL": 0, "BIG": 7}}


@st.composite
def message_types(draw: st.DrawFn) -> Descriptor:
    """Makes a file of two message types that may contain each other, and returns the first."""
    syntax = draw(st.sampled_from(["proto2", "proto3"]))
    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package=PACKAGE, syntax=syntax)
    file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTED)
    for name, values in ENUM_VALUES.items():
        enum = file.enum_type.add(name=name)
        enum.options.allow_alias = len(set(values.values())) < len(values)
        for text, number in values.items():
            enum.value.add(name=text, number=number)
    for name in MESSAGES:
        _add_message(draw, file, name)
    pool = DescriptorPool()
    for module in IMPORTED:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    try:
        pool.Add(file)
    except TypeError:
        assume(False)
    return pool.FindMessageTypeByName(f"{PACKAGE}.{MESSAGES[0]}")


def _add_message(draw: st.DrawFn, file: descriptor_pb2.FileDescriptorProto, name: str) -> None:
    message = file.message_type.add(name=name)
    if draw(st.booleans()):
        message.oneof_decl.add(name="choice")
    optional: list[Any] = []
    is_proto2 = file.syntax == "proto2"
    for field_name in draw(st.lists(st.sampled_from(NAMES), max_size=6, unique=True)):
        field = message.field.add(name=field_name, number=len(message.field) + 1, label=Field.LABEL_OPTIONAL)
        shape = draw(st.sampled_from(["one", "one", "one", "many", "map", "choice", "optional", "group", "required"]))
        if shape == "map":
            _make_map(draw, message, field)
        elif shape == "group" and is_proto2:
            _make_group(message, field)
        else:
            _set_kind(field, draw(KINDS))
            if shape == "many":
                field.label = Field.LABEL_REPEATED
            elif shape == "choice" and message.oneof_decl:
                field.oneof_index = 0
            elif shape == "optional" and not is_proto2:
                field.proto3_optional = True
                optional.append(field)
            elif shape == "required" and is_proto2:
                field.label = Field.LABEL_REQUIRED
        if draw(st.integers(0, 3)) == 0:
            field.json_name = draw(st.sampled_from(JSON_NAMES))
    if message.oneof_decl and not any(field.HasField("oneof_index") for field in message.field):
        del message.oneof_decl[:]
    # After the written oneofs, as descriptors must have them.
    for field in optional:
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")
    if is_proto2 and draw(st.booleans()):
        message.extension_range.add(start=100, end=200)
        extension = file.extension.add(name=f"more_{name.lower()}", number=100, extendee=f".{PACKAGE}.{name}")
        extension.label = draw(st.sampled_from([Field.LABEL_OPTIONAL, Field.LABEL_REPEATED]))
        _set_kind(extension, draw(KINDS))


def _set_kind(field: Any, kind: str) -> None:
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type = Field.TYPE_ENUM if kind in (*ENUMS, NULL) else Field.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".{PACKAGE}.{kind}"


def _make_map(draw: st.DrawFn, message: Any, field: Any) -> None:
    entry_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _set_kind(entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL), draw(st.sampled_from(KEYS)))
    _set_kind(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), draw(KINDS))
    field.label = Field.LABEL_REPEATED
    field.type = Field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{message.name}.{entry_name}"


def _make_group(message: Any, field: Any) -> None:
    name = f"Group{len(message.nested_type)}"
    group = message.nested_type.add(name=name)
    _set_kind(group.field.add(name="inner", number=1, label=Field.LABEL_OPTIONAL), "string")
    field.name = name.lower()
    field.type = Field.TYPE_GROUP
    field.type_name = f".{PACKAGE}.{message.name}.{name}"


def documents_of(draw: st.DrawFn, descriptor: Descriptor, *, odd: int = 15, depth: int = 0) -> dict[str, Any]:
    """Draws a document for a message type, in which about one value in `odd` is not of its field; none if that is 0."""
    document: dict[str, Any] = {}
    for field in draw(st.lists(st.sampled_from(list(descriptor.fields) or [None]), max_size=5)):
        if field is None:
            break
        key = draw(st.sampled_from([field.name, field.json_name]))
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            kind = "uint64" if entry["key"].type == Field.TYPE_UINT64 else _KEYS[entry["key"].type]
            document[key] = {
                draw(KEYS_AS_TEXT[kind]): _value(draw, entry["value"], odd, depth)
                for _ in range(draw(st.integers(0, 2)))
            }
        elif field.is_repeated:
            document[key] = [_value(draw, field, odd, depth) for _ in range(draw(st.integers(0, 2)))]
        else:
            document[key] = None if draw(st.integers(0, 9)) == 0 else _value(draw, field, odd, depth)
    if odd and draw(st.booleans()):
        key = draw(st.sampled_from([*JSON_NAMES, "unknown", "[made.more_alpha]", "[made.none]", "[]"]))
        document[key] = draw(JUNK)
    return document


_KEYS: dict[int, str] = {Field.TYPE_STRING: "string", Field.TYPE_BOOL: "bool", Field.TYPE_INT32: "int32"}
_KIND_OF: dict[int, str] = {number: name for name, number in SCALARS.items()}
_ENUM_VALUES = st.sampled_from(["RED", "ROUGE", "BIG", "SMALL", "MAUVE", 0, 1, 7, -3, 99, "1", 1.0])


def _value(draw: st.DrawFn, field: FieldDescriptor, odd: int, depth: int) -> Any:
    if odd and draw(st.integers(0, odd)) == 0:
        return draw(JUNK)
    if field.enum_type is not None:
        return draw(USUAL[NULL] if field.enum_type.full_name == NULL else _ENUM_VALUES)
    message = field.message_type
    if message is None:
        return draw(USUAL[_KIND_OF[field.type]])
    if message.full_name == "google.protobuf.Any" and draw(st.booleans()):
        name = draw(st.sampled_from(MESSAGES))
        assert field.containing_type is not None
        inner = field.containing_type.file.pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
        held = documents_of(draw, inner, odd=odd, depth=depth + 1) if depth < 2 else {}
        return {"@type": f"type.googleapis.com/{PACKAGE}.{name}", **held}
    if message.full_name in USUAL:
        return draw(USUAL[message.full_name])
    return documents_of(draw, message, odd=odd, depth=depth + 1) if depth < 2 else {}
