"""What changed about one field. Every question is asked on its own, so that one edit names each thing it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import EnumDescriptorProto

from certes_broker.schemas.compatibility.elements import Element
from certes_broker.schemas.compatibility.fields import Field
from certes_broker.schemas.compatibility.findings import Findings
from certes_broker.schemas.compatibility.rules import Rule

Enums: TypeAlias = Mapping[str, Element[EnumDescriptorProto]]


def compare_field(findings: Findings, before: Field, after: Field, enums: tuple[Enums, Enums]) -> None:
    """Compares a field but for its options; `enums` are those of either version.

    Presence, packing and the like follow from the type and the oneof: they are asked about only where those are as they were.
    """
    element, was, now = before.name, before.declaration, after.declaration
    if before.proto.number != after.proto.number:
        findings.add(Rule.FIELD_NUMBER_CHANGED, element, was, now)
    if before.name != after.name:
        findings.add(Rule.FIELD_NAME_CHANGED, element, was, now)
    elif before.json_name != after.json_name:
        findings.add(Rule.FIELD_JSON_NAME_CHANGED, element, was, now)
    if before.oneof != after.oneof:
        findings.add(Rule.FIELD_ONEOF_CHANGED, element, was, now)
    if before.cardinality != after.cardinality:
        findings.add(Rule.FIELD_CARDINALITY_CHANGED, element, was, now)
    if before.type == after.type:
        if before.cardinality == after.cardinality and before.oneof == after.oneof:
            _compare_encoding(findings, before, after)
        if before.default(enums[0]) != after.default(enums[1]):
            findings.add(Rule.FIELD_DEFAULT_CHANGED, element, was, now)
    elif before.cardinality == after.cardinality or "map" not in {before.cardinality, after.cardinality}:
        findings.add(Rule.FIELD_TYPE_CHANGED, element, was, now)


def _compare_encoding(findings: Findings, before: Field, after: Field) -> None:
    element = before.name
    if before.has_presence != after.has_presence:
        findings.add(Rule.FIELD_PRESENCE_CHANGED, element, before.declaration, after.declaration)
    if before.is_delimited != after.is_delimited:
        findings.add(Rule.FIELD_DELIMITING_CHANGED, element, _delimiting(before), _delimiting(after))
    if before.checks_utf8 != after.checks_utf8:
        findings.add(Rule.FIELD_UTF8_CHANGED, element, _utf8(before), _utf8(after))
    if before.is_packed != after.is_packed:
        findings.add(Rule.FIELD_PACKING_CHANGED, element, _packing(before), _packing(after))


def _delimiting(field: Field) -> str:
    return f"features.message_encoding = {'DELIMITED' if field.is_delimited else 'LENGTH_PREFIXED'}"


def _utf8(field: Field) -> str:
    return f"features.utf8_validation = {'VERIFY' if field.checks_utf8 else 'NONE'}"


def _packing(field: Field) -> str:
    return f"packed = {'true' if field.is_packed else 'false'}"
