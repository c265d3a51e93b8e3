"""The options of an element, taken apart by their numbers without knowing what they are.

A custom option is known to whoever declared it, not to the broker: it arrives as an unknown field. Its bytes are enough to say
that it changed.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from google.protobuf.message import Message

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)


def records_of(options: Message) -> dict[int, bytes]:
    """Returns the encoded fields of the options, tags included, by number; those of one number one after the other."""
    wire = options.SerializeToString(deterministic=True)
    found: dict[int, list[bytes]] = {}
    start = 0
    while start < len(wire):
        tag, position = _varint(wire, start)
        end = _end_of(wire, tag, position)
        found.setdefault(tag >> 3, []).append(wire[start:end])
        start = end
    return {number: b"".join(parts) for number, parts in found.items()}


def _end_of(wire: bytes, tag: int, position: int) -> int:
    # The bytes come from protobuf's own encoder, so they are whole.
    depth = 0
    while True:
        kind = tag & 7
        if kind == _GROUP:
            depth += 1
        elif kind == _END_GROUP:
            depth -= 1
        elif kind == _VARINT:
            _, position = _varint(wire, position)
        elif kind == _LENGTH:
            length, position = _varint(wire, position)
            position += length
        else:
            position += 8 if kind == _FIXED64 else 4
        if not depth:
            return position
        tag, position = _varint(wire, position)


def _varint(wire: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = wire[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
