"""Events on their way out, as bytes.

An event is put together from bytes: what all events of a message and a source have in common is encoded once, the message by
protobuf, and the rest is a few lengths. A `repeated Event` is a tag, a length and the event for each, so a request is its events
joined. Source: https://protobuf.dev/programming-guides/encoding/

Field numbers here are those of `certes.v1.Event`; a test holds what is built to what the stubs read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from google.protobuf.message import EncodeError, Message
from uuid_utils import uuid7

from certes.v1.event_pb2 import Event
from certes_sdk import tracing
from certes_sdk.coalescing import Entry
from certes_sdk.errors import invalid, invalid_field

RETURN_RESULTS: Final = b"\x18\x01"
"""`PublishStreamRequest.return_results`, set."""

_EVENT_OF_STREAM: Final = b"\x12"
_EVENT_OF_PUBLISH: Final = b"\x0a"
_ID: Final = b"\x0a"
_UUID: Final = _ID + b"\x24"
"""The id is a UUID of 36 characters."""
_DATA: Final = b"\x32"
_SUBSCRIBER: Final = b"\x42"
_EVERYONE: Final = b"\x48\x01"
_MAXIMUM_ID_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Head:
    """What all events of one message and one source have in common: `type` and `source`, and the `type_url` of their data."""

    envelope: bytes
    data: bytes


def head_of(event_type: str, source: str, type_url: str) -> Head:
    """Encodes what the events of a message have in common."""
    url = type_url.encode()
    return Head(
        Event(type=event_type, source=source).SerializeToString(),
        b"\x0a" + varint(len(url)) + url + b"\x12",
    )


class Outgoing(NamedTuple):
    """One event for `publish_all`; made by `outgoing`."""

    message: Message
    subscriber: str | None = None
    everyone: bool = False
    subject: str = ""
    ordering_key: str = ""
    id: str | None = None
    time: datetime | None = None
    attributes: Mapping[str, str] | None = None
    traceparent: str = ""
    tracestate: str = ""


def encode(head: Head, event: Outgoing) -> Entry:
    """Makes an entry of the queue of an event.

    Raises `AUDIENCE_MISSING` if it is for nobody, `FIELD_INVALID`, and `DATA_MALFORMED` if the message lacks what it requires.
    """
    message, subscriber, everyone, subject, key, event_id, time, attributes, traceparent, tracestate = event
    try:
        data = message.SerializeToString()
    except EncodeError as error:
        raise invalid("DATA_MALFORMED", f"The message cannot be encoded: {error}") from None
    id_given = event_id is not None
    if event_id is None:
        event_id = str(uuid7())
        identity = _UUID + event_id.encode()
    else:
        identity = _identity(event_id)
    if not traceparent and not tracestate and tracing.is_present():
        traceparent, tracestate = tracing.current()
    if subject or key or time or attributes or traceparent or tracestate:
        identity += _further(event._replace(traceparent=traceparent, tracestate=tracestate))
    audience = _EVERYONE if everyone and subscriber is None else _subscriber(subscriber, everyone=everyone)
    length = varint(len(data))
    content = len(head.data) + len(length) + len(data)
    content_length = varint(content)
    before = b"".join((identity, head.envelope, audience, _DATA, content_length, head.data, length))
    size = len(before) + len(data)
    wire = b"".join((_EVENT_OF_STREAM, varint(size), before, data))
    return Entry(wire, size, key, event_id, id_given=id_given)


def publish_request(entries: list[Entry]) -> bytes:
    """Returns a `PublishRequest` of events, whose wire forms are those of a `PublishStreamRequest`."""
    return b"".join([_EVENT_OF_PUBLISH + entry.wire[1:] for entry in entries])


def varint(number: int) -> bytes:
    """Encodes a length."""
    return _VARINTS[number] if number < len(_VARINTS) else _varint(number)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_VARINTS: Final = tuple(_varint(number) for number in range(4096))


def _identity(event_id: str) -> bytes:
    encoded = _utf8("id", event_id)
    if not 0 < len(encoded) <= _MAXIMUM_ID_BYTES:
        raise invalid_field("id", f"an id has 1 to {_MAXIMUM_ID_BYTES} bytes")
    return _ID + varint(len(encoded)) + encoded


def _subscriber(subscriber: str | None, *, everyone: bool) -> bytes:
    if everyone:
        raise invalid("AUDIENCE_MISSING", "An event is for one subscriber or for everyone, not for both.")
    if not subscriber:
        raise invalid(
            "AUDIENCE_MISSING",
            "An event is for nobody: the subscriber's id is empty.",
            hint="Give a subscriber, or say everyone=True.",
        )
    encoded = _utf8("subscriber", subscriber)
    return _SUBSCRIBER + varint(len(encoded)) + encoded


def _further(event: Outgoing) -> bytes:
    """Encodes what most events do not have."""
    try:
        further = Event(
            subject=event.subject,
            ordering_key=event.ordering_key,
            attributes=event.attributes,
            traceparent=event.traceparent,
            tracestate=event.tracestate,
        )
        if event.time is not None:
            further.time.FromDatetime(_aware(event.time))
        return further.SerializeToString()
    except (AttributeError, TypeError, ValueError) as error:
        raise invalid_field("event", f"an attribute cannot be encoded: {error}") from None


def _aware(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time without a zone says nothing to others; give it one, such as datetime.UTC")
    return time.astimezone(UTC)


def _utf8(field: str, text: str) -> bytes:
    try:
        return text.encode()
    except (AttributeError, UnicodeEncodeError):
        raise invalid_field(field, f"{text!r} is no text that UTF-8 can carry") from None
