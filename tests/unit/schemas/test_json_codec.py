"""Over made-up schemas and documents, JSON becomes messages and messages JSON exactly as by `json_format`."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid
from certes_broker.schemas.json_out import DocumentTables, Style
from certes_broker.schemas.json_table import JsonTables
from tests.unit.schemas.generated_schemas import documents_of, message_types

STYLES = [Style(names, defaults) for names in (True, False) for defaults in (True, False)]
REFUSED = "refused"
NO_OBJECT = "must be an object, not"
"""Where `json_format` takes `"abc"` or `[]` for an empty message."""

many = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])


def by_table(descriptor: Descriptor, document: Any) -> Message | str:
    try:
        return JsonTables().table(descriptor).message(document)
    except Invalid as refusal:
        return refusal.message


def by_json_format(descriptor: Descriptor, document: Any) -> Message | str:
    message = GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=True, descriptor_pool=descriptor.file.pool)
    except Exception:  # noqa: BLE001 — json_format lets Python's own errors through
        return REFUSED
    return message


def compare(descriptor: Descriptor, document: Any) -> None:
    """Holds the outcome of a document to that of `json_format`."""
    found, expected = by_table(descriptor, document), by_json_format(descriptor, document)
    if isinstance(found, str):
        assert expected is REFUSED or NO_OBJECT in found
    else:
        assert isinstance(expected, Message)
        assert wire(found) == wire(expected)


def wire(message: Message) -> bytes:
    return message.SerializePartialToString(deterministic=True)


def written_by_table(message: Message, style: Style) -> Any:
    try:
        return DocumentTables(style).document(message)
    except (ValueError, TypeError):
        return REFUSED


def written_by_json_format(message: Message, style: Style) -> Any:
    try:
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=style.proto_field_names,
            always_print_fields_with_no_presence=style.with_defaults,
            descriptor_pool=message.DESCRIPTOR.file.pool,
        )
    except (ValueError, TypeError, json_format.Error):
        return REFUSED


@many
@given(st.data(), message_types())
def test_a_document_becomes_the_message_that_json_format_makes_of_it(data, descriptor):
    document = documents_of(data.draw, descriptor)
    compare(descriptor, document)


@many
@given(st.data(), message_types(), st.sampled_from(STYLES))
def test_a_message_becomes_the_document_that_json_format_makes_of_it(data, descriptor, style):
    message = by_json_format(descriptor, documents_of(data.draw, descriptor, odd=0))
    if isinstance(message, Message):
        assert written_by_table(message, style) == written_by_json_format(message, style)


@many
@given(st.data(), message_types())
def test_what_was_written_is_read_again_as_the_same_message(data, descriptor):
    message = by_json_format(descriptor, documents_of(data.draw, descriptor, odd=0))
    if not isinstance(message, Message):
        return
    for style in STYLES:
        document = written_by_json_format(message, style)
        if document is not REFUSED:
            compare(descriptor, document)
