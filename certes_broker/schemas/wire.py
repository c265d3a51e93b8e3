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

_BATCH_IN_FRAME: Final = b"\x12"

Delivery = tuple[bytes, bytes]
"""A delivery as an element of `Batch.deliveries`, in two parts: what is its own, and the bytes of its event."""

Closing = event_service_pb2.SubscribeResponse.Reason


def varint(value: int) -> bytes:
    """Encodes a non-negative integer."""
    if value < _SHORT_END:
        return _SHORT[value]
    return _encoded(value)


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_SHORT_END: Final = 0x1000
_SHORT: Final = tuple(map(_encoded, range(_SHORT_END)))
"""The sizes of most events, and their deliveries: two are written for each."""


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


def delivery_in_batch(name: bytes, between: bytes, token: bytes, event: bytes) -> Delivery:
    """Encodes one `Delivery`.

    `between` is what `between_name_and_token` returns for it; the token is the end of its correlation id. Name and
    correlation id are ASCII, below 128 bytes.
    """
    size = len(event)
    # What `varint` does, without a call: this is done for every delivery.
    written = _SHORT[size] if size < _SHORT_END else varint(size)
    # A tag and a length byte for the name, a tag for the event.
    length = 3 + len(name) + len(between) + len(token) + len(written) + size
    # The event is not copied here: what joins the parts is the frame.
    written_length = _SHORT[length] if length < _SHORT_END else varint(length)
    head = (b"\x12", written_length, b"\x0a", _SHORT[len(name)], name, between, token, b"\x2a", written)
    return b"".join(head), event


def between_name_and_token(attempt: int, accept_time: Micros, prefix: str, token_bytes: int) -> bytes:
    """Encodes what stands in a `Delivery` between its name and the end of its correlation id, which begins with `prefix`.

    All first deliveries of the events of one request have it in common.
    """
    time = timestamp_field(b"\x1a", accept_time)
    return b"\x10%b%b\x22%c%b" % (varint(attempt), time, len(prefix) + token_bytes, prefix.encode())


def batch_frame(first_ordinal: int, parts: Sequence[bytes]) -> bytes:
    """Encodes a `SubscribeResponse` with a batch of encoded deliveries, given part by part."""
    head = b"\x08" + varint(first_ordinal)
    length = len(head) + sum(map(len, parts))
    return b"".join((_BATCH_IN_FRAME, varint(length), head, *parts))


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
