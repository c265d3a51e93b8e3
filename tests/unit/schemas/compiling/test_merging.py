from __future__ import annotations

from collections.abc import Mapping

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.merging import merged_files, merged_version
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.compiling.schema_sets import OPTIONS, schema_file, schema_set, text_field

OWN = "events.orders.example"


def version(*files: FileDescriptorProto, sources: Mapping[str, str] | None = None) -> VersionFiles:
    (bound,) = bind(schema_set(*files), OWN, sources)
    return bound


def merged(registered: VersionFiles, new: VersionFiles) -> VersionFiles:
    return merged_version(registered, new, merged_files(registered, new))


def own_paths(files: VersionFiles) -> list[str]:
    names = [FileDescriptorProto.FromString(file).name for file in files.files]
    return [name for name in names if name not in shared_files()]


def event_file(path: str, *events: str, imports: list[str] | None = None) -> FileDescriptorProto:
    return schema_file(path, "orders.v1", events={event: {} for event in events}, imports=imports or [])


def test_a_file_that_is_given_takes_the_place_of_the_one_with_its_path_and_the_others_stay():
    registered = version(event_file("a.proto", "Paid"), event_file("b.proto", "Sent"))
    changed = event_file("a.proto", "Paid", "PaidBack")
    found = merged(registered, version(changed))
    assert found.event_types == (
        ("paid", "orders.v1.Paid"),
        ("paid_back", "orders.v1.PaidBack"),
        ("sent", "orders.v1.Sent"),
    )
    assert own_paths(found) == ["a.proto", "b.proto"]


def test_the_same_again_is_the_same():
    registered = version(event_file("a.proto", "Paid"), event_file("b.proto", "Sent"), sources={"a.proto": "a"})
    assert merged(registered, registered) == registered
    assert merged(registered, version(event_file("b.proto", "Sent"))) == registered


def test_a_part_of_the_version_is_replaced_for_all_who_import_it():
    registered = version(
        event_file("a.proto", "Paid", imports=["part.proto"]),
        event_file("b.proto", "Sent", imports=["part.proto"]),
        schema_file("part.proto", "orders.v1", messages=["Part"]),
    )
    part = schema_file("part.proto", "orders.v1", messages=["Part", "More"])
    found = merged(registered, version(event_file("b.proto", "Sent", imports=["part.proto"]), part))
    assert own_paths(found) == ["part.proto", "a.proto", "b.proto"]
    kept = [FileDescriptorProto.FromString(file) for file in found.files]
    assert [len(file.message_type) for file in kept if file.name == "part.proto"] == [2]


def test_what_no_event_type_needs_any_more_goes():
    part = schema_file("part.proto", "orders.v1", messages=["Part"])
    registered = version(event_file("a.proto", "Paid", imports=["part.proto"]), part, sources={"part.proto": "p"})
    found = merged(registered, version(event_file("a.proto", "Paid")))
    assert own_paths(found) == ["a.proto"]
    assert found.sources == ()


def test_a_file_that_was_moved_goes_from_its_old_path():
    registered = version(event_file("old.proto", "Paid"), event_file("b.proto", "Sent"))
    found = merged(registered, version(event_file("new.proto", "Paid")))
    assert own_paths(found) == ["b.proto", "new.proto"]


def test_two_files_can_become_one():
    registered = version(event_file("a.proto", "Paid"), event_file("b.proto", "Sent"))
    assert own_paths(merged(registered, version(event_file("c.proto", "Paid", "Sent")))) == ["c.proto"]


def test_a_part_of_a_file_cannot_be_moved_alone():
    registered = version(event_file("a.proto", "Paid", "Sent"))
    with pytest.raises(Invalid) as refusal:
        merged(registered, version(event_file("b.proto", "Paid")))
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert "'b.proto'" in refusal.value.message
    assert "orders.v1.Paid is in 'a.proto' already, which also has orders.v1.Sent" in refusal.value.message
    assert "Register 'a.proto' again too" in refusal.value.hint


