from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.descriptor_sets import checked_set
from certes_broker.schemas.compiling.shared_files import shared_files
from tests.unit.schemas.compiling.schema_sets import OPTIONS, schema_file, schema_set, text_field

DESCRIPTOR = "google/protobuf/descriptor.proto"


def names(files: FileDescriptorSet) -> list[str]:
    return [file.name for file in files.file]


def test_a_set_is_put_in_the_order_of_its_imports_with_what_every_broker_has():
    first = schema_file("a.proto", events={"A": {}}, imports=["b.proto", "google/protobuf/any.proto"])
    files = FileDescriptorSet(file=[first, schema_file("b.proto", messages=["B"])])
    found = names(checked_set(files))
    assert found.index(DESCRIPTOR) < found.index(OPTIONS) < found.index("a.proto")
    assert found.index("b.proto") < found.index("a.proto")
    assert sorted(found) == sorted(["a.proto", "b.proto", DESCRIPTOR, OPTIONS, "google/protobuf/any.proto"])


def test_what_every_broker_has_is_our_own_whatever_the_set_says_it_is():
    forged = FileDescriptorProto(name=OPTIONS, package="certes.v1", dependency=["nowhere.proto"])
    checked = checked_set(FileDescriptorSet(file=[forged, schema_file(events={"A": {}})]))
    ours = next(file for file in checked.file if file.name == OPTIONS)
    assert ours.SerializeToString() == shared_files()[OPTIONS]


def test_what_nobody_imports_of_the_shared_files_is_left_out():
    assert names(checked_set(schema_set(schema_file(messages=["A"])))) == ["orders/v1/orders.proto"]


@pytest.mark.parametrize("files", [FileDescriptorSet(), schema_set()])
def test_a_set_without_files_of_its_own_is_refused(files):
    with pytest.raises(Invalid, match="no file is given"):
        checked_set(files)


def test_a_missing_import_is_refused_with_how_a_complete_set_is_made():
    with pytest.raises(Invalid, match=r"'b\.proto', which 'a\.proto' imports, is missing") as refusal:
        checked_set(schema_set(schema_file("a.proto", imports=["b.proto"], messages=["A"])))
    assert "--include_imports" in refusal.value.hint


@pytest.mark.parametrize("path", ["/etc/a.proto", "../a.proto", "", "a.txt", "-I.proto"])
def test_the_paths_of_a_set_follow_the_rules_of_sources(path):
    with pytest.raises(Invalid) as refusal:
        checked_set(schema_set(schema_file(path, messages=["A"])))
    assert [violation.field for violation in refusal.value.violations] == ["files[2].name"]


def test_a_file_that_is_there_twice_is_refused():
    with pytest.raises(Invalid, match="given twice"):
        checked_set(schema_set(schema_file(messages=["A"]), schema_file(messages=["B"])))


def replaced(files: FileDescriptorSet, before: bytes, after: bytes) -> FileDescriptorSet:
    wire = files.SerializeToString()
    assert before in wire
    return FileDescriptorSet.FromString(wire.replace(before, after))


@pytest.mark.parametrize("element", ["package", "name", "message", "field", "json_name", "default_value", "comment"])
def test_bytes_that_are_no_text_are_refused_wherever_they_stand(element):
    file = schema_file(messages=["A"])
    match element:
        case "package":
            file.package = "QQQ"
        case "name":
            file.name = "QQQ.proto"
        case "message":
            file.message_type[0].name = "QQQ"
        case "comment":
            file.source_code_info.location.add(leading_comments="QQQ")
        case _:
            setattr(file.message_type[0].field[0], "name" if element == "field" else element, "QQQ")
    checked_set(schema_set(file))
    with pytest.raises(Invalid, match="not UTF-8") as refusal:
        checked_set(replaced(schema_set(file), b"QQQ", b"Q\xffQ"))
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202e", "\x7f"])
def test_names_that_need_be_no_identifiers_can_be_shown(text):
    file = schema_file(messages=["A"])
    file.message_type[0].field[0].json_name = text
    with pytest.raises(Invalid, match="cannot be shown") as refusal:
        checked_set(schema_set(file))
    assert refusal.value.message.isprintable()
    file = schema_file(messages=["A"])
    file.message_type[0].reserved_name.append(text)
    with pytest.raises(Invalid, match="cannot be shown"):
        checked_set(schema_set(file))


def test_a_name_that_no_compiler_has_seen_is_shown_so_that_it_does_no_harm():
    file = wide(limits.MAXIMUM_FIELDS + 1)
    file.message_type[0].name = "\x1b[2J\n"
    with pytest.raises(Invalid) as refusal:
        checked_set(schema_set(file))
    assert str(refusal.value).isprintable()


