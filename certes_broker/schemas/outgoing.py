"""The bodies of webhooks going out.

Rules
-----
* Rendering is pure: the same event gives the same bytes, so one rendering can serve all subscriptions of one format.
* Names and meaning of the attributes are CloudEvents'. What CloudEvents does not have goes out as extension attributes:
  `subscriber` or `everyone`, `orderingkey`, `traceparent`, `tracestate`, and the event's own attributes.
* "CloudEvents attribute names MUST consist of lower-case letters ('a' to 'z') or digits" (CloudEvents 1.0.2, 3.1), and
  ours may have underscores: those are left out of the name. An attribute never takes the place of one named above.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import gmtime, strftime
from typing import Final, assert_never

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Original
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.cloudevents_protobuf import CLOUDEVENTS_PROTOBUF_TYPE, cloud_event
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_out import Document
from certes_broker.schemas.json_text import read_json

CLOUDEVENTS_JSON_TYPE: Final = "application/cloudevents+json; charset=utf-8"
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One webhook body and the headers that belong to it. Header names are lower-case, values printable ASCII."""

    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class WebhookBodies:
    """Renders events as the bodies of webhooks."""

    def __init__(self, documents: EventDocuments) -> None:
        self._documents = documents

    def render(self, event: bytes, form: Format) -> Rendered:
        """Returns the body of an event in one format, and its headers, with the event's `traceparent` among them.

        `event` is its wire form. `ORIGINAL` is as `CLOUDEVENTS_BINARY` here: `original_body` is for events that have one.
        Raises `Invalid` if the event's schema is gone or does not fit.
        """
        message = Event.FromString(event)
        match form:
            case Format.CLOUDEVENTS_JSON:
                document: Document = {"specversion": "1.0", **_attributes(message), **self._content(message)}
                return Rendered(CLOUDEVENTS_JSON_TYPE, _trace(message), json_bytes(document))
            case Format.CLOUDEVENTS_PROTOBUF:
                body = cloud_event(message, _attributes(message))
                return Rendered(CLOUDEVENTS_PROTOBUF_TYPE, _trace(message), body)
            case Format.CLOUDEVENTS_BINARY | Format.ORIGINAL:
                attributes = {"specversion": "1.0", **_attributes(message)}
                headers = tuple((f"ce-{name}", _header_value(value)) for name, value in attributes.items())
                content_type, body = self._body(message)
                return Rendered(content_type, headers + _trace(message), body)
            case _:
                assert_never(form)

    def _content(self, event: Event) -> Document:
        """Returns what a structured event has of its data."""
        if not event.HasField("raw"):
            return {"datacontenttype": JSON_TYPE, "data": self._documents.data_document(event)}
        raw = event.raw
        if _is_json(raw.content_type):
            with suppress(Invalid):
                read_json(raw.bytes, Reason.DATA_MALFORMED)
                return {"datacontenttype": raw.content_type, "data": orjson.Fragment(raw.bytes)}
        # "the data is represented as a JSON string containing the Base64 encoded binary value" (JSON Event Format, 3.1.1)
        return {"datacontenttype": raw.content_type, "data_base64": b64encode(raw.bytes).decode()}

    def _body(self, event: Event) -> tuple[str, bytes]:
        """Returns the body of a binary event and its media type."""
        if event.HasField("raw"):
            return event.raw.content_type, event.raw.bytes
        return JSON_TYPE, json_bytes(self._documents.data_document(event))


def original_body(event: bytes, original: Original) -> Rendered:
    """Returns what came as it came, headers included. `event` is the wire form of the event that was made of it."""
    return Rendered(original.content_type, original.headers + _trace(Event.FromString(event)), original.body)


def json_bytes(document: Document | list[Document]) -> bytes:
    """Writes a JSON document as UTF-8."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        # It refuses what is nested more than 254 deep, which a hundred messages within messages can be.
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


_TRACE: Final = ("traceparent", "tracestate")
_RESERVED: Final = frozenset(
    {
        *("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"),
        *("subscriber", "everyone", "orderingkey", *_TRACE),
    }
)


def _trace(event: Event) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name in _TRACE if (value := getattr(event, name)))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON_TYPE or kind.endswith("+json")


def _attributes(event: Event) -> dict[str, str | bool]:
    """Returns the context attributes of an event, without `specversion` and what describes the data."""
    found: dict[str, str | bool] = {"id": event.id, "source": event.source, "type": event.type}
    if event.HasField("time"):
        found["time"] = _time(event.time)
    if event.subject:
        found["subject"] = event.subject
    match event.WhichOneof("audience"):
        case "subscriber":
            found["subscriber"] = event.subscriber
        case "everyone":
            found["everyone"] = event.everyone
        case None:
            pass
    if event.ordering_key:
        found["orderingkey"] = event.ordering_key
    if event.traceparent:
        found["traceparent"] = event.traceparent
    if event.tracestate:
        found["tracestate"] = event.tracestate
    if event.attributes:
        found.update(_extensions(event.attributes))
    return found


def _time(time: Timestamp) -> str:
    """Writes a time as `ToJsonString` does, in a third of the time for those that the broker sets itself."""
    seconds, nanos = time.seconds, time.nanos
    if seconds < 0 or nanos % 1000 or not nanos % 1_000_000:
        return time.ToJsonString()
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{nanos // 1000:06}Z"


def _extensions(attributes: Mapping[str, str]) -> dict[str, str]:
    # Sorted, for the order of a map is not kept, and so that of two names that become one the exact one comes last.
    names = sorted(attributes, key=lambda name: ("_" not in name, name))
    extensions = {name.replace("_", ""): attributes[name] for name in names}
    return {name: value for name, value in extensions.items() if name and name not in _RESERVED}


def _header_value(value: str | bool) -> str:  # noqa: FBT001 — an attribute can be a boolean
    """Writes an attribute as a header value.

    "Space (U+0020), Double-quote (U+0022), Percent (U+0025), Any characters outside the printable ASCII range of
    U+0021-U+007E inclusive" are percent-encoded. Source: HTTP Protocol Binding for CloudEvents 1.0.2, 3.1.3.2.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if value.isascii() and value.isprintable() and not _TO_ENCODE.intersection(value):
        return value
    return "".join(chr(byte) if byte in _PLAIN_BYTES else f"%{byte:02X}" for byte in value.encode())


_TO_ENCODE: Final = frozenset(' "%')
_PLAIN_BYTES: Final = frozenset(range(0x21, 0x7F)) - frozenset(b' "%')
