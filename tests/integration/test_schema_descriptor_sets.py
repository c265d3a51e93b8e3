"""Descriptor sets through the real compiler: whoever made them, they are judged as sources are before anything links them."""

from __future__ import annotations

import asyncio
import copy
from typing import NamedTuple

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Origin
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.children import Children
from certes_broker.schemas.compiling.compiler import SchemaCompiler
from certes_broker.schemas.compiling.limits import MAXIMUM_DESCRIPTOR_BYTES
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

OWN = "events.orders.example"
RICH = """\
edition = "2023";
package orders.v1;
import "certes/v1/options.proto";
import "google/protobuf/timestamp.proto";
option (certes.v1.schema) = {namespace: "shop"};
message Paid {
  option (certes.v1.event) = {options {name: "by" field: "by"} options {name: "kind" field: "part.kind"}};
  string by = 1 [features.field_presence = IMPLICIT, json_name = "paidBy"];
  repeated int32 amounts = 2 [features.repeated_field_encoding = EXPANDED];
  map<int32, Part> parts = 3;
  Part part = 4 [features.message_encoding = DELIMITED];
  oneof how { string card = 5; google.protobuf.Timestamp later = 6; }
  bytes raw = 7 [default = "\\377"];
  double share = 8 [default = inf];
  message Part {
    enum Kind { option features.enum_type = CLOSED; NONE = 0; SOME = 1; reserved 5 to 9; }
    Kind kind = 1;
    Paid whole = 2;
    reserved 10, 20 to 30;
    reserved old;
    extensions 100 to 199;
  }
}
extend Paid.Part { repeated string more = 100; }
service Orders { rpc Pay(Paid) returns (stream Paid.Part); }
"""


@pytest.fixture(scope="module")
def rich_wire() -> bytes:
    """What the compiler makes of it, serialized."""

    async def compiled() -> FileDescriptorSet:
        return await SchemaCompiler().compile_sources({"orders.proto": RICH})

    return asyncio.run(compiled()).SerializeToString()


@pytest.fixture
def rich(rich_wire) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(rich_wire)


def use(version: VersionFiles) -> None:
    """Does what a broker does with a version."""
    served = SchemaVersion(version, revision=1, origin=Origin.REGISTERED)
    for event_type in served.event_types:
        schema = served.schema(event_type.name)
        assert schema is not None
        for wire in (b"", b"\x0a\x01a\x10\x01\x1a\x04\x08\x01\x12\x00", b"\x22\x02\x08\x01", b"\x3a\x01\xff\x1a\x00"):
            message = schema.new()
            try:
                message.MergeFromString(wire)
            except DecodeError:
                continue
            schema.options_of(message)
            schema.to_json(message)


async def test_what_the_compiler_wrote_is_taken_as_it_is(rich):
    assert await SchemaCompiler().read_descriptor_set(rich.SerializeToString()) == rich


async def test_a_set_in_any_order_and_without_the_shared_files_is_completed(rich):
    own = [file for file in rich.file if file.name not in shared_files()]
    assert await SchemaCompiler().read_descriptor_set(FileDescriptorSet(file=own[::-1]).SerializeToString()) == rich


@pytest.mark.parametrize(("wire", "said"), [(b"\x0a\x00" * 500_000, "files of"), (b"\x0a\x02\x22", "do not decode")])
async def test_a_set_that_no_compiler_would_write_is_refused_before_anything_is_done(wire, said):
    with pytest.raises(Invalid, match=said):
        await SchemaCompiler().read_descriptor_set(wire)


async def test_a_set_that_is_too_large_is_refused_before_anything_is_done(rich):
    rich.file[-1].source_code_info.location.add(leading_comments="x" * MAXIMUM_DESCRIPTOR_BYTES)
    with pytest.raises(Invalid, match="bytes of the descriptor set") as refusal:
        await SchemaCompiler().read_descriptor_set(rich.SerializeToString())
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE


def map_entry_with_a_key_elsewhere(file: FileDescriptorProto) -> None:
    file.message_type[0].nested_type[0].field[0].number = 100


