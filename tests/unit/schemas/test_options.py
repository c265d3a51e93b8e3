"""A selector's options are texts, and only such texts are taken as an event can have."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Origin
from certes_broker.domain.uris import parse_pattern
from certes_broker.schemas.options import compile_option
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.version_makers import IMPORTED, MEETLY, meetly_file

Field = descriptor_pb2.FieldDescriptorProto
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "sfixed32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "fixed32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "sint64": (-(2**63), 2**63 - 1),
    "sfixed64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "fixed64": (0, 2**64 - 1),
}
KINDS = [*INTEGERS, "string", "bool", "bytes", "double", "float"]


def message(syntax: str = "proto3") -> Descriptor:
    """A message with a field of each kind, named after it, and one of an enum in which a number has two names."""
    file = descriptor_pb2.FileDescriptorProto(name="kinds.proto", package="kinds", syntax=syntax)
    status = file.enum_type.add(name="Status")
    status.options.allow_alias = True
    for name, number in (("NONE", 0), ("DRAFT", 1), ("FINAL", 2), ("DONE", 2), ("LOST", -1)):
        status.value.add(name=name, number=number)
    made = file.message_type.add(name="Kinds")
    for number, kind in enumerate(KINDS, 1):
        of = getattr(Field, f"TYPE_{kind.upper()}")
        made.field.add(name=kind, number=number, type=of, label=Field.LABEL_OPTIONAL)
    made.field.add(
        name="status", number=100, type=Field.TYPE_ENUM, type_name=".kinds.Status", label=Field.LABEL_OPTIONAL
    )
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("kinds.Kinds")


OPEN, CLOSED = message(), message("proto2")
Kinds: Any = GetMessageClass(OPEN)


def problem(kind: str, value: str, descriptor: Descriptor = OPEN) -> str:
    return compile_option(descriptor, "x", kind).values.problem(value)


@pytest.mark.parametrize(("kind", "bounds"), INTEGERS.items())
def test_an_integer_is_written_in_decimal_and_within_its_type(kind, bounds):
    lowest, highest = bounds
    for value in (lowest, highest, 0, 7):
        assert problem(kind, str(value)) == ""
    for value in (lowest - 1, highest + 1, 10**30):
        assert f"from {lowest} to {highest}" in problem(kind, str(value))


@pytest.mark.parametrize(
    "value", ["07", "+7", "7 ", " 7", "-0", "7.0", "1e3", "0x7", "seven", "٧", "1_000", "", "9" * 5000]
)
def test_a_number_has_one_spelling(value):
    assert "is none of its values (the integers from" in problem("int64", value)


def test_a_bool_is_true_or_false():
    assert problem("bool", "true") == problem("bool", "false") == ""
    assert problem("bool", "True") == "'True' is none of its values (true, false); did you mean true?"
    for value in ("1", "yes", "TRUE", ""):
        assert problem("bool", value)


def test_an_enum_is_one_of_its_names():
    assert problem("status", "DRAFT") == problem("status", "NONE") == problem("status", "LOST") == ""
    assert problem("status", "DRAFD") == "'DRAFD' is none of its values (NONE, DRAFT, FINAL, LOST); did you mean DRAFT?"


def test_of_two_names_of_one_number_the_first_is_taken_by_which_events_are_read():
    assert compile_option(OPEN, "x", "status").read(Kinds(status=2)) == "FINAL"
    assert problem("status", "FINAL") == ""
    assert problem("status", "DONE") == "'DONE' is written FINAL"


def test_a_number_that_has_a_name_goes_by_it_and_another_by_itself():
    assert problem("status", "1") == "'1' is written DRAFT"
    assert problem("status", "-1") == "'-1' is written LOST"
    assert problem("status", "7") == ""
    assert problem("status", str(2**31))


def test_a_closed_enum_has_no_numbers_without_a_name():
    assert problem("status", "DRAFT", CLOSED) == ""
    assert problem("status", "7", CLOSED)


def test_a_text_can_be_anything():
    for value in ("", "a", "7", "x" * 5000):
        assert problem("string", value) == ""


@pytest.mark.parametrize("kind", ["bytes", "double", "float"])
def test_what_cannot_be_compared_as_a_text_is_no_option(kind):
    with pytest.raises(Invalid, match="only strings, integers, bools and enums"):
        compile_option(OPEN, "x", kind)


@given(
    st.sampled_from([*INTEGERS, "bool", "status", "string"]).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.integers(*INTEGERS[kind])
            if kind in INTEGERS
            else {"bool": st.booleans(), "status": st.integers(-(2**31), 2**31 - 1), "string": st.text()}[kind],
        )
    )
)
@settings(max_examples=300)
def test_what_an_event_has_is_never_refused(chosen):
    kind, value = chosen
    option = compile_option(OPEN, "x", kind)
    assert option.values.problem(option.read(Kinds(**{kind: value}))) == ""


# Selectors.


def registry_of(**kinds: str) -> Registry:
    """Knows event types whose messages have one field `level`, of the kinds given by name, which is an option."""
    file = meetly_file({name: ["level"] for name in kinds})
    for made, kind in zip(file.message_type, kinds.values(), strict=True):
        made.field[0].type = getattr(Field, f"TYPE_{kind.upper()}")
    types = tuple((name, f"meetly.{name.title()}") for name in sorted(kinds))
    files = VersionFiles(MEETLY, (*IMPORTED, file.SerializeToString()), types)
    return Registry([SchemaVersion(files, revision=1, origin=Origin.REGISTERED)])


def check(registry: Registry, name: str, level: str) -> None:
    registry.check_selector(parse_pattern(f"events.meetly.com/_/1/{name}"), {"level": level})


def test_a_selector_takes_a_value_that_one_of_its_event_types_can_have():
    registry = registry_of(booked="int32", moved="bool", told="string")
    check(registry, "booked", "7")
    check(registry, "moved", "true")
    check(registry, "*", "anything")
    check(registry_of(booked="int32", moved="bool"), "*", "7")
    check(registry_of(booked="int32", moved="bool"), "*", "true")


def test_a_selector_that_no_event_can_match_is_refused_with_what_one_can_have():
    with pytest.raises(Invalid) as refusal:
        check(registry_of(booked="int32", moved="bool"), "booked", "seven")
    assert refusal.value.reason is Reason.FIELD_INVALID
    assert refusal.value.metadata == {"pattern": "events.meetly.com/_/1/booked", "options": "level"}
    assert "level: 'seven' is none of its values (the integers from -2147483648 to 2147483647" in refusal.value.message
    with pytest.raises(Invalid, match="level: 'seven' is none of its values"):
        check(registry_of(booked="int32", moved="bool"), "*", "seven")


def test_an_option_that_nobody_declares_is_refused_as_such():
    with pytest.raises(Invalid) as refusal:
        registry_of(booked="int32").check_selector(parse_pattern("events.meetly.com/**"), {"floor": "x", "level": "x"})
    assert refusal.value.reason is Reason.UNKNOWN_OPTION
