from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from google.protobuf.struct_pb2 import Struct

from certes_broker.schemas.field_types import SCALAR_NAMES, describe_type, is_map


def test_types_are_described_as_files_have_them():
    fields = FieldDescriptorProto.DESCRIPTOR.fields_by_name
    assert describe_type(fields["name"]) == "string"
    assert describe_type(fields["number"]) == "int32"
    assert describe_type(fields["type"]) == "google.protobuf.FieldDescriptorProto.Type"
    assert describe_type(DescriptorProto.DESCRIPTOR.fields_by_name["field"]) == "google.protobuf.FieldDescriptorProto"
    assert describe_type(Struct.DESCRIPTOR.fields_by_name["fields"]) == "map<string, google.protobuf.Value>"


def test_a_map_is_told_from_a_list_of_messages():
    assert is_map(Struct.DESCRIPTOR.fields_by_name["fields"])
    assert not is_map(DescriptorProto.DESCRIPTOR.fields_by_name["field"])
    assert not is_map(FieldDescriptorProto.DESCRIPTOR.fields_by_name["name"])


def test_every_type_that_is_no_message_and_no_enum_has_a_name():
    composed = {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP, FieldDescriptor.TYPE_ENUM}
    assert SCALAR_NAMES.keys() == set(FieldDescriptorProto.Type.values()) - composed
    assert all(
        FieldDescriptorProto.Type.Name(number) == f"TYPE_{name.upper()}" for number, name in SCALAR_NAMES.items()
    )
