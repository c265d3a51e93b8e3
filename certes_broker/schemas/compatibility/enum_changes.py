"""What changed about one enum.

A value is its number on the wire and its name in JSON. Of several names for one number, which an enum can allow, JSON is
written with the first; the others are aliases.
"""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, EnumValueDescriptorProto, FeatureSet

from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import VALUE_IN_ENUM, Element
from certes_broker.schemas.compatibility.message_changes import compare_json_format
from certes_broker.schemas.compatibility.reservations import Use, compare_reservations, reserved_in_enum
from certes_broker.schemas.compatibility.rules import Rule


def compare_enum(diff: Diff, before: Element[EnumDescriptorProto], after: Element[EnumDescriptorProto]) -> None:
    """Compares an enum and its values."""
    diff.compare_comment(before.name, before, after)
    diff.options.compare(before.name, before.proto.options, after.proto.options)
    compare_json_format(diff, before.name, before.features, after.features)
    if before.features.enum_type != after.features.enum_type:
        opened = after.features.enum_type == FeatureSet.OPEN
        spelled = "features.enum_type = CLOSED", "features.enum_type = OPEN"
        diff.findings.add(Rule.ENUM_OPENNESS_CHANGED, before.name, spelled[not opened], spelled[opened])
    _compare_first(diff, before, after)
    _compare_values(diff, before, after)


def _compare_first(diff: Diff, before: Element[EnumDescriptorProto], after: Element[EnumDescriptorProto]) -> None:
    was, now = before.proto.value[0], after.proto.value[0]
    if was.number != now.number:
        diff.findings.add(Rule.ENUM_FIRST_VALUE_CHANGED, before.name, _declaration(was), _declaration(now))


def _compare_values(diff: Diff, before: Element[EnumDescriptorProto], after: Element[EnumDescriptorProto]) -> None:
    old, new = _by_name(before.proto), _by_name(after.proto)
    old_written, new_written = _written(before.proto), _written(after.proto)
    uses = (Use(value.name, value.number, _declaration(value)) for value in after.proto.value)
    reserved = reserved_in_enum(before.proto), reserved_in_enum(after.proto)
    told = set(compare_reservations(diff.findings, before.name, *reserved, uses))

    for name, (index, value) in old.items():
        place, now = new.get(name, (0, None))
        element, was = f"{before.name}.{name}", _declaration(value)
        written = new_written.get(value.number) if old_written[value.number] == name else name
        if now is not None and now.number != value.number:
            diff.findings.add(Rule.ENUM_VALUE_NUMBER_CHANGED, element, was, _declaration(now))
            continue
        if now is not None:
            diff.options.compare(element, value.options, now.options)
            diff.compare_comment(element, before, after, ((VALUE_IN_ENUM, index), (VALUE_IN_ENUM, place)))
        if written != name and written is not None and (now is not None or written not in old):
            diff.findings.add(Rule.ENUM_VALUE_NAME_CHANGED, element, was, _declaration(new[written][1]))
            told.add(written)
        elif now is None:
            diff.findings.add(Rule.ENUM_VALUE_REMOVED, element, was)

    for name, (_, value) in new.items():
        if name not in old and name not in told:
            rule = Rule.ENUM_ALIAS_ADDED if value.number in old_written else Rule.ENUM_VALUE_ADDED
            diff.findings.add(rule, f"{before.name}.{name}", after=_declaration(value))


def _by_name(enum: EnumDescriptorProto) -> dict[str, tuple[int, EnumValueDescriptorProto]]:
    return {value.name: (index, value) for index, value in enumerate(enum.value)}


def _written(enum: EnumDescriptorProto) -> dict[int, str]:
    """Returns the name with which JSON is written, by number."""
    return {value.number: value.name for value in reversed(enum.value)}


def _declaration(value: EnumValueDescriptorProto) -> str:
    return f"{value.name} = {value.number};"
