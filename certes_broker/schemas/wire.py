"""The wire form of what goes to subscribers, assembled from stored bytes.

An event is never decoded on its way out. Its stored bytes become a field of `Delivery`, deliveries become a field of
`Batch`: a `repeated Delivery` and a `repeated bytes` are the same on the wire, a tag, a length and the bytes. The
numbers below are those of the contract; `tests/unit/schemas/test_wire.py` decodes what they make with the generated
stubs, and would fail if the two parted.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from certes.v1 import event_service_pb2
from certes_broker.domain.events import Micros

_DELIVERY_IN_BATCH: Final = b"\x12"
_BATCH_IN_FRAME: Final = b"\x12"

Closing = event_service_pb2.SubscribeResponse.Reason


def varint(value: int) -> bytes:
    """Encodes a non-negative integer."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))


@lru_cache(maxsize=64)
def timestamp_field(tag: bytes, time: Micros) -> bytes:
    """Encodes a `google.protobuf.Timestamp` as a field; `tag` is the field's tag byte."""
    seconds, micros = divmod(time, 1_000_000)
    encoded = b"\x08" + varint(seconds)
    if micros:
        encoded += b"\x10" + varint(micros * 1000)
    return tag + varint(len(encoded)) + encoded


def string_field(tag: bytes, text: str) -> bytes:
    """Encodes a string as a field; `tag` is the field's tag byte."""
    encoded = text.encode()
    return tag + varint(len(encoded)) + encoded


def delivery_in_batch(name: str, attempt: int, accept_time: Micros, correlation_id: str, event: bytes) -> bytes:
    """Encodes one `Delivery` as an element of `Batch.deliveries`; name and correlation id are ASCII, below 128 bytes."""
    size = len(event)
    head = b"\x0a%c%b%b\x22%c%b\x2a%b" % (
        len(name),
        name.encode(),
        _attempt_and_time(attempt, accept_time),
        len(correlation_id),
        correlation_id.encode(),
        varint(size),
    )
    # One join: the event is copied once, and nothing else is long.
    return b"".join((_DELIVERY_IN_BATCH, varint(len(head) + size), head, event))


@lru_cache(maxsize=256)
def _attempt_and_time(attempt: int, accept_time: Micros) -> bytes:
    # The events of one request have one time, and most deliveries are first attempts.
    return b"\x10%b%b" % (varint(attempt), timestamp_field(b"\x1a", accept_time))


def batch_frame(first_ordinal: int, deliveries: Sequence[bytes]) -> bytes:
    """Encodes a `SubscribeResponse` with a batch of encoded deliveries."""
    head = b"\x08" + varint(first_ordinal)
    length = len(head) + sum(map(len, deliveries))
    return b"".join((_BATCH_IN_FRAME, varint(length), head, *deliveries))


def opened_frame(stream: str) -> bytes:
    """Encodes a stream's first frame."""
    return _frame(opened=event_service_pb2.SubscribeResponse.Opened(stream=stream))


def heartbeat_frame(lag: float) -> bytes:
    """Encodes a heartbeat; `lag` is seconds."""
    heartbeat = event_service_pb2.SubscribeResponse.Heartbeat()
    heartbeat.lag.FromMicroseconds(int(lag * 1_000_000))
    return _frame(heartbeat=heartbeat)


def closing_frame(reason: Closing.ValueType, message: str) -> bytes:
    """Encodes a stream's last frame."""
    return _frame(closing=event_service_pb2.SubscribeResponse.Closing(reason=reason, message=message))


def _frame(
    opened: event_service_pb2.SubscribeResponse.Opened | None = None,
    heartbeat: event_service_pb2.SubscribeResponse.Heartbeat | None = None,
    closing: event_service_pb2.SubscribeResponse.Closing | None = None,
) -> bytes:
    frame = event_service_pb2.SubscribeResponse(opened=opened, heartbeat=heartbeat, closing=closing)
    return frame.SerializeToString()
