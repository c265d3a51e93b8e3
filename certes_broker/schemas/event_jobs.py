"""The validation of an event in a worker process, and what comes back of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from certes_broker.domain.events import AcceptedEvent, Micros, Original
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.system_events import SeenIn
from certes_broker.schemas.unknown_fields import UnknownField
from certes_broker.schemas.worker.jobs import Converted

FIELDS_TOLD: Final = 100
"""Unknown fields of one event that are told."""


def read_event(
    documents: EventDocuments, wire: bytes, now: Micros, path: str, rules: tuple[int, OpenNamespaces]
) -> Converted:
    """Validates an event as `EventReader.read` does; `rules` are the most bytes of an event, and which namespaces are open.

    Its bytes do not come back: they are what was sent, with what was appended to them.
    """
    drift = _Noticed()
    max_event_bytes, open_namespaces = rules
    reader = EventReader(
        documents.schemas, max_event_bytes=max_event_bytes, open_namespaces=open_namespaces, drift=drift
    )
    event = reader.read(wire, now, path)
    read = [event.type, event.id, event.source, event.subscriber, event.ordering_key, event.options]
    return Converted([*read, event.digest is not None, drift.fields], (event.body[len(wire) :], event.digest or b""))


def read_event_of(
    converted: Converted, wire: bytes, now: Micros, original: Original | None
) -> tuple[AcceptedEvent, list[UnknownField]]:
    """Reads what `read_event` returned for an event: the event, and fields in it that its schema does not know."""
    type_text, event_id, source, subscriber, ordering_key, options, has_digest, fields = converted.fact
    appended, digest = converted.blobs
    event = AcceptedEvent(
        wire + appended,
        type_text,
        event_id,
        source,
        subscriber,
        ordering_key,
        tuple((name, value) for name, value in options),
        now,
        digest if has_digest else None,
        original,
    )
    return event, [UnknownField(path, message) for path, message in fields]


class _Noticed:
    """Writes down what drift there is in one event."""

    def __init__(self) -> None:
        self.fields: list[UnknownField] = []

    def noticed(self, schema: EventSchema, fields: Iterable[UnknownField], seen_in: SeenIn) -> None:
        self.fields += islice(fields, FIELDS_TOLD)