def nested(levels: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    message = file.message_type[0]
    for _ in range(levels - 1):
        message = message.nested_type.add(name="A")
    return file


def wide(fields: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    file.message_type[0].field.extend(text_field(f"f{number}", number) for number in range(2, fields + 1))
    return file


def with_messages(count: int) -> FileDescriptorProto:
    return schema_file(messages=[f"M{number}" for number in range(count)])


def with_fields(count: int) -> FileDescriptorProto:
    file = schema_file(messages=[])
    for index in range(count // 100):
        message = file.message_type.add(name=f"M{index}")
        message.field.extend(text_field(f"f{number}", number) for number in range(1, 101))
    return file


def with_enum_values(count: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    enum = file.message_type[0].enum_type.add(name="E")
    for number in range(count):
        enum.value.add(name=f"V{number}", number=number)
    return file


def with_enums(values: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    for index in range(values // 100):
        enum = file.enum_type.add(name=f"E{index}")
        for number in range(100):
            enum.value.add(name=f"V{index}_{number}", number=number)
    return file


def with_ranges(count: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    for number in range(count):
        file.message_type[0].reserved_range.add(start=number + 10, end=number + 11)
    return file


def with_enum_ranges(count: int) -> FileDescriptorProto:
    file = with_enum_values(1)
    file.message_type[0].enum_type[0].reserved_name.extend(f"R{number}" for number in range(count))
    return file


def with_extensions(count: int) -> FileDescriptorProto:
    file = schema_file(messages=["A"])
    for number in range(count):
        file.extension.add(name=f"e{number}", number=number + 50000, extendee=".google.protobuf.FileOptions")
    return file


def named(length: int) -> FileDescriptorProto:
    return schema_file(package="p", messages=["N" * (length - 2)])


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (nested, limits.MAXIMUM_NESTING),
        (wide, limits.MAXIMUM_FIELDS),
        (with_messages, limits.MAXIMUM_MESSAGES),
        (with_enum_values, limits.MAXIMUM_ENUM_VALUES),
        (with_enum_ranges, limits.MAXIMUM_RANGES),
        (with_ranges, limits.MAXIMUM_RANGES),
        (with_extensions, limits.MAXIMUM_FIELDS),
        (named, limits.MAXIMUM_NAME),
    ],
)
def test_what_is_at_a_limit_is_taken_and_what_is_beyond_is_refused_with_the_limit(make, most):
    checked_set(schema_set(make(most)))
    with pytest.raises(Invalid) as refusal:
        checked_set(schema_set(make(most + 1)))
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE
    assert refusal.value.metadata["maximum"] == str(most)
    assert refusal.value.metadata["found"] == str(most + 1)
    assert len(refusal.value.message) < 400


@pytest.mark.parametrize(
    ("make", "most"), [(with_fields, limits.MAXIMUM_ALL_FIELDS), (with_enums, limits.MAXIMUM_ALL_ENUM_VALUES)]
)
def test_all_files_together_have_limits_too(make, most):
    checked_set(schema_set(make(most)))
    with pytest.raises(Invalid) as refusal:
        checked_set(schema_set(make(most + 100)))
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE


def test_files_and_imports_are_counted():
    few = [schema_file(f"{number}.proto") for number in range(limits.MAXIMUM_FILES)]
    checked_set(FileDescriptorSet(file=few))
    with pytest.raises(Invalid, match="files of a registration"):
        checked_set(FileDescriptorSet(file=[*few, schema_file("one_more.proto")]))
    dense = [schema_file(f"{number}.proto", imports=[f"{n}.proto" for n in range(number)]) for number in range(300)]
    with pytest.raises(Invalid, match="imports of all files"):
        checked_set(FileDescriptorSet(file=dense))


@given(st.binary(max_size=300))
def test_any_bytes_that_parse_are_taken_or_refused(wire):
    with suppress(DecodeError, Invalid):
        checked_set(FileDescriptorSet(file=[FileDescriptorProto.FromString(wire)]))


def test_a_field_of_a_group_counts_as_one_and_its_message_as_another():
    file = schema_file(messages=["A"])
    file.message_type[0].nested_type.add(name="G")
    file.message_type[0].field.add(name="g", number=2, type=Field.TYPE_GROUP, type_name=".orders.v1.A.G")
    assert names(checked_set(schema_set(file))) == ["orders/v1/orders.proto"]
