"""What a message or an enum keeps reserved.

A number or a name is reserved because it once meant something, and somebody may still have bytes or JSON in which it does. So a
reservation is for ever: it can grow, and neither go nor be used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto

from certes_broker.schemas.compatibility.findings import Findings
from certes_broker.schemas.compatibility.numbers import Range, holds, spell, without
from certes_broker.schemas.compatibility.rules import Rule


class Reservations(NamedTuple):
    """Reserved numbers, each range with both its ends, and reserved names."""

    numbers: tuple[Range, ...]
    names: frozenset[str]


class Use(NamedTuple):
    """A field or a value that takes a number: its simple name and its declaration."""

    name: str
    number: int
    declaration: str


def reserved_in_message(message: DescriptorProto) -> Reservations:
    """Returns what a message reserves."""
    # `end` is the first number after the range: descriptor.proto has it so for messages, and not for enums.
    ranges = tuple((reserved.start, reserved.end - 1) for reserved in message.reserved_range)
    return Reservations(ranges, frozenset(message.reserved_name))


def reserved_in_enum(enum: EnumDescriptorProto) -> Reservations:
    """Returns what an enum reserves."""
    ranges = tuple((reserved.start, reserved.end) for reserved in enum.reserved_range)
    return Reservations(ranges, frozenset(enum.reserved_name))


def compare_reservations(
    findings: Findings, element: str, before: Reservations, after: Reservations, uses: Iterable[Use]
) -> frozenset[str]:
    """Compares what an element reserves; `uses` are the numbers and names that it has now.

    Returns the simple names of those that use what was reserved before.
    """
    released = without(before.numbers, after.numbers)
    released_names = before.names - after.names
    reusing = _reusing(uses, released, released_names) if released or released_names else []
    for use in reusing:
        if holds(released, use.number):
            findings.add(
                Rule.RESERVED_NUMBER_REUSED, f"{element}.{use.name}", f"reserved {use.number};", use.declaration
            )
        if use.name in released_names:
            findings.add(Rule.RESERVED_NAME_REUSED, f"{element}.{use.name}", f'reserved "{use.name}";', use.declaration)
    for numbers in without(released, [(use.number, use.number) for use in reusing]):
        findings.add(Rule.RESERVATION_REMOVED, element, f"reserved {spell(numbers)};")
    for name in released_names.difference(use.name for use in reusing):
        findings.add(Rule.RESERVATION_REMOVED, element, f'reserved "{name}";')
    for numbers in without(after.numbers, before.numbers):
        findings.add(Rule.RESERVATION_ADDED, element, after=f"reserved {spell(numbers)};")
    for name in after.names - before.names:
        findings.add(Rule.RESERVATION_ADDED, element, after=f'reserved "{name}";')
    return frozenset(use.name for use in reusing)


def _reusing(uses: Iterable[Use], numbers: tuple[Range, ...], names: frozenset[str]) -> list[Use]:
    return [use for use in uses if holds(numbers, use.number) or use.name in names]
