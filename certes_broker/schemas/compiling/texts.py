"""Whether the texts in descriptors are texts."""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FeatureSet, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass


def is_text_throughout(files: FileDescriptorSet) -> bool:
    """Says whether every name, comment and other text of a set is UTF-8, those of custom options excepted."""
    try:
        _judging_set().FromString(files.SerializeToString())
    except DecodeError:
        return False
    return True


@cache
def _judging_set() -> type[Message]:
    """Makes a `FileDescriptorSet` that refuses bytes which are no UTF-8.

    The usual one does not look at them: `descriptor.proto` is in proto2, where strings may hold anything.
    """
    file = FileDescriptorProto.FromString(descriptor_pb2.DESCRIPTOR.serialized_pb)
    file.syntax, file.edition = "editions", descriptor_pb2.EDITION_2023
    file.options.features.enum_type = FeatureSet.CLOSED
    file.options.features.utf8_validation = FeatureSet.VERIFY
    for message in file.message_type:
        _make_optional(message)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(FileDescriptorSet.DESCRIPTOR.full_name))


def _make_optional(message: DescriptorProto) -> None:
    """Makes required fields optional, which an edition has no word for."""
    for field in message.field:
        if field.label == field.LABEL_REQUIRED:
            field.label = field.LABEL_OPTIONAL
    for nested in message.nested_type:
        _make_optional(nested)