def test_a_file_that_was_moved_cannot_be_imported_from_where_it_was():
    part = schema_file("part.proto", "orders.v1", messages=["Part"])
    registered = version(event_file("a.proto", "Paid", imports=["part.proto"]), part)
    moved = schema_file("moved.proto", "orders.v1", messages=["Part"])
    new = version(event_file("b.proto", "Sent", imports=["moved.proto"]), moved)
    with pytest.raises(Invalid, match=r"'part\.proto', which 'a\.proto' imports, is missing") as refusal:
        merged(registered, new)
    assert "Register the file that imports it again" in refusal.value.hint


def test_one_event_type_cannot_be_two_messages():
    registered = version(event_file("a.proto", "Paid"))
    new = version(schema_file("b.proto", "other.v1", events={"Other": {"name": "paid"}}))
    with pytest.raises(Invalid) as refusal:
        merged(registered, new)
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert "'a.proto'" in refusal.value.message
    assert "'b.proto'" in refusal.value.message


def test_files_that_come_to_import_each_other_are_refused():
    a, b = event_file("a.proto", "Paid", imports=["b.proto"]), event_file("b.proto", "Sent")
    registered = version(a, b)
    turned = version(event_file("b.proto", "Sent", imports=["c.proto"]), event_file("c.proto", "Lost"))
    merged(registered, turned)
    closing = version(event_file("b.proto", "Sent", imports=["d.proto"]), event_file("d.proto", "Found"))
    back = event_file("d.proto", "Found", imports=["a.proto"])
    files = tuple(
        back.SerializeToString() if FileDescriptorProto.FromString(file).name == "d.proto" else file
        for file in closing.files
    )
    with pytest.raises(Invalid, match="circle"):
        merged(registered, VersionFiles(closing.name, files, closing.event_types))


def test_what_is_shared_is_taken_as_it_is_now():
    registered = version(event_file("a.proto", "Paid"))
    stale = FileDescriptorProto.FromString(shared_files()[OPTIONS])
    stale.message_type.add(name="Stale")
    files = tuple(
        stale.SerializeToString() if FileDescriptorProto.FromString(file).name == OPTIONS else file
        for file in registered.files
    )
    old = VersionFiles(registered.name, files, registered.event_types)
    found = merged(old, version(event_file("b.proto", "Sent")))
    assert shared_files()[OPTIONS] in found.files


def test_sources_are_those_of_the_files_that_stand():
    registered = version(
        event_file("a.proto", "Paid"), event_file("b.proto", "Sent"), sources={"a.proto": "a", "b.proto": "b"}
    )
    found = merged(registered, version(event_file("b.proto", "Sent"), event_file("c.proto", "Lost")))
    assert found.sources == (("a.proto", "a"),), "b was replaced by a descriptor, whose text nobody knows"
    found = merged(registered, version(event_file("b.proto", "Sent"), sources={"b.proto": "new"}))
    assert found.sources == (("a.proto", "a"), ("b.proto", "new"))


def test_limits_hold_for_the_whole():
    half = [f"E{number}" for number in range(limits.MAXIMUM_EVENT_TYPES // 2 + 1)]
    others = [f"F{number}" for number in range(limits.MAXIMUM_EVENT_TYPES // 2 + 1)]
    with pytest.raises(Invalid, match="event types of") as refusal:
        merged(version(event_file("a.proto", *half)), version(event_file("b.proto", *others)))
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE

    def large(path: str, event: str) -> VersionFiles:
        file = event_file(path, event)
        file.source_code_info.location.add(path=[4, 0], span=[0, 0, 1], leading_comments="x" * 1_200_000)
        return version(file)

    with pytest.raises(Invalid, match="bytes of the descriptors"):
        merged(large("a.proto", "Paid"), large("b.proto", "Sent"))

    def wide(path: str, package: str) -> VersionFiles:
        file = schema_file(path, package, events={"Paid": {}} if path == "a.proto" else {"Sent": {}})
        for index in range(160):
            message = file.message_type.add(name=f"M{index}")
            message.field.extend(text_field(f"f{number}", number) for number in range(1, 101))
        return version(file)

    with pytest.raises(Invalid, match="fields of a registration"):
        merged(wide("a.proto", "a.v1"), wide("b.proto", "b.v1"))
