"""The conversions that are done in a worker process where they are large, each a function that can be called there by name.

What they return is written down as `Converted`; `schemas/worker/jobs.py` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from google.protobuf.message import Message

from certes_broker.domain.errors import Reason
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_text import read_json, read_object
from certes_broker.schemas.outgoing import Rendered, WebhookBodies, json_bytes
from certes_broker.schemas.unknown_keys import UnknownKeys
from certes_broker.schemas.worker.jobs import Converted

Path: TypeAlias = tuple[str, ...]
"""Keys, from the outermost object inwards."""
JsonScalar: TypeAlias = str | int | float | bool | None

INLINE_BYTES: Final = 128 * 1024
"""What is longer takes so long to convert that a worker does it: this much takes two milliseconds, or twice that when memory
is cold."""
SMALL_BYTES: Final = 12 * 1024
"""What is no longer than this takes no more than a few milliseconds whatever it holds, a careful look included."""
_OBJECT_COST, _ITEM_COST, _BYTE_COST = 2.0, 0.1, 0.003
_MOST_COST: Final = 5_000.0


def is_heavy(body: bytes) -> bool:
    """Says whether a JSON text may take more than a few milliseconds to convert: it is long, or has very many objects."""
    size = len(body)
    if size <= SMALL_BYTES:
        return False
    if size > INLINE_BYTES:
        return True
    # In microseconds, at most.
    return body.count(_OBJECT) * _OBJECT_COST + body.count(_COMMA) * _ITEM_COST + size * _BYTE_COST > _MOST_COST


_OBJECT: Final = ord("{")
_COMMA: Final = ord(",")


def payload_values(_documents: EventDocuments, body: bytes, paths: Sequence[Path], reason: Reason) -> Converted:
    """Reads a body that must be a JSON object, and returns what stands in it at some paths."""
    document = read_object(body, reason)
    return Converted([value_at(document, path) for path in paths])


def payload_data(documents: EventDocuments, body: bytes, type_text: str) -> Converted:
    """Reads a body, which is a JSON object, as the message of an event type. The fact: its unknown keys."""
    schema = documents.schemas.lookup(type_text)
    message, unknown = schema.from_json_noting(read_object(body, Reason.PAYLOAD_MALFORMED), UnknownKeys(), careful=True)
    return Converted([[key.path, key.message] for key in unknown], (schema.encode(message),))


def request_wire(documents: EventDocuments, body: bytes, message_class: type[Message]) -> Converted:
    """Reads a body as a message of the contract."""
    message = documents.read(message_class, read_json(body, Reason.MALFORMED_REQUEST))
    return Converted(blobs=(message.SerializeToString(deterministic=True),))


def answer_json(documents: EventDocuments, wire: bytes, message_class: type[Message]) -> Converted:
    """Writes a message of the contract as JSON."""
    return Converted(blobs=(json_bytes(documents.document(message_class.FromString(wire))),))


def webhook_body(documents: EventDocuments, event: bytes, form: Format) -> Converted:
    """Renders an event as the body of a webhook."""
    rendered = WebhookBodies(documents).render(event, form)
    return Converted([rendered.content_type, rendered.headers], (rendered.body,))


def rendered_of(converted: Converted) -> Rendered:
    """Reads what `webhook_body` returned."""
    content_type, headers = converted.fact
    (body,) = converted.blobs
    return Rendered(content_type, tuple((name, value) for name, value in headers), body)


def value_at(document: object, path: Path) -> JsonScalar:
    """Returns what stands at a path; None where there is nothing, or an object or an array."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document if isinstance(document, str | int | float) else None
