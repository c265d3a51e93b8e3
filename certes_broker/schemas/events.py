"""The one door: reads and validates an event's bytes.

Every way in (gRPC, the JSON API, CloudEvents, foreign webhooks) ends here, so that an event is refused for the same
reasons whichever way it came. The bytes are parsed once; what routing must know is read from them, and they are kept as
they are: only an absent `id` or `time` is appended, which the wire form allows (the last occurrence of a field counts).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from uuid_utils import uuid7

from certes.v1 import event_pb2
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.events import (
    CONTROL_CHARACTERS,
    ID_BYTES,
    SUBJECT_BYTES,
    AcceptedEvent,
    Micros,
    Options,
    Original,
)
from certes_broker.domain.names import parse_id
from certes_broker.domain.open_namespaces import NONE_OPEN, OpenNamespaces
from certes_broker.schemas.event_content import DriftWatch, EventContent, check_open_content
from certes_broker.schemas.event_schema import EventSchema, SchemaLookup
from certes_broker.schemas.wire import string_field, timestamp_field

SOURCE_BYTES: Final = 512
ORDERING_KEY_BYTES: Final = 256
ATTRIBUTES: Final = 64
ATTRIBUTE_BYTES: Final = 1024
TRACESTATE_BYTES: Final = 512
_ATTRIBUTE_KEY: Final = re.compile(r"[a-z0-9_]{1,64}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LATEST_SECONDS: Final = 253402300800
_DIGEST_BYTES: Final = 16
_decode_event: Final = event_pb2.Event.FromString
_make_event: Final = partial(tuple.__new__, AcceptedEvent)


class EventReader:
    """Reads and validates events."""

    def __init__(
        self,
        schemas: SchemaLookup,
        *,
        max_event_bytes: int,
        open_namespaces: OpenNamespaces = NONE_OPEN,
        drift: DriftWatch | None = None,
        new_id: Callable[[], str] = lambda: str(uuid7()),
    ) -> None:
        self._content = EventContent(schemas, open_namespaces, drift)
        self._max_bytes = max_event_bytes
        self._new_id = new_id

    def schema(self, type_text: str) -> EventSchema | str:
        """Returns the schema of an event type that may be published, or, for a type of an open namespace, its text.

        Raises `Invalid`: FIELD_REQUIRED, MALFORMED_URI, UNKNOWN_EVENT_TYPE, FIELD_INVALID for a system event.
        """
        return self._content.schema(type_text)

    def read(self, wire: bytes, now: Micros, path: str = "event", *, original: Original | None = None) -> AcceptedEvent:
        """Validates one event, given as the wire form of `certes.v1.Event`.

        `path` is how violations call it, such as `events[3]`. Raises `Invalid` with the reason that the contract names
        for the field.
        """
        return self.accept(self._parse(wire, path), wire, now, path, original=original)

    def read_all(self, wires: Sequence[bytes], now: Micros, path: str = "events") -> list[AcceptedEvent]:
        """Validates many events like `read`; `path` is what they are elements of."""
        accepted: list[AcceptedEvent] = []
        parse, read = self._parse, self._read
        try:
            for wire in wires:
                accepted.append(read(parse(wire, ""), wire, now, None))  # noqa: PERF401 - see below
        except Invalid as error:
            # The index is how many came before it, so none is counted and no path is written for those that are well.
            raise _within(f"{path}[{len(accepted)}]", error) from error
        return accepted

    def accept(
        self, event: event_pb2.Event, wire: bytes, now: Micros, path: str = "event", *, original: Original | None = None
    ) -> AcceptedEvent:
        """Validates one event like `read`, for whoever has made it: `wire` is what it serializes to."""
        if len(wire) > self._max_bytes:
            raise _too_large(path, len(wire), self._max_bytes)
        try:
            return self._read(event, wire, now, original)
        except Invalid as error:
            raise _within(path, error) from error

    def _parse(self, wire: bytes, path: str) -> event_pb2.Event:
        if len(wire) > self._max_bytes:
            raise _too_large(path, len(wire), self._max_bytes)
        try:
            return _decode_event(wire)
        except DecodeError as error:
            raise Invalid.field(Reason.MALFORMED_REQUEST, path, f"is no certes.v1.Event: {error}") from error

    def _read(self, event: event_pb2.Event, wire: bytes, now: Micros, original: Original | None) -> AcceptedEvent:
        # This is done for every event, and half of it is asking for fields: each is asked for once.
        if len(UnknownFieldSet(event)):
            number = UnknownFieldSet(event)[0].field_number
            raise Invalid.field(Reason.UNKNOWN_FIELD, "", f"has a field {number} that certes.v1.Event does not define")
        schema = self._content.schema(event.type)
        source = event.source
        _check_source(source)
        subscriber = None if event.everyone else _subscriber(event)
        ordering_key, traceparent, attributes = event.ordering_key, event.traceparent, event.attributes
        if ordering_key or traceparent or attributes or event.subject or event.tracestate:
            _check_rarer_fields(event)
        body = wire
        event_id = event.id
        digest: bytes | None
        if event_id:
            if len(event_id) > ID_BYTES or not event_id.isascii() or not event_id.isprintable():
                _check_text("id", event_id, ID_BYTES)
            digest = sha256(_plain(event) if traceparent or attributes else wire).digest()[:_DIGEST_BYTES]
        else:
            event_id = self._new_id()
            digest = None
            body += string_field(b"\x0a", event_id)
        if not event.HasField("time"):
            body += timestamp_field(b"\x2a", now)
        else:
            _check_time(event)
        if isinstance(schema, str):
            type_text = schema
            options: Options = ()
            check_open_content(event)
        else:
            type_text = schema.type_text
            options = self._content.options(event, schema, event_id)
        return _make_event(
            (body, type_text, event_id, source, subscriber, ordering_key, options, now, digest, original)
        )


@lru_cache(maxsize=4096)
def _check_source(source: str) -> None:
    if not source:
        raise Invalid.field(Reason.FIELD_REQUIRED, "source", "is missing; it names who sends, such as sources/github")
    _check_text("source", source, SOURCE_BYTES)
    if any(character.isspace() for character in source):
        raise Invalid.field(Reason.FIELD_INVALID, "source", "holds white space; it is a URI reference")


@lru_cache(maxsize=4096)
def _check_subscriber(subscriber: str) -> str:
    if not subscriber:
        raise Invalid.field(
            Reason.AUDIENCE_MISSING, "subscriber", "is empty", hint="Name the subscriber, or set everyone to true."
        )
    try:
        return parse_id(subscriber)
    except Invalid as error:
        raise Invalid.field(Reason.FIELD_INVALID, "subscriber", error.message) from error


def _subscriber(event: event_pb2.Event) -> str:
    """Returns the subscriber of an event that is not for everyone."""
    match event.WhichOneof("audience"):
        case "subscriber":
            return _check_subscriber(event.subscriber)
        case "everyone":
            raise Invalid.field(
                Reason.FIELD_INVALID, "everyone", "is false", hint="Name the subscriber, or set everyone to true."
            )
        case _:
            raise Invalid.field(
                Reason.AUDIENCE_MISSING,
                "audience",
                "is missing: the event is for nobody",
                hint="Set subscriber to the id of the one it is for, or everyone to true.",
            )


def _check_text(field: str, text: str, most: int) -> None:
    size = len(text.encode())
    if size > most:
        raise Invalid.field(Reason.FIELD_INVALID, field, f"has {size} bytes; the limit is {most}", limit=str(most))
    if CONTROL_CHARACTERS.search(text):
        raise Invalid.field(Reason.FIELD_INVALID, field, "holds a control character")


def _check_time(event: event_pb2.Event) -> None:
    seconds, nanos = event.time.seconds, event.time.nanos
    if not (-62135596800 <= seconds < _LATEST_SECONDS and 0 <= nanos < 1_000_000_000):
        raise Invalid.field(Reason.FIELD_INVALID, "time", "is not between the years 1 and 9999")


def _check_rarer_fields(event: event_pb2.Event) -> None:
    _check_text("subject", event.subject, SUBJECT_BYTES)
    _check_text("ordering_key", event.ordering_key, ORDERING_KEY_BYTES)
    if len(event.attributes) > ATTRIBUTES:
        raise Invalid.field(
            Reason.FIELD_INVALID, "attributes", f"has {len(event.attributes)} entries; the limit is {ATTRIBUTES}"
        )
    for key, value in event.attributes.items():
        if not _ATTRIBUTE_KEY.fullmatch(key):
            raise Invalid.field(Reason.FIELD_INVALID, f"attributes[{key!r}]", "its key is not 1 to 64 of [a-z0-9_]")
        _check_text(f"attributes[{key!r}]", value, ATTRIBUTE_BYTES)
    if event.traceparent and not _TRACEPARENT.fullmatch(event.traceparent):
        raise Invalid.field(Reason.FIELD_INVALID, "traceparent", "is no W3C trace context of version 00")
    if event.tracestate:
        _check_text("tracestate", event.tracestate, TRACESTATE_BYTES)
        if not event.tracestate.isascii():
            # It is handed on as a header, which could not be made of it: no webhook could be sent.
            raise Invalid.field(Reason.FIELD_INVALID, "tracestate", "holds a character outside ASCII")
        if not event.traceparent:
            raise Invalid.field(Reason.FIELD_INVALID, "tracestate", "has no traceparent to belong to")


def _plain(event: event_pb2.Event) -> bytes:
    """Returns what is fingerprinted of an event with a trace context or attributes.

    A retry may carry another trace context, and its attributes in another order, since the order of a map is not kept:
    that is no other content.
    """
    plain = event_pb2.Event()
    plain.CopyFrom(event)
    plain.ClearField("traceparent")
    plain.ClearField("tracestate")
    return plain.SerializeToString(deterministic=True)


def _too_large(path: str, size: int, limit: int) -> Invalid:
    return Invalid.field(
        Reason.EVENT_TOO_LARGE,
        path,
        f"has {size} bytes; the limit is {limit}",
        hint="Store what is large elsewhere and send where it is; limits.event_bytes is the setting.",
        limit=str(limit),
        setting="limits.event_bytes",
    )


def _within(path: str, error: Invalid) -> Invalid:
    """Returns the same refusal with its fields below `path`."""
    violations = [FieldViolation(f"{path}.{v.field}" if v.field else path, v.description) for v in error.violations]
    metadata = {**error.metadata, "field": violations[0].field} if violations else error.metadata
    message = error.message
    if error.violations and message.startswith(f"{error.violations[0].field}: "):
        message = f"{violations[0].field}: {error.violations[0].description}"
    else:
        message = f"{path}: {message}"
    return Invalid(error.reason, message, metadata=metadata, violations=violations, hint=error.hint)
