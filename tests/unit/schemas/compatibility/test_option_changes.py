"""Options and comments: what is said beside the elements themselves."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FieldOptions, FileDescriptorProto

from certes_broker.schemas.compatibility import compare
from certes_broker.schemas.compatibility.option_records import records_of
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.compatibility.compiled_versions import MEETLY, version

VALIDATED = 'import "buf/validate/validate.proto"; '


def changes(before, after):
    found = compare(version(before), version(after), 1).changes
    return [(change.rule, change.element, change.before, change.after) for change in found]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (
            "message A {string a = 1;}",
            "message A {string a = 1 [(buf.validate.field) = {string {min_len: 2} required: true}];}",
            (
                "VALIDATION_ADDED",
                "meetly.v1.A.a",
                "",
                "(buf.validate.field) = { string { min_len: 2 } required: true }",
            ),
        ),
        (
            "message A {string a = 1;}",
            'message A {option (buf.validate.message).cel = "this.a"; string a = 1;}',
            ("VALIDATION_ADDED", "meetly.v1.A", "", '(buf.validate.message) = { cel: "this.a" }'),
        ),
        (
            "message A {oneof one {string a = 1;}}",
            "message A {oneof one {option (buf.validate.oneof).required = true; string a = 1;}}",
            ("VALIDATION_ADDED", "meetly.v1.A.one", "", "(buf.validate.oneof) = { required: true }"),
        ),
        (
            "message A {}",
            "message A {oneof one {option (buf.validate.oneof).required = true; string a = 1;}}",
            ("VALIDATION_ADDED", "meetly.v1.A.one", "", "(buf.validate.oneof) = { required: true }"),
        ),
        (
            "message A {string a = 1 [(buf.validate.field).required = true];}",
            "message A {string a = 1 [(buf.validate.field).required = false];}",
            (
                "VALIDATION_CHANGED",
                "meetly.v1.A.a",
                "(buf.validate.field) = { required: true }",
                "(buf.validate.field) = { required: false }",
            ),
        ),
    ],
)
def test_a_validation_is_known_by_its_number_wherever_it_stands(before, after, change):
    assert change in changes(VALIDATED + before, VALIDATED + after)


def test_a_validation_of_a_new_message_breaks_nobody():
    after = VALIDATED + "message A {} message B {string b = 1 [(buf.validate.field).required = true];}"
    assert [change[0] for change in changes(VALIDATED + "message A {}", after)] == ["MESSAGE_ADDED"]


def test_an_option_that_is_written_in_another_way_has_not_changed():
    text = VALIDATED + "message A {string a = 1 [%s];}"
    piecemeal = "(buf.validate.field).required = true, (buf.validate.field).string.max_len = 3"
    whole = "(buf.validate.field) = {string: {max_len: 3}, required: true}"
    assert changes(text % piecemeal, text % whole) == []


CUSTOM = """
syntax = "proto3";
package meetly.v1;
import "google/protobuf/descriptor.proto";
message Owner {string team = 1;}
extend google.protobuf.FieldOptions {Owner owner = 50001; repeated int32 levels = 50002;}
extend google.protobuf.EnumValueOptions {string label = 50001;}
message A {string a = 1%s;}
enum E {E_A = 0%s;}
"""


def test_an_option_of_ones_own_is_shown_as_it_is_declared():
    before = CUSTOM % ("", ' [(label) = "a"]')
    after = CUSTOM % (' [(owner) = {team: "x"}, (levels) = 1, (levels) = 2]', ' [(label) = "b"]')
    assert changes(before, after) == [
        ("OPTION_CHANGED", "meetly.v1.A.a", "", "(meetly.v1.levels) = [1, 2]"),
        ("OPTION_CHANGED", "meetly.v1.A.a", "", '(meetly.v1.owner) = { team: "x" }'),
        ("OPTION_CHANGED", "meetly.v1.E.E_A", '(meetly.v1.label) = "a"', '(meetly.v1.label) = "b"'),
    ]


def test_an_option_that_no_file_declares_is_judged_by_its_bytes():
    def with_option(wire):
        file = FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
        field = file.message_type.add(name="A").field.add(
            name="a", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL"
        )
        field.options.MergeFromString(wire)
        return VersionFiles(MEETLY, (file.SerializeToString(),), ())

    validation = b"\xba\x48\x02\x08\x01"  # field 1159, two bytes
    found = compare(with_option(b""), with_option(validation), 1).changes
    assert [(change.rule, change.after) for change in found] == [("VALIDATION_ADDED", "(1159) = …")]
    assert not compare(with_option(validation), with_option(validation[:-1] + b"\x02"), 1).is_compatible


def test_what_switches_validations_off_narrows_by_going():
    def with_option(wire):
        file = FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
        file.message_type.add(name="A").options.MergeFromString(wire)
        return VersionFiles(MEETLY, (file.SerializeToString(),), ())

    disabled = b"\xf8\x42\x01"  # (validate.disabled) = true, field 1071
    [change] = compare(with_option(disabled), with_option(b""), 1).changes
    assert (change.rule, change.breaking) == ("VALIDATION_CHANGED", True)


def test_an_option_as_long_as_its_file_is_not_shown_whole():
    text = 'syntax = "proto3"; package p; import "google/protobuf/descriptor.proto"; %s'
    declared = "extend google.protobuf.MessageOptions {string note = 50001;} message A {%s}"
    [change] = changes(text % declared % "", text % declared % f'option (note) = "{"a" * 100_000}";')
    assert change[3] == "(p.note) = …"
    [change] = changes(text % declared % "", text % declared % f'option (note) = "{"a" * 1_000}";')
    assert len(change[3]) < 400


def test_the_records_of_options_are_told_apart_by_number_alone():
    wire = b"\x10\x01" + b"\xba\x48\x01a" + b"\xc3\x48\x08\x01\xc4\x48" + b"\xcd\x48\x01\x02\x03\x04" + b"\xba\x48\x01b"
    options = FieldOptions.FromString(wire)
    assert records_of(options) == {
        2: b"\x10\x01",
        1159: b"\xba\x48\x01a\xba\x48\x01b",
        1160: b"\xc3\x48\x08\x01\xc4\x48",
        1161: b"\xcd\x48\x01\x02\x03\x04",
    }


COMMENTED = """
// %s
message A {
  // %s
  string a = 1;
  // %s
  oneof one {
    string b = 2;
  }
}
enum E {
  E_A = 0; // %s
}
"""


def test_comments_are_compared_at_every_element():
    before, after = COMMENTED % ("a", "b", "c", "d"), COMMENTED % ("A", "B", "C", "D")
    assert changes(before, after) == [
        ("COMMENT_CHANGED", "meetly.v1.A", "a", "A"),
        ("COMMENT_CHANGED", "meetly.v1.A.a", "b", "B"),
        ("COMMENT_CHANGED", "meetly.v1.A.one", "c", "C"),
        ("COMMENT_CHANGED", "meetly.v1.E.E_A", "d", "D"),
    ]


def test_comments_are_found_where_their_elements_have_moved_to():
    before = "// Who.\nmessage A {\n// What.\nstring a = 1;\n} message B {}"
    after = "message B {}\n// Who.\nmessage A {string b = 2;\n// What.\nstring a = 1;\n}"
    assert [change[0] for change in changes(before, after)] == ["FIELD_ADDED"]


def test_a_version_that_lost_its_sources_has_not_lost_its_comments():
    commented = version(COMMENTED % ("a", "b", "c", "d"))
    bare = []
    for wire in commented.files:
        file = FileDescriptorProto.FromString(wire)
        file.ClearField("source_code_info")
        bare.append(file.SerializeToString())
    without = VersionFiles(MEETLY, tuple(bare), ())
    assert compare(commented, without, 1).changes == ()
    # With its text, one that has no comments has none.
    uncommented = VersionFiles(MEETLY, tuple(bare), (), (("meetly/v1/invited.proto", "message A {…"),))
    assert {change.rule for change in compare(commented, uncommented, 1).changes} == {"COMMENT_CHANGED"}
