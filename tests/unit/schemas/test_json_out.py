"""Messages become the same JSON documents as `json_format` makes of them."""

from __future__ import annotations

import contextlib
import json
import math
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass, GetMessageClassesForFiles
from hypothesis import assume, given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.json_effort import Effort, TooMuchAtOnce
from certes_broker.schemas.json_out import CONTRACT, PAYLOAD, DocumentTables, Style
from certes_broker.schemas.json_table import JsonTables
from certes_broker.schemas.registry import Registry
from tests.unit.schemas.every_kind import every_kind
from tests.unit.schemas.json_documents import documents

DESCRIPTOR = every_kind()
READ = JsonTables().table(DESCRIPTOR)
NEW = GetMessageClass(DESCRIPTOR)
STYLES = [Style(names, defaults) for names in (True, False) for defaults in (True, False)]
TABLES = {style: DocumentTables(style) for style in (*STYLES, PAYLOAD)}
REGISTRY = Registry(community_versions())
REFUSED = "refused"


def by_table(message: Message, style: Style) -> Any:
    try:
        return TABLES[style].document(message)
    except ValueError:
        return REFUSED


def by_json_format(message: Message, style: Style) -> Any:
    try:
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=style.proto_field_names,
            always_print_fields_with_no_presence=style.with_defaults,
            descriptor_pool=message.DESCRIPTOR.file.pool,
        )
    except (ValueError, json_format.Error):
        return REFUSED


@given(documents(), st.sampled_from(STYLES))
def test_a_message_of_every_kind_of_field_becomes_what_json_format_makes_of_it(document, style):
    try:
        message = READ.message(document)
    except Invalid:
        assume(False)
        raise
    assert by_table(message, style) == by_json_format(message, style)


@given(st.floats(width=32, allow_nan=False))
def test_a_single_precision_number_is_written_as_short_as_json_format_does(number):
    message = NEW(one_float=number, many_float=[number])
    for style in STYLES:
        assert by_table(message, style) == by_json_format(message, style)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 3.4028234663852886e38, 1.401298464324817e-45])
def test_numbers_at_the_edge_are_written_as_json_format_does(number):
    message = NEW(one_float=number, one_double=number)
    for style in STYLES:
        assert by_table(message, style) == by_json_format(message, style)


@pytest.mark.parametrize("style", STYLES)
def test_an_empty_message_is_written_as_json_format_does(style):
    assert by_table(NEW(), style) == by_json_format(NEW(), style)


@pytest.mark.parametrize("style", STYLES)
def test_a_message_that_contains_itself_is_written_to_its_end(style):
    message = NEW(one_string="0")
    inner = message
    for depth in range(1, 60):
        inner = inner.one_every_kind
        inner.one_string = str(depth)
    assert by_table(message, style) == by_json_format(message, style)


def test_unknown_fields_are_left_out():
    message = NEW.FromString(b"\xf8\xff\x7f\x01")
    assert by_table(message, CONTRACT) == {}


def test_what_is_written_can_be_changed_without_a_trace():
    first = by_table(NEW(), PAYLOAD)
    first["many_string"].append("x")
    first["by_string_int32"]["x"] = 1
    assert "x" not in by_table(NEW(), PAYLOAD)["many_string"]
    assert by_table(NEW(), PAYLOAD)["by_string_int32"] == {}


def test_a_payload_has_the_json_name_that_its_schema_chose_and_else_the_fields_own_name():
    document = by_table(NEW(named_otherwise="up", one_string="text"), PAYLOAD)
    assert (document["+1"], document["one_string"]) == ("up", "text")
    assert not {"named_otherwise", "oneString"} & document.keys()


def test_extensions_are_written_under_their_full_name_in_brackets():
    file = descriptor_pb2.FileDescriptorProto(name="extended.proto", package="t", syntax="proto2")
    message = file.message_type.add(name="Extended")
    message.extension_range.add(start=100, end=200)
    for name, number, kind in (("note", 100, "TYPE_STRING"), ("count", 101, "TYPE_INT64")):
        file.extension.add(
            name=name,
            number=number,
            extendee=".t.Extended",
            type=getattr(descriptor_pb2.FieldDescriptorProto, kind),
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = DescriptorPool()
    pool.Add(file)
    new = GetMessageClassesForFiles(["extended.proto"], pool)["t.Extended"]
    extended = new.FromString(b"\xa2\x06\x01x\xa8\x06\x07")
    assert by_table(extended, CONTRACT) == {"[t.note]": "x", "[t.count]": "7"} == by_json_format(extended, CONTRACT)


def test_types_of_two_pools_with_one_name_are_told_apart():
    tables = DocumentTables(CONTRACT)
    for field in ("first", "second"):
        file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="t", syntax="proto3")
        file.message_type.add(name="Same").field.add(
            name=field,
            number=1,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
        pool = DescriptorPool()
        pool.Add(file)
        same = GetMessageClassesForFiles(["a.proto"], pool)["t.Same"]
        assert tables.document(same(**{field: "x"})) == {field: "x"}


@pytest.mark.parametrize("event", ["issues", "membership", "ping", "pull_request", "push"])
def test_every_real_payload_is_written_as_json_format_does(event, shared_payloads):
    schema = REGISTRY.lookup(f"community.certes.dev/github/1/{event}")
    for payload in json.loads((shared_payloads / f"{event}.json").read_text()):
        message = schema.from_json(payload)
        for style in STYLES:
            assert by_table(message, style) == by_json_format(message, style)


@given(documents(), st.integers(1, 2_000))
def test_what_would_be_too_much_at_once_is_not_done_and_leaves_no_half_made_table(document, values):
    tables, effort = DocumentTables(PAYLOAD), Effort()
    try:
        message = READ.message(document)
        expected = TABLES[PAYLOAD].document(message)
    except (Invalid, ValueError):
        assume(False)
        raise
    with contextlib.suppress(TooMuchAtOnce), effort.at_most(values):
        assert tables.document(message, effort) == expected
    assert tables.document(message, effort) == expected


@pytest.mark.parametrize(
    "message",
    [
        NEW(many_every_kind=[NEW()] * 500),
        NEW(many_float=[0.1] * 1_000),
        NEW(many_duration=[timedelta()] * 2_000),
        NEW(by_string_int64={str(number): 1 for number in range(7_000)}),
    ],
    ids=["messages", "floats", "times", "a map"],
)
def test_what_takes_long_to_write_is_too_much_however_few_bytes_it_has(message):
    tables, effort = DocumentTables(PAYLOAD), Effort()
    assert message.ByteSize() < 128 * 1024
    tables.document(message)
    with pytest.raises(TooMuchAtOnce), effort.at_most(20_000):
        tables.document(message, effort)
