"""What a compatible change promises: data of either revision can be read with the other, and say the same there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from certes_broker.schemas.compatibility import compare
from tests.unit.schemas.compatibility.compiled_versions import compile_protos, version_of
from tests.unit.schemas.compatibility.random_edits import ALL, COMPATIBLE, edited
from tests.unit.schemas.compatibility.random_schemas import Schema, random_schema, texts
from tests.unit.schemas.compatibility.repaired_schemas import repaired

PAIRS = 200
VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, 0.5, -1e300, float("inf"), float("nan")),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, 0.5, float("-inf")),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
}


def compile_all(schemas: Iterable[Schema]) -> FileDescriptorSet:
    return compile_protos({path: text for schema in schemas for path, text in texts(schema).items()})


def files_in(files: FileDescriptorSet, folder: str) -> FileDescriptorSet:
    return FileDescriptorSet(file=[file for file in files.file if file.name.startswith(f"{folder}/")])


def pools_of(files: FileDescriptorSet) -> dict[str, DescriptorPool]:
    """Returns a pool for each folder."""
    pools: dict[str, DescriptorPool] = {}
    for file in files.file:
        pools.setdefault(file.name.split("/")[0], DescriptorPool()).AddSerializedFile(file.SerializeToString())
    return pools


@pytest.fixture(scope="module")
def compatible_messages() -> list[tuple[type[Message], ...]]:
    """The messages of schemas that were edited at random and are called compatible, before and after."""
    schemas = []
    for index in range(PAIRS):
        rng = Random(f"data/{index}")
        before = repaired(random_schema(rng, f"p{index}"))
        schemas.append((before, edited(rng, before, rng.choice((COMPATIBLE, ALL)), 3)))
    old, new = (compile_all(pair[side] for pair in schemas) for side in (0, 1))
    pools = pools_of(old), pools_of(new)
    found = []
    for schema, _ in schemas:
        was, now = (version_of(files_in(files, schema.folder)) for files in (old, new))
        if compare(was, now, 1).is_compatible:
            for message in schema.messages:
                name = f"{schema.package}.{message.name}"
                found.append(tuple(GetMessageClass(pool[schema.folder].FindMessageTypeByName(name)) for pool in pools))
    return found


def test_data_of_the_older_revision_says_the_same_in_the_newer(compatible_messages) -> None:
    assert len(compatible_messages) > PAIRS
    for old, new, written in written_in(compatible_messages, 0):
        read = new.FromString(written.SerializeToString())
        assert_part_of(document(written), document(read))
        assert same(old.FromString(read.SerializeToString()), written)


def test_data_of_the_newer_revision_keeps_in_the_older_all_that_it_knows_and_loses_nothing(compatible_messages) -> None:
    for old, new, written in written_in(compatible_messages, 1):
        read = old.FromString(written.SerializeToString())
        assert_part_of(document(read), document(written))
        assert same(new.FromString(read.SerializeToString()), written)


def written_in(messages: list[tuple[type[Message], ...]], side: int) -> Iterator[tuple[Any, Any, Message]]:
    """Fills messages of one side. One that requires itself can never be complete, and is passed over."""
    for index, pair in enumerate(messages):
        written = random_message(Random(index), pair[side])
        if written.IsInitialized():
            yield pair[0], pair[1], written


def random_message(rng: Random, message_class: type[Message], depth: int = 0) -> Message:
    message = message_class()
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.8 or field.is_required:
            _fill(rng, message, field, depth)
    return message


def document(message: Message) -> dict[str, Any]:
    """Returns the message as payloads have it: what has no presence is written also when it is empty."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def same(one: Message, other: Message) -> bool:
    """Whether two messages have the same content; NaN is the same as itself here."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def assert_part_of(part: Any, whole: Any) -> None:
    """Asserts that a document says nothing that another does not say, too."""
    if isinstance(part, dict):
        assert part.keys() <= whole.keys()
        for key, value in part.items():
            assert_part_of(value, whole[key])
    elif isinstance(part, list):
        assert len(part) == len(whole)
        for one, other in zip(part, whole, strict=True):
            assert_part_of(one, other)
    else:
        assert part == whole


def _fill(rng: Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    entry: Descriptor | None = (
        field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    )
    if entry is not None:
        key, value = entry.fields
        if value.message_type is None:
            getattr(message, field.name)[_value(rng, key)] = _value(rng, value)
    elif field.message_type is not None:
        if depth < 3:
            inner = random_message(rng, GetMessageClass(field.message_type), depth + 1)
            target = getattr(message, field.name)
            (target.add() if field.is_repeated else target).CopyFrom(inner)
    elif field.is_repeated:
        getattr(message, field.name).extend(_value(rng, field) for _ in range(rng.randint(1, 3)))
    else:
        setattr(message, field.name, _value(rng, field))


def _value(rng: Random, field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice((b"", b"a", b"\xff\x00"))
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(("", "a", "ü😀"))
    return rng.choice(VALUES[field.cpp_type])
