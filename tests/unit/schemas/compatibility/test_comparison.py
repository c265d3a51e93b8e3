from __future__ import annotations

from random import Random

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compatibility import compare
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.compatibility.compiled_versions import HEAD, MEETLY, compile_protos, version, version_of
from tests.unit.schemas.compatibility.random_edits import ALL, edited
from tests.unit.schemas.compatibility.random_schemas import random_schema, texts
from tests.unit.schemas.compatibility.repaired_schemas import repaired

INVITED = """
message Invited {
  option (certes.v1.event) = {options {name: "team" field: "team"}};
  string team = 1;
  string note = 2;
}
"""


def changes(before, after):
    """The changes as (rule, element, before, after)."""
    found = compare(version(before), version(after), 3).changes
    return [(change.rule, change.element, change.before, change.after) for change in found]


def test_a_version_that_is_new_has_event_types_and_nothing_that_could_break():
    comparison = compare(None, version(INVITED), 0)
    assert comparison.version == MEETLY
    assert comparison.registered_revision == 0
    assert comparison.is_compatible
    assert [(change.rule, change.element, change.after) for change in comparison.changes] == [
        ("EVENT_TYPE_ADDED", "events.meetly.com/_/1/invited", "message meetly.v1.Invited")
    ]


def test_a_version_that_is_registered_again_as_it_is_has_not_changed():
    comparison = compare(version(INVITED), version(INVITED), 3)
    assert comparison.registered_revision == 3
    assert comparison.changes == ()


def test_the_order_of_declarations_is_free():
    assert (
        changes(
            "message A {string a = 1; string b = 2; reserved 4, 5;} message B {} enum E {E_A = 0; E_B = 1; E_C = 2;}",
            "enum E {E_A = 0; E_C = 2; E_B = 1;} message B {} message A {reserved 4 to 5; string b = 2; string a = 1;}",
        )
        == []
    )


def test_breaking_changes_come_first_and_then_the_elements_in_order():
    before = "message B {string b = 1; string a = 2;} message A {}"
    after = "message B {int32 b = 1; int32 a = 2; bool c = 3;} message A {bool a = 1;}"
    assert [(rule, element) for rule, element, *_ in changes(before, after)] == [
        ("FIELD_TYPE_CHANGED", "meetly.v1.B.a"),
        ("FIELD_TYPE_CHANGED", "meetly.v1.B.b"),
        ("FIELD_ADDED", "meetly.v1.A.a"),
        ("FIELD_ADDED", "meetly.v1.B.c"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (
            "message A {int32 seats = 1;}",
            'message A {repeated string seats = 1 [json_name = "s"];}',
            (
                "FIELD_CARDINALITY_CHANGED",
                "meetly.v1.A.seats",
                "int32 seats = 1;",
                'repeated string seats = 1 [json_name = "s"];',
            ),
        ),
        (
            "message A {oneof one {string a = 1;}}",
            "message A {optional string a = 1;}",
            ("FIELD_ONEOF_CHANGED", "meetly.v1.A.a", "oneof one { string a = 1; }", "optional string a = 1;"),
        ),
        (
            "message A {map<string, B> bs = 1; message B {}}",
            "message A {map<int64, B> bs = 1; message B {}}",
            (
                "FIELD_TYPE_CHANGED",
                "meetly.v1.A.bs",
                "map<string, meetly.v1.A.B> bs = 1;",
                "map<int64, meetly.v1.A.B> bs = 1;",
            ),
        ),
        (
            "message A {reserved 2, 3, 7 to max;}",
            "message A {reserved 2, 10 to max;}",
            ("RESERVATION_REMOVED", "meetly.v1.A", "reserved 7 to 9;", ""),
        ),
        (
            INVITED,
            INVITED.replace('field: "team"', 'field: "note"'),
            (
                "SUBSCRIPTION_OPTION_RETARGETED",
                "events.meetly.com/_/1/invited",
                'options {name: "team" field: "team"}',
                'options {name: "team" field: "note"}',
            ),
        ),
        ("message A {} enum E {E_A = 0;}", "message A {}", ("ENUM_REMOVED", "meetly.v1.E", "enum E", "")),
        ("message A {}", "message A {} message B {}", ("MESSAGE_ADDED", "meetly.v1.B", "", "message B")),
        (
            "message A {string a = 1;}",
            "message A {string a = 1 [deprecated = true];}",
            ("DEPRECATION_CHANGED", "meetly.v1.A.a", "", "deprecated = true"),
        ),
    ],
)
def test_a_change_shows_both_sides_as_a_file_has_them(before, after, change):
    assert change in changes(before, after)


def test_the_description_says_what_to_do_instead():
    [change] = compare(version("message A {string a = 1;}"), version("message A {}"), 1).changes
    assert change.description == "A field is gone. Keep it, mark it `deprecated`, and go on filling it."


