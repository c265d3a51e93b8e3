"""The messages of a checked expression, as CEL's compiler serializes it: those fields that are read, under their numbers.

What is not declared here is skipped when it is read. A field is its name, its number and its type: a scalar's, or the name
of one of these messages. With `*` it is repeated, with `|` it belongs to the message's one `oneof`, and `{}` is a map from
int64.

Source: https://github.com/google/cel-spec, proto/cel/expr/checked.proto and syntax.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_MESSAGES: Final[Mapping[str, str]] = {
    "Empty": "",
    "Type": (
        "|dyn 1 Empty, |null 2 int32, |primitive 3 int32, |wrapper 4 int32, |well_known 5 int32, |list_type 6 ListType,"
        " |map_type 7 MapType, |message_type 9 string, |type_param 10 string, |type 11 Type, |error 12 Empty"
    ),
    "ListType": "elem_type 1 Type",
    "MapType": "key_type 1 Type, value_type 2 Type",
    "Expr": (
        "id 2 int64, |const_expr 3 Constant, |ident_expr 4 Ident, |select_expr 5 Select, |call_expr 6 CallExpr,"
        " |list_expr 7 CreateList, |struct_expr 8 CreateStruct, |comprehension_expr 9 Comprehension"
    ),
    "Constant": (
        "|null_value 1 int32, |bool_value 2 bool, |int64_value 3 int64, |uint64_value 4 uint64, |double_value 5 double,"
        " |string_value 6 string, |bytes_value 7 bytes"
    ),
    "Ident": "name 1 string",
    "Select": "operand 1 Expr, field 2 string, test_only 3 bool",
    "CallExpr": "target 1 Expr, function 2 string, args 3 *Expr",
    "CreateList": "elements 1 *Expr",
    "CreateStruct": "message_name 1 string, entries 2 *Entry",
    "Entry": "map_key 3 Expr, value 4 Expr",
    "Comprehension": (
        "iter_var 1 string, iter_range 2 Expr, accu_var 3 string, accu_init 4 Expr, loop_condition 5 Expr,"
        " loop_step 6 Expr, result 7 Expr"
    ),
    "SourceInfo": "positions 4 {}int32",
    "CheckedExpr": "type_map 3 {}Type, expr 4 Expr, source_info 5 SourceInfo",
}
_PACKAGE: Final = "certes.filters"
_SCALARS: Final[Mapping[str, Any]] = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def _message_type(name: str) -> Any:
    file = FileDescriptorProto(name="certes/filters/checked.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field in filter(None, fields.split(", ")):
            _declare(message, *field.split(" "))
        if any(field.HasField("oneof_index") for field in message.field):
            message.oneof_decl.add(name=_ONEOFS[message_name])
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_ONEOFS: Final[Mapping[str, str]] = {"Type": "type_kind", "Expr": "expr_kind", "Constant": "constant_kind"}


def _declare(message: DescriptorProto, name: str, number: str, of: str) -> None:
    field = message.field.add(
        name=name.removeprefix("|"), number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    if name.startswith("|"):
        field.oneof_index = 0
    if of.startswith(("*", "{}")):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if of.startswith("{}"):
        # A map is a list of entries with a key and a value.
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _declare(entry, "key", "1", "int64")
        _declare(entry, "value", "2", of.removeprefix("{}"))
        _set_type(field, f"{message.name}.{entry.name}")
    else:
        _set_type(field, of.removeprefix("*"))


def _set_type(field: FieldDescriptorProto, of: str) -> None:
    if of in _SCALARS:
        field.type = _SCALARS[of]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{of}"


CheckedExpr: Final = _message_type("CheckedExpr")
