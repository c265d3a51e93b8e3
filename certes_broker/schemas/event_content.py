"""What an event says: held against the schema of its type, or, in an open namespace, taken as it is.

Unknown fields are kept, for the bytes are. That a producer sends what its schema does not know is drift, and whoever watches
for it is told: of the first event of a type, and then of every sixteenth, since looking costs as much as reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from google.protobuf.message import DecodeError, Message

from certes.v1 import event_pb2
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.events import Options
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.event_schema import EventSchema, SchemaLookup
from certes_broker.schemas.system_events import SeenIn
from certes_broker.schemas.unknown_fields import UnknownField, unknown_fields

CONTENT_TYPE_BYTES: Final = 256
SAMPLED: Final = 16
"""Of how many events of a type one is looked at for drift."""


class DriftWatch(Protocol):
    """Is told of messages that have fields their schema does not know."""

    def noticed(self, schema: EventSchema, fields: Iterable[UnknownField], seen_in: SeenIn) -> None:
        """Takes note of the unknown fields of an event, which may still be refused. They are looked for as it asks."""


class EventContent:
    """Reads the content of events."""

    def __init__(self, registry: SchemaLookup, open_namespaces: OpenNamespaces, drift: DriftWatch | None) -> None:
        self._registry = registry
        self._open = open_namespaces
        self._drift = drift
        self._read: dict[str, int] = {}
        """How many events of a type were read; bounded by the types that there are."""
        self._known: dict[str, EventSchema | str] = {}
        """What may be published, by the spelling of its type, as long as the registry does not change; bounded."""
        self._known_as_of = registry.changes

    def schema(self, type_text: str) -> EventSchema | str:
        """Returns the schema of an event type that may be published, or, for a type of an open namespace, its text.

        Raises `Invalid`: `FIELD_REQUIRED`, `MALFORMED_URI`, `UNKNOWN_EVENT_TYPE`, `FIELD_INVALID` for a system event.
        """
        known = self._known.get(type_text)
        if known is not None and self._known_as_of == self._registry.changes:
            return known
        changes = self._registry.changes
        found = self._find(type_text)
        if self._known_as_of != changes or len(self._known) >= _REMEMBERED:
            self._known.clear()
            self._known_as_of = changes
        self._known[type_text] = found
        return found

    def _find(self, type_text: str) -> EventSchema | str:
        if not type_text:
            raise Invalid.field(Reason.FIELD_REQUIRED, "type", "is missing; it is the event URI of the event's type")
        try:
            schema = self._registry.lookup(type_text)
        except Invalid as error:
            if error.reason is Reason.UNKNOWN_EVENT_TYPE and (text := self._open_type(type_text)) is not None:
                return text
            raise at("type", error) from error
        if schema.is_system:
            raise Invalid.field(
                Reason.FIELD_INVALID, "type", f"{schema.type} is a system event, sent by the broker alone"
            )
        return schema

    def options(self, event: event_pb2.Event, schema: EventSchema, event_id: str) -> Options:
        """Returns the subscription options that an event of a registered type has values for.

        Raises `Invalid`: `RAW_NOT_ALLOWED`, `FIELD_REQUIRED`, `DATA_TYPE_MISMATCH`, `DATA_MALFORMED`.
        """
        data = event.data
        try:
            # Where it is absent its type_url is empty.
            usual = data.type_url == schema.type_url
            message = schema.decode(data.value) if usual else _parse_data(event, schema)
        except DecodeError:
            message = _parse_data(event, schema)
        if self._drift is not None:
            count = self._read.get(schema.type_text, 0)
            self._read[schema.type_text] = count + 1
            if not count % SAMPLED and schema.has_unknown(message):
                subscriber = None if event.everyone else event.subscriber
                seen_in = SeenIn(event.source, event_id, subscriber)
                self._drift.noticed(schema, unknown_fields(message), seen_in)
        return schema.options_of(message)

    def _open_type(self, type_text: str) -> str | None:
        event_type = parse_event_type(type_text)
        return event_type.text if self._open.has(event_type) else None


def check_open_content(event: event_pb2.Event) -> None:
    """Checks the content of an event that no schema describes. Raises `Invalid`: `FIELD_REQUIRED`, `FIELD_INVALID`."""
    match event.WhichOneof("content"):
        case "raw":
            content_type = event.raw.content_type
            if not content_type:
                raise Invalid.field(
                    Reason.FIELD_REQUIRED,
                    "raw.content_type",
                    "is missing; it is a media type, such as application/json",
                )
            if len(content_type) > CONTENT_TYPE_BYTES or not _MEDIA_TYPE.fullmatch(content_type):
                raise Invalid.field(Reason.FIELD_INVALID, "raw.content_type", "is no media type")
        case "data":
            if not event.data.type_url.rpartition("/")[2]:
                raise Invalid.field(Reason.FIELD_REQUIRED, "data.type_url", "is missing; it names the message")
        case _:
            raise Invalid.field(Reason.FIELD_REQUIRED, "raw", "is missing; send what the event says as raw or data")


def at(field: str, error: Invalid) -> Invalid:
    """Returns the same refusal with the field at fault, if it names none."""
    if error.violations:
        return error
    violation = FieldViolation(field, error.message)
    return Invalid(error.reason, error.message, metadata=error.metadata, violations=(violation,), hint=error.hint)


_REMEMBERED: Final = 4096
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_MEDIA_TYPE: Final = re.compile(rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*')


def _parse_data(event: event_pb2.Event, schema: EventSchema) -> Message:
    """Reads the data of an event whose type_url is not the usual one, or which does not decode, and says why it does not."""
    if not event.HasField("data"):
        raise _no_data(event, schema)
    try:
        return schema.parse(event.data.type_url, event.data.value)
    except Invalid as error:
        raise at("data", error) from error


def _no_data(event: event_pb2.Event, schema: EventSchema) -> Invalid:
    if event.HasField("raw"):
        return Invalid.field(
            Reason.RAW_NOT_ALLOWED,
            "raw",
            f"{schema.type} has a schema, and its subscribers expect a {schema.message_name}",
            hint="Send data.",
        )
    return Invalid.field(Reason.FIELD_REQUIRED, "data", f"is missing; {schema.type} holds a {schema.message_name}")