def test_what_is_within_a_message_that_came_or_went_is_said_by_that():
    inner = "message A {} message B {string b = 1; enum E {E_A = 0;} message C {message D {}}}"
    assert changes(inner, "message A {}") == [("MESSAGE_REMOVED", "meetly.v1.B", "message B", "")]
    assert changes("message A {}", inner) == [("MESSAGE_ADDED", "meetly.v1.B", "", "message B")]


def test_a_message_deep_within_another_is_compared_too():
    nested = "message A {message B {message C {message D {string d = 1;}}}}"
    assert changes(nested, nested.replace("string", "bytes"))[0][:2] == ("FIELD_TYPE_CHANGED", "meetly.v1.A.B.C.D.d")


def test_a_change_of_an_imported_file_is_found_where_it_is():
    files = {
        "meetly/v1/deep.proto": 'syntax = "proto3"; package meetly.deep; message Deep {int32 a = 1;}',
        "meetly/v1/common.proto": 'syntax = "proto3"; package meetly.v1; import "meetly/v1/deep.proto"; message Common {meetly.deep.Deep deep = 1;}',
        "meetly/v1/invited.proto": HEAD
        + 'import "meetly/v1/common.proto"; message Invited {option (certes.v1.event) = {}; Common common = 1;}',
    }
    after = {path: text.replace("int32 a", "sint32 a") for path, text in files.items()}
    assert [change[:2] for change in changes(files, after)] == [("FIELD_TYPE_CHANGED", "meetly.deep.Deep.a")]


def test_the_files_that_everybody_has_are_not_the_versions_to_change():
    before = version('import "google/protobuf/timestamp.proto"; message A {google.protobuf.Timestamp a = 1;}')
    files = [FileDescriptorProto.FromString(file) for file in before.files]
    for file in files:
        if file.name.startswith(("google/", "certes/")):
            file.message_type.add(name="FromALaterRelease")
    after = VersionFiles(MEETLY, tuple(file.SerializeToString() for file in files), before.event_types)
    assert compare(before, after, 1).changes == ()


def test_numbers_and_names_that_are_swapped_are_both_reported():
    before, after = "message A {string a = 1; int32 b = 2;}", "message A {string b = 1; int32 a = 2;}"
    assert [change[:2] for change in changes(before, after)] == [
        ("FIELD_NUMBER_CHANGED", "meetly.v1.A.a"),
        ("FIELD_TYPE_CHANGED", "meetly.v1.A.a"),
        ("FIELD_NUMBER_CHANGED", "meetly.v1.A.b"),
        ("FIELD_TYPE_CHANGED", "meetly.v1.A.b"),
    ]


def test_an_enum_and_a_message_of_one_name_are_two_types():
    before = "enum T {T_A = 0;} message A {T t = 1;}"
    assert ("FIELD_TYPE_CHANGED", "meetly.v1.A.t") in [
        change[:2] for change in changes(before, "message T {} message A {T t = 1;}")
    ]


def test_a_number_of_an_enum_can_be_used_neither_by_a_value_nor_by_an_alias_once_it_is_reserved():
    before = 'enum E {reserved 1; reserved "E_B"; E_A = 0;}'
    assert [change[:2] for change in changes(before, "enum E {E_A = 0; E_B = 1;}")] == [
        ("RESERVED_NAME_REUSED", "meetly.v1.E.E_B"),
        ("RESERVED_NUMBER_REUSED", "meetly.v1.E.E_B"),
    ]


def test_an_alias_that_comes_first_changes_what_json_is_written_with():
    before = "enum E {E_A = 0; E_B = 1;}"
    after = "enum E {option allow_alias = true; E_A = 0; E_C = 1; E_B = 1;}"
    assert ("ENUM_VALUE_NAME_CHANGED", "meetly.v1.E.E_B", "E_B = 1;", "E_C = 1;") in changes(before, after)


def test_two_syntaxes_that_mean_the_same_are_the_same():
    proto2 = 'syntax = "proto2"; package p; message A {optional int32 a = 1; repeated int32 b = 2; optional string c = 3; optional group G = 4 {}}'
    edition = """edition = "2023"; package p; option features = {
      enum_type: CLOSED repeated_field_encoding: EXPANDED utf8_validation: NONE json_format: LEGACY_BEST_EFFORT
    }; message A {int32 a = 1; repeated int32 b = 2; string c = 3; G g = 4 [features.message_encoding = DELIMITED]; message G {}}"""
    assert [change[0] for change in changes(proto2, edition)] == ["SYNTAX_CHANGED"]


