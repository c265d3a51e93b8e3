"""Events and requests as bytes: what a client of the contract puts on the wire, made at the least price.

The load must not cost what is measured. So an event is serialised once by the generated stubs, with a place for its id,
and every event after that is the same bytes with another id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uuid_utils import uuid7

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from certes.v1.event_service_pb2 import PublishRequest, PublishStreamRequest

EVENT_BYTES: Final = 1024
EVENT_TYPE: Final = "community.certes.dev/github/1/push"
SERVICE: Final = "/certes.v1.EventService"

_ID_BYTES: Final = 36
_TIME_DIGITS: Final = 20


def new_id() -> str:
    """Returns an id as SDKs make them: a UUIDv7."""
    return str(uuid7())


def timed_id(nanoseconds: int, number: int) -> str:
    """Returns an id that says when the event was due to be sent, by the machine's monotonic clock."""
    return f"{nanoseconds:0{_TIME_DIGITS}d}-{number:0{_ID_BYTES - _TIME_DIGITS - 1}d}"


def time_of(event_id: str) -> int:
    """Returns the nanoseconds of an id made by `timed_id`."""
    return int(event_id[:_TIME_DIGITS])


class EventBytes:
    """Makes events of exactly `EVENT_BYTES` bytes, and requests of them."""

    def __init__(self) -> None:
        self._rest = _event(EVENT_BYTES)[2 + _ID_BYTES :]
        # Field 1 of Publish, field 2 of PublishStream; then the event's length and the tag and length of its id.
        head = _varint(EVENT_BYTES) + b"\x0a" + bytes([_ID_BYTES])
        self._published = b"\x0a" + head
        self._streamed = b"\x12" + head

    def unary_request(self, event_id: str) -> bytes:
        """Returns a `PublishRequest` of one event."""
        return b"".join((self._published, event_id.encode(), self._rest))

    def stream_request(self, event_ids: Sequence[str]) -> bytes:
        """Returns a `PublishStreamRequest`."""
        head, rest = self._streamed, self._rest
        return b"".join([part for event_id in event_ids for part in (head, event_id.encode(), rest)])


def _event(size: int) -> bytes:
    """Returns a push of a given size, its first field an id of zeros. What fills it up is the commit's message."""
    push = PushEvent(ref="refs/heads/main", before="0" * 40, after="1" * 40)
    push.repository.full_name = "meetly/meetly"
    push.organization.login = "meetly"
    push.sender.login = "octo"
    push.head_commit.id = "1" * 40
    event = Event(id="0" * _ID_BYTES, type=EVENT_TYPE, source="benchmarks", everyone=True)
    # Twice: the lengths themselves grow by a byte or two with what they measure.
    for _ in range(2):
        event.data.Pack(push)
        push.head_commit.message += "x" * (size - event.ByteSize())
    event.data.Pack(push)
    while event.ByteSize() > size:
        push.head_commit.message = push.head_commit.message[:-1]
        event.data.Pack(push)
    wire = event.SerializeToString(deterministic=True)
    assert len(wire) == size, len(wire)
    assert PublishRequest.FromString(b"\x0a" + _varint(size) + wire).events[0] == event
    assert PublishStreamRequest.FromString(b"\x12" + _varint(size) + wire).events[0] == event
    return wire


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
