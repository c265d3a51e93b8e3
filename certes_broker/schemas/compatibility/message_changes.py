"""What changed about one message: its fields, and what holds for the whole of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FeatureSet

from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import FIELD_IN_MESSAGE, ONEOF_IN_MESSAGE, Element
from certes_broker.schemas.compatibility.features import Features
from certes_broker.schemas.compatibility.field_changes import compare_field
from certes_broker.schemas.compatibility.fields import Field
from certes_broker.schemas.compatibility.numbers import spell, without
from certes_broker.schemas.compatibility.reservations import Use, compare_reservations, reserved_in_message
from certes_broker.schemas.compatibility.rules import Rule


def compare_message(diff: Diff, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    """Compares a message but for the messages, enums and extensions that are declared within it."""
    diff.compare_comment(before.name, before, after)
    if before.features == after.features and before.proto == after.proto:
        # Equal messages can still be explained in other words.
        places = [(field.name, (FIELD_IN_MESSAGE, index)) for index, field in enumerate(before.proto.field)]
        places += [(oneof.name, (ONEOF_IN_MESSAGE, index)) for index, oneof in enumerate(before.proto.oneof_decl)]
        for name, place in places:
            diff.compare_comment(f"{before.name}.{name}", before, after, (place, place))
        return
    diff.options.compare(before.name, before.proto.options, after.proto.options)
    _compare_formats(diff, before, after)
    _compare_extension_ranges(diff, before, after)
    _compare_oneofs(diff, before, after)
    _compare_fields(diff, before, after)


def compare_json_format(diff: Diff, name: str, before: Features, after: Features) -> None:
    """Compares whether the compiler made sure that a message or an enum has a JSON form."""
    if before.json_format != after.json_format:
        allowed = after.json_format == FeatureSet.ALLOW
        rule = Rule.JSON_FORMAT_ALLOWED if allowed else Rule.JSON_FORMAT_WITHDRAWN
        spelled = "features.json_format = LEGACY_BEST_EFFORT", "features.json_format = ALLOW"
        diff.findings.add(rule, name, spelled[not allowed], spelled[allowed])


class _Placed(NamedTuple):
    """A field and its index in its message."""

    place: int
    field: Field


def _compare_fields(diff: Diff, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    old, new = list(_fields(before)), list(_fields(after))
    uses = (Use(field.proto.name, field.proto.number, field.declaration) for _, field in new)
    reserved = reserved_in_message(before.proto), reserved_in_message(after.proto)
    reusing = compare_reservations(diff.findings, before.name, *reserved, uses)
    matches = _matches(old, new)
    for was in old:
        match = matches.get(was.field.proto.name)
        if match is None:
            diff.findings.add(Rule.FIELD_REMOVED, was.field.name, was.field.declaration)
            continue
        places = (FIELD_IN_MESSAGE, was.place), (FIELD_IN_MESSAGE, match.place)
        diff.compare_comment(was.field.name, before, after, places)
        diff.options.compare(was.field.name, was.field.proto.options, match.field.proto.options)
        if was.field != match.field:
            compare_field(diff.findings, was.field, match.field, (diff.before.enums, diff.after.enums))
    matched = {match.place for match in matches.values()}
    for place, field in new:
        if place not in matched:
            diff.options.added(field.name, field.proto.options)
            if field.proto.name not in reusing:
                rule = Rule.FIELD_REQUIRED_ADDED if field.cardinality.endswith("required") else Rule.FIELD_ADDED
                diff.findings.add(rule, field.name, after=field.declaration)


def _matches(old: Sequence[_Placed], new: Sequence[_Placed]) -> dict[str, _Placed]:
    """Finds for each old field, by its name, what it has become.

    That is the field of its name, or else the field of its number, unless that has the name of another old field.
    """
    names = {field.proto.name for _, field in old}
    by_name = {placed.field.proto.name: placed for placed in new}
    renamed = {placed.field.proto.number: placed for placed in new if placed.field.proto.name not in names}
    found = {field.proto.name: by_name.get(field.proto.name) or renamed.get(field.proto.number) for _, field in old}
    return {name: placed for name, placed in found.items() if placed is not None}


def _fields(message: Element[DescriptorProto]) -> Iterator[_Placed]:
    proto = message.proto
    entries = {f".{message.name}.{nested.name}": nested for nested in proto.nested_type if nested.options.map_entry}
    oneofs = [message.features.within(oneof.options.features) for oneof in proto.oneof_decl]
    for index, field in enumerate(proto.field):
        features, oneof = message.features, ""
        if field.HasField("oneof_index"):
            features = oneofs[field.oneof_index]
            # `optional` in proto3 is told by a oneof that the compiler makes for it.
            oneof = "" if field.proto3_optional else proto.oneof_decl[field.oneof_index].name
        if field.HasField("options"):
            features = features.within(field.options.features)
        entry = entries.get(field.type_name) if entries else None
        yield _Placed(index, Field(f"{message.name}.{field.name}", field, features, entry, oneof))


def _compare_formats(diff: Diff, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    compare_json_format(diff, before.name, before.features, after.features)
    was, now = before.proto.options.message_set_wire_format, after.proto.options.message_set_wire_format
    if was != now:
        spelled = (f"option message_set_wire_format = {str(side).lower()};" for side in (was, now))
        diff.findings.add(Rule.MESSAGE_SET_CHANGED, before.name, *spelled)


def _compare_extension_ranges(diff: Diff, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    old, new = ([(kept.start, kept.end - 1) for kept in side.proto.extension_range] for side in (before, after))
    for numbers in without(old, new):
        diff.findings.add(Rule.EXTENSION_RANGE_REMOVED, before.name, f"extensions {spell(numbers)};")
    for numbers in without(new, old):
        diff.findings.add(Rule.EXTENSION_RANGE_ADDED, before.name, after=f"extensions {spell(numbers)};")


def _compare_oneofs(diff: Diff, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    """Compares what is said about oneofs; that one is gone or new is said of its fields."""
    old = {oneof.name: index for index, oneof in enumerate(before.proto.oneof_decl)}
    for place, oneof in enumerate(after.proto.oneof_decl):
        name, index = f"{before.name}.{oneof.name}", old.get(oneof.name)
        if index is None:
            diff.options.added(name, oneof.options)
        else:
            diff.options.compare(name, before.proto.oneof_decl[index].options, oneof.options)
            diff.compare_comment(name, before, after, ((ONEOF_IN_MESSAGE, index), (ONEOF_IN_MESSAGE, place)))