def test_two_syntaxes_that_mean_something_else_differ_at_each_element():
    proto2 = 'syntax = "proto2"; package p; enum E {A = 0;} message M {optional int32 a = 1; repeated int32 b = 2; optional string c = 3;}'
    proto3 = (
        'syntax = "proto3"; package p; enum E {A = 0;} message M {int32 a = 1; repeated int32 b = 2; string c = 3;}'
    )
    assert {change[:2] for change in changes(proto2, proto3)} == {
        ("ENUM_OPENNESS_CHANGED", "p.E"),
        ("FIELD_PRESENCE_CHANGED", "p.M.a"),
        ("FIELD_PACKING_CHANGED", "p.M.b"),
        ("FIELD_PRESENCE_CHANGED", "p.M.c"),
        ("FIELD_UTF8_CHANGED", "p.M.c"),
        ("JSON_FORMAT_ALLOWED", "p.E"),
        ("JSON_FORMAT_ALLOWED", "p.M"),
        ("SYNTAX_CHANGED", "meetly/v1/invited.proto"),
    }


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ("", "[default = 0]", False),
        ("[default = 0]", "[default = 1]", True),
        ("", "[default = 1]", True),
        ("[default = 1]", "", True),
        ("[default = 0x10]", "[default = 16]", False),
        ("", '[default = ""]', False),
        ("", '[default = "0"]', True),
    ],
)
def test_a_default_that_says_what_holds_anyway_is_none(before, after, differs):
    kind = "string" if '"' in after else "int32"
    text = f'syntax = "proto2"; package p; message A {{{{optional {kind} a = 1 {{}};}}}}'
    assert bool(changes(text.format(before), text.format(after))) is differs


def test_an_enum_field_has_the_first_value_for_its_default():
    text = 'syntax = "proto2"; package p; enum E {{A = 1; B = 2;}} message M {{optional E e = 1 {};}}'
    assert changes(text.format(""), text.format("[default = A]")) == []
    assert changes(text.format(""), text.format("[default = B]"))[0][:2] == ("FIELD_DEFAULT_CHANGED", "p.M.e")


def test_a_compiler_that_does_not_write_down_the_usual_json_names_changes_none():
    compiled = version('message A {string first_name = 1; string x = 2 [json_name = "y"];}')
    files = [FileDescriptorProto.FromString(file) for file in compiled.files]
    for field in files[-1].message_type[0].field:
        if field.json_name == "firstName":
            field.ClearField("json_name")
    bare = VersionFiles(MEETLY, tuple(file.SerializeToString() for file in files), ())
    assert compare(compiled, bare, 1).changes == compare(bare, compiled, 1).changes == ()


def test_what_is_found_does_not_depend_on_chance():
    for seed in range(40):
        rng = Random(f"twice/{seed}")
        before = repaired(random_schema(rng, "p"))
        after = edited(rng, before, ALL, 4)
        old, new = (version_of(compile_protos(texts(schema))) for schema in (before, after))
        assert compare(old, new, 1) == compare(old, new, 1)
        assert compare(old, old, 1).changes == ()
        # What is added in one direction is removed in the other.
        there, back = (
            {(change.rule, change.element) for change in compare(*pair, 1).changes} for pair in ((old, new), (new, old))
        )
        for kind in ("MESSAGE", "ENUM", "SERVICE", "METHOD", "EXTENSION"):
            added = {element for rule, element in there if rule == f"{kind}_ADDED"}
            assert added == {element for rule, element in back if rule == f"{kind}_REMOVED"}


def test_messages_that_nest_as_deep_as_protobuf_reads_are_compared():
    def nested(field):
        file = FileDescriptorProto(name="a.proto", package="a", syntax="proto3")
        message = file.message_type.add(name="M")
        for _ in range(90):
            message = message.nested_type.add(name="M")
        message.field.add(name=field, number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
        return VersionFiles(VersionName("x.com", "_", 1), (file.SerializeToString(),), ())

    [change] = compare(nested("a"), nested("b"), 1).changes
    assert (change.rule, change.element.count(".M")) == ("FIELD_NAME_CHANGED", 91)


SCALARS = [
    *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
    *("fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes"),
]


@pytest.mark.parametrize("shift", range(1, len(SCALARS)))
def test_no_scalar_type_can_take_the_place_of_another(shift):
    def fields(kinds):
        lines = [f"{kind} f{number} = {number};" for number, kind in enumerate(kinds, 1)]
        return f"message Invited {{ option (certes.v1.event) = {{}}; {' '.join(lines)} }}"

    found = compare(version(fields(SCALARS)), version(fields(SCALARS[shift:] + SCALARS[:shift])), 1)
    assert {(change.rule, change.breaking) for change in found.changes} == {("FIELD_TYPE_CHANGED", True)}
    assert len(found.changes) == len(SCALARS)
