"""JSON documents become the same messages as `json_format` makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.json_table import JsonTables
from certes_broker.schemas.json_values import NotPlain
from tests.unit.schemas.every_kind import every_kind
from tests.unit.schemas.json_documents import documents

DESCRIPTOR = every_kind()
TABLE = JsonTables().table(DESCRIPTOR)
NEW = GetMessageClass(DESCRIPTOR)
REFUSED = "refused"


def by_table(document: dict[str, Any]) -> bytes | str:
    try:
        return TABLE.message(document).SerializeToString(deterministic=True)
    except Invalid as refusal:
        return refusal.message if "must be an object, not" in refusal.message else REFUSED


def by_json_format(document: dict[str, Any]) -> bytes | str:
    pool = DESCRIPTOR.file.pool
    try:
        message = json_format.ParseDict(document, NEW(), ignore_unknown_fields=True, descriptor_pool=pool)
    except Exception:  # noqa: BLE001 — json_format lets Python's own errors through
        return REFUSED
    return message.SerializeToString(deterministic=True)


def read(document: object) -> Message:
    return TABLE.message(document)


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"one_every_kind": document}
    return document


@given(documents())
@example({"one_string": "a", "oneString": "b"})
@example({"one_string": "a", "oneString": None})
@example({"oneString": None, "one_string": "a"})
@example({"choice_string": "a", "choice_int64": 1})
@example({"choice_string": "a", "choice_int64": None})
@example({"choice_string": "a", "choice_null_value": None})
@example({"choice_value": None})
@example({"by_int32": {"1": "a", "01": "b"}})
@example({"by_string_struct": {"a": {"b": 1}}})
@example({"one_struct": {"fields": {"a": 1}}})
@example({"many_value": [None, 1, "a", [None], {"b": None}]})
@example({"one_double": float("nan")})
@example({"one_float": 1e39})
@example({"one_int32": True})
@example({"one_bool": 1})
@example({"one_string": "\ud800"})
@example({"one_int64": "9" * 5000})
def test_every_document_has_the_outcome_it_has_with_json_format(document):
    outcome = by_table(document)
    if isinstance(outcome, str) and "must be an object, not" in outcome:
        return  # the one difference that is meant; a test below holds it
    assert outcome == by_json_format(document)


@given(documents(usual_only=True))
def test_what_json_format_writes_is_read_as_it_reads_it(document):
    try:
        written = json_format.MessageToDict(read(document), descriptor_pool=DESCRIPTOR.file.pool)
    except (Invalid, json_format.Error, TypeError):
        return  # not every usual value is a right one, and not every message can be written
    assert by_table(written) == by_json_format(written)


@pytest.mark.parametrize(
    "document",
    [
        {"one_string": "a", "one_int64": "5", "one_uint32": 7, "one_bool": True, "one_double": 2},
        {"many_string": ["a", "b"], "many_int32": [1, "2", 3.0], "many_color": ["RED", 2]},
        {
            "by_string_string": {"a": "b"},
            "by_int32": {"5": "c"},
            "by_bool": {"true": "d"},
            "by_string_color": {"a": "RED"},
        },
        {"one_timestamp": "2020-02-03T04:05:06Z", "one_duration": "1.5s", "one_field_mask": "a.b"},
        {"one_struct": {"a": [1, {"b": None}]}, "one_value": [1, "a"], "one_list_value": [True]},
        {"one_int64_value": "5", "one_bool_value": False, "many_string_value": ["a", ""]},
        {
            "one_every_kind": {"many_every_kind": [{"one_bytes": "aGk="}]},
            "by_string_every_kind": {"a": {"one_string": "b"}},
        },
        {"one_string": None, "one_value": None, "one_null_value": None, "+1": "a", "unknown": {"a": 1}},
    ],
)
def test_usual_documents_never_need_json_format(document):
    NEW(**TABLE.clean(document, 0))


def test_messages_nest_as_deeply_as_protobuf_can_read_them_and_no_deeper():
    deepest = read(nested(99))
    assert NEW.FromString(deepest.SerializeToString()) == deepest
    with pytest.raises(Invalid, match="too deeply"):
        read(nested(100))


@pytest.mark.parametrize("levels", [60, 5000])
def test_free_form_values_count_towards_the_depth(levels):
    value: Any = "leaf"
    for _ in range(levels):
        value = [value]
    with pytest.raises(Invalid) as refusal:
        read({"one_value": value})
    assert refusal.value.reason is Reason.DATA_MALFORMED


@pytest.mark.parametrize("document", [None, "abc", [], 5])
def test_a_document_must_be_an_object(document):
    with pytest.raises(Invalid, match="the document must be an object"):
        read(document)


@pytest.mark.parametrize("value", ["abc", [], 5, True])
def test_a_message_is_never_read_from_anything_but_an_object(value):
    with pytest.raises(Invalid, match=r"one_every_kind\.many_every_kind\[1\] must be an object"):
        read({"one_every_kind": {"many_every_kind": [{}, value]}})


def test_a_refusal_names_the_field_and_the_message_type():
    with pytest.raises(Invalid, match="one_int32") as refusal:
        read({"one_int32": 2**31})
    assert refusal.value.reason is Reason.DATA_MALFORMED
    assert refusal.value.metadata["message"] == "every.EveryKind"


def test_unknown_keys_are_found_wherever_messages_are():
    document = {
        "a": 1,
        "one_every_kind": {"b": 1, "many_every_kind": [{}, {"c": 1}]},
        "by_string_every_kind": {"x": {"d": 1}},
        "one_struct": {"free": 1},
        "one_value": {"free": 1},
        "oneTimestamp": "2020-02-03T04:05:06Z",
    }
    assert [(path, key.path, key.message) for path, key in TABLE.unknown_keys(document)] == [
        ("a", "a", "every.EveryKind"),
        ("one_every_kind.b", "one_every_kind.b", "every.EveryKind"),
        ("one_every_kind.many_every_kind[1].c", "one_every_kind.many_every_kind.c", "every.EveryKind"),
        ("by_string_every_kind[x].d", "by_string_every_kind.d", "every.EveryKind"),
    ]


def test_messages_are_of_the_pool_that_their_descriptor_is_of():
    other = every_kind()
    message = JsonTables().table(other).message({"one_timestamp": "2020-02-03T04:05:06Z", "one_struct": {"a": 1}})
    assert message.DESCRIPTOR is other
    assert message.DESCRIPTOR is not DESCRIPTOR


@given(st.text())
def test_a_lone_surrogate_is_refused_and_every_other_text_kept(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(Invalid):
            read({"one_string": text})
    else:
        assert read({"one_string": text}).one_string == text  # type: ignore[attr-defined] # a field made at run time


def test_what_is_not_plain_never_leaves_the_table():
    document = {"one_string": "a", "oneString": "b"}
    with pytest.raises(NotPlain):
        TABLE.clean(document, 0)
    assert read(document) == NEW(one_string="b")


@pytest.mark.parametrize(
    ("document", "path", "problem"),
    [
        ({"one_int32": 2**31}, "one_int32", "must be an integer of 32 bits, not 2147483648"),
        ({"one_uint64": "-1"}, "one_uint64", 'must be an integer of 64 bits that is not negative, not the string "-1"'),
        ({"one_bool": "true"}, "one_bool", 'must be true or false, not the string "true"'),
        ({"one_string": 7}, "one_string", "must be a string, not 7"),
        ({"one_string": {}}, "one_string", "must be a string, not an object"),
        ({"many_int64": [1, "2", 3.5, 4]}, "many_int64[2]", "must be an integer of 64 bits, not 3.5"),
        ({"many_string": ["a", None]}, "many_string[1]", "must be a string, not null"),
        ({"many_string": "a"}, "many_string", "must be an array, not a string"),
        ({"by_string_string": {"a": "b", "c": 1}}, "by_string_string[c]", "must be a string, not 1"),
        ({"by_int32": {"x": "a"}}, "by_int32[x]", "must have a key that is an integer of 32 bits"),
        ({"one_timestamp": "today"}, "one_timestamp", 'must be a time such as "2020-02-03T04:05:06Z", not the string'),
        ({"one_any": {"@type": "x/y"}}, "one_any", "must be an object with an '@type' that is known here"),
        ({"one_color": []}, "one_color", "must be a value of every.Color, not an array"),
        (
            {"one_every_kind": {"many_every_kind": [{}, {"by_string_every_kind": {"a": {"one_double": []}}}]}},
            "one_every_kind.many_every_kind[1].by_string_every_kind[a].one_double",
            "must be a number, not an array",
        ),
        (
            {"choice_string": "a", "choice_int64": 1},
            "choice_int64",
            "must not be there beside another field of the same oneof",
        ),
        ({"[every.more]": 1}, "[every.more]", "is no extension that the message takes"),
    ],
)
def test_a_refusal_names_the_path_of_what_is_wrong_and_what_belongs_there(document, path, problem):
    with pytest.raises(Invalid) as refusal:
        read(document)
    [violation] = refusal.value.violations
    assert violation.field == path
    assert violation.description.startswith(problem)
    assert refusal.value.metadata["field"] == path


def test_a_value_of_an_enum_that_is_newer_than_the_schema_is_left_out():
    message = read(
        {"one_color": "MAUVE", "many_color": ["RED", "MAUVE"], "by_string_color": {"a": "MAUVE", "b": "RED"}}
    )
    assert message == NEW(many_color=[1], by_string_color={"b": 1})


def test_an_any_is_read_by_the_types_of_its_own_pool():
    document = {"one_any": {"@type": "x/every.EveryKind", "one_any": {"@type": "every.EveryKind", "one_string": "a"}}}
    outer = read(document).one_any  # type: ignore[attr-defined] # a field made at run time
    assert outer.type_url == "x/every.EveryKind"
    inner = NEW.FromString(outer.value).one_any
    assert NEW.FromString(inner.value) == NEW(one_string="a")


def test_objects_of_any_number_of_shapes_are_read_alike():
    for number in range(300):
        document = {"one_string": "a", f"unknown{number}": number, "one_int32": 1}
        assert read(document) == NEW(one_string="a", one_int32=1)