def number_of_the_range_that_is_kept(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 19_500


def negative_number(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = -1


def number_twice(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 2


def reserved_number(file: FileDescriptorProto) -> None:
    file.message_type[0].reserved_range.add(start=1, end=2)


def unknown_type(file: FileDescriptorProto) -> None:
    file.message_type[0].field[3].type_name = ".orders.v1.Nothing"


def type_that_is_a_service(file: FileDescriptorProto) -> None:
    file.message_type[0].field[3].type_name = ".orders.v1.Orders"


def type_of_no_kind(file: FileDescriptorProto) -> None:
    file.message_type[0].field[3].type = Field.TYPE_ENUM


def oneof_that_is_not_there(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].oneof_index = 7


def oneof_without_fields(file: FileDescriptorProto) -> None:
    file.message_type[0].oneof_decl.add(name="empty")


def default_that_is_none(file: FileDescriptorProto) -> None:
    file.message_type[0].field[-1].default_value = "a lot"


def name_with_a_nul(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].name = "a\0b"


def name_with_a_dot(file: FileDescriptorProto) -> None:
    file.message_type[0].name = "a.b"


def package_of_dots(file: FileDescriptorProto) -> None:
    file.package = "..."


def syntax_of_the_future(file: FileDescriptorProto) -> None:
    file.syntax = "proto9"


def range_that_ends_before_it_begins(file: FileDescriptorProto) -> None:
    file.message_type[0].extension_range.add(start=500, end=400)


def range_of_everything(file: FileDescriptorProto) -> None:
    file.message_type[0].extension_range.add(start=1, end=2**29)


def message_set_with_fields(file: FileDescriptorProto) -> None:
    file.message_type[0].options.message_set_wire_format = True


def public_import_that_is_not_there(file: FileDescriptorProto) -> None:
    file.public_dependency.append(9)


def option_that_nobody_has_read(file: FileDescriptorProto) -> None:
    option = file.message_type[0].options.uninterpreted_option.add(identifier_value="x")
    option.name.add(name_part="nothing", is_extension=True)


def enum_without_values(file: FileDescriptorProto) -> None:
    file.enum_type.add(name="Empty")


def name_twice(file: FileDescriptorProto) -> None:
    file.message_type.add(name="Paid")


@pytest.mark.parametrize(
    "disturb",
    [
        map_entry_with_a_key_elsewhere,
        number_of_the_range_that_is_kept,
        negative_number,
        number_twice,
        reserved_number,
        unknown_type,
        type_that_is_a_service,
        type_of_no_kind,
        oneof_that_is_not_there,
        oneof_without_fields,
        default_that_is_none,
        name_with_a_nul,
        name_with_a_dot,
        package_of_dots,
        syntax_of_the_future,
        range_that_ends_before_it_begins,
        range_of_everything,
        message_set_with_fields,
        public_import_that_is_not_there,
        option_that_nobody_has_read,
        enum_without_values,
        name_twice,
    ],
    ids=lambda disturb: disturb.__name__.replace("_", " "),
)
async def test_a_set_that_no_compiler_would_write_is_refused(disturb, rich):
    disturb(rich.file[-1])
    with pytest.raises(Invalid) as refusal:
        await SchemaCompiler().read_descriptor_set(rich.SerializeToString())
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert str(refusal.value).isprintable()


NASTY: dict[int, list[object]] = {
    FieldDescriptor.CPPTYPE_STRING: ["", ".", "a.b", "Paid", ".orders.v1.Paid", "a\0", "é", "x" * 2000, "-1", "nan", "proto3"],
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
    FieldDescriptor.CPPTYPE_DOUBLE: [float("nan"), -1e300],
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 100, 19_000, 2**29, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [0, -1, 2**63 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 2**64 - 1],
}  # fmt: skip


def parts(message: Message) -> list[Message]:
    """A message and all within it, but for extensions."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None and not field.is_extension:
            found += [part for inner in (value if field.is_repeated else [value]) for part in parts(inner)]
    return found


class Disturbance(NamedTuple):
    """Takes out, repeats, exchanges or spoils one field of one element; each number chooses among what there is."""

    element: int
    field: int
    value: int
    clears: bool

    def work_on(self, file: FileDescriptorProto) -> None:
        elements = parts(file)
        element = elements[self.element % len(elements)]
        field = element.DESCRIPTOR.fields[self.field % len(element.DESCRIPTOR.fields)]
        if self.clears:
            element.ClearField(field.name)
        elif field.message_type is not None:
            wanted = field.message_type.full_name
            like = [GetMessageClass(field.message_type)()]
            like += [copy.deepcopy(other) for other in elements if other.DESCRIPTOR.full_name == wanted]
            other = like[self.value % len(like)]
            if field.is_repeated:
                getattr(element, field.name).append(other)
            else:
                getattr(element, field.name).MergeFrom(other)
        else:
            values = NASTY.get(field.cpp_type, [b"\xff"])
            if field.enum_type is not None:
                values = [value.number for value in field.enum_type.values]
            value = values[self.value % len(values)]
            if field.is_repeated:
                getattr(element, field.name).append(value)
            else:
                setattr(element, field.name, value)


CHOICE = st.integers(0, 1000)
DISTURBANCES = st.lists(st.builds(Disturbance, CHOICE, CHOICE, CHOICE, st.booleans()), min_size=1, max_size=4)


@settings(max_examples=80)
@given(disturbances=DISTURBANCES)
async def test_whatever_is_wrong_with_a_set_it_is_refused_or_can_be_used(disturbances, rich_wire):
    files = FileDescriptorSet.FromString(rich_wire)
    files.file[-1].ClearField("source_code_info")
    for disturbance in disturbances:
        disturbance.work_on(files.file[-1])
    if not files.IsInitialized():
        return
    try:
        versions = bind(await SchemaCompiler().read_descriptor_set(files.SerializeToString()), OWN)
    except Invalid as refusal:
        assert refusal.reason in {Reason.SCHEMA_MALFORMED, Reason.SCHEMA_TOO_LARGE}  # noqa: PT017 (either may be)
        assert str(refusal).isprintable()  # noqa: PT017 (whichever it is)
    else:
        for version in versions:
            use(version)


async def version_of(**files: str) -> VersionFiles:
    sources = {f"{name}.proto": text for name, text in files.items()}
    (version,) = bind(await SchemaCompiler().compile_sources(sources), OWN, sources)
    return version


HEAD = 'syntax = "proto3"; package orders.v1; import "certes/v1/options.proto"; '


async def test_new_files_join_what_is_registered():
    part = 'syntax = "proto3"; package orders.v1; message Part { string id = 1; }'
    paid = HEAD + 'import "part.proto"; message Paid { option (certes.v1.event) = {}; Part part = 1; }'
    registered = await version_of(paid=paid, part=part)
    new = await version_of(sent=HEAD + "message Sent { option (certes.v1.event) = {}; }")
    merged = await SchemaCompiler().merge(registered, new)
    assert [name for name, _ in merged.event_types] == ["paid", "sent"]
    assert [path for path, _ in merged.sources] == ["paid.proto", "part.proto", "sent.proto"]
    use(merged)
    assert await SchemaCompiler().merge(None, new) == new
    assert await SchemaCompiler().merge(merged, new) == merged


async def test_what_changes_nothing_needs_no_compiler():
    new = await version_of(sent=HEAD + "message Sent { option (certes.v1.event) = {}; }")
    nobody = SchemaCompiler(Children(python="/there/is/no/such/python"))
    assert await nobody.merge(new, new) == new


async def test_what_is_registered_and_no_longer_fits_is_named():
    part = 'syntax = "proto3"; package orders.v1; message Part {} message %s {}'
    paid = HEAD + 'import "part.proto"; message Paid { option (certes.v1.event) = {}; More more = 1; }'
    registered = await version_of(paid=paid, part=part % "More")
    sent = HEAD + 'import "part.proto"; message Sent { option (certes.v1.event) = {}; Part part = 1; }'
    new = await version_of(sent=sent, part=part % "Less")
    with pytest.raises(Invalid) as refusal:
        await SchemaCompiler().merge(registered, new)
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert f"what is registered of {OWN}/_/1 does not fit the new files" in refusal.value.message
    assert refusal.value.violations[0].field == "paid.proto"
    assert "More" in refusal.value.violations[0].description


async def test_a_definition_that_comes_into_two_files_is_refused():
    registered = await version_of(
        paid=HEAD + 'import "part.proto"; message Paid { option (certes.v1.event) = {}; Part part = 1; }',
        part='syntax = "proto3"; package orders.v1; message Part { message Inner {} }',
    )
    new = await version_of(sent=HEAD + "message Sent { option (certes.v1.event) = {}; Part part = 1; } message Part {}")
    with pytest.raises(Invalid, match=r"'part\.proto', which 'paid\.proto' imports, is missing"):
        await SchemaCompiler().merge(registered, new)
