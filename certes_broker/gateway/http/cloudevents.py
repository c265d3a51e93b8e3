"""CloudEvents 1.0 in: JSON documents and `ce-` headers become events of the contract.

The attributes that CloudEvents and `certes.v1.Event` both have keep their names and meaning; `type` is the event URI.
Whom an event is for is said by an extension attribute, `subscriber` or `everyone`, its ordering key by `orderingkey`. Any
other extension attribute, and `dataschema`, becomes one of the event's `attributes`.

Data that is JSON is read by the schema of the event's type, data that is protobuf is taken as its message. What has no schema,
and any other content, becomes raw content, which is taken in open namespaces alone.

Sources: CloudEvents 1.0.2; its JSON Event Format; its HTTP Protocol Binding.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from google.protobuf.timestamp_pb2 import Timestamp

from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway.limits import MAXIMUM_EVENTS
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_text import read_json
from certes_broker.schemas.worker.jobs import Converted

HEADER_PREFIX: Final = b"ce-"
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
BINARY: Final = "application/json"
PROTOBUF: Final = frozenset(("application/protobuf", "application/x-protobuf"))
_BYTES: Final = "application/octet-stream"


def event_wires(documents: EventDocuments, body: bytes, kind: str, headers: Headers) -> Converted:
    """Reads a request's body as events, and returns the wire form of each. `kind` is one of the media types above.

    The headers are those that begin with `ce-`. Violations call the events `events[0]`, `events[1]` and so on; see
    `CloudEventReader` for what is raised.
    """
    reader = CloudEventReader(documents)
    if kind == STRUCTURED:
        events = [reader.structured(read_json(body, Reason.MALFORMED_REQUEST), "events[0]")]
    elif kind == BATCH:
        events = _batch(reader, read_json(body, Reason.MALFORMED_REQUEST))
    else:
        events = [reader.binary(headers, kind, body, "events[0]")]
    # Deterministic, for the order of attributes: an event that is sent again must make the same bytes.
    return Converted(blobs=tuple([event.SerializeToString(deterministic=True) for event in events]))


def _batch(reader: CloudEventReader, document: object) -> list[Event]:
    if not isinstance(document, list):
        raise Invalid(Reason.MALFORMED_REQUEST, "a batch of CloudEvents is a JSON array.")
    return [
        reader.structured(item, f"events[{index}]")
        # One too many is enough to be refused for it.
        for index, item in enumerate(document[: MAXIMUM_EVENTS + 1])
    ]


class CloudEventReader:
    """Reads CloudEvents as events. Paths in violations name attributes as CloudEvents spells them."""

    def __init__(self, documents: EventDocuments) -> None:
        self._documents = documents

    def structured(self, document: object, path: str) -> Event:
        """Reads one JSON document.

        Raises `Invalid` (FIELD_REQUIRED, FIELD_INVALID, MALFORMED_REQUEST and what reading `data` raises).
        """
        if not isinstance(document, dict):
            raise Invalid(Reason.MALFORMED_REQUEST, f"{path}: a CloudEvent is a JSON object.")
        members = cast("dict[str, object]", document)
        attributes = {
            # "a JSON null ... MUST be treated as though the attribute was not present" (JSON Event Format, 2.2)
            name: _text(value, f"{path}.{name}")
            for name, value in members.items()
            if name not in _CONTENT and value is not None
        }
        event, media_type = self._event(attributes, path)
        data, encoded = members.get("data"), members.get("data_base64")
        if encoded is None:
            self._put_data(event, media_type or BINARY, data, path)
        elif data is not None:
            raise Invalid.field(Reason.FIELD_INVALID, f"{path}.data_base64", "data and data_base64 exclude each other")
        else:
            self._put_bytes(event, media_type or _BYTES, _decoded_base64(encoded, f"{path}.data_base64"), path)
        return event

    def binary(self, headers: Headers, media_type: str, body: bytes, path: str) -> Event:
        """Reads headers, which all begin with `ce-`, and the data in the body; raises as `structured` does."""
        attributes: dict[str, str] = {}
        for name, value in headers:
            attribute = name.removeprefix(HEADER_PREFIX).decode("latin-1")
            if attribute in attributes:
                raise Invalid.field(Reason.FIELD_INVALID, f"{path}.{attribute}", "its header is there more than once")
            attributes[attribute] = _decoded(value, f"{path}.{attribute}")
        event, _ = self._event(attributes, path)
        self._put_bytes(event, media_type, body, path)
        return event

    def _put_data(self, event: Event, media_type: str, data: object, path: str) -> None:
        if data is None:
            return
        if _is_json(media_type):
            self._documents.put_data(event, data, f"{path}.data", f"{path}.type")
        elif isinstance(data, str):
            event.raw.content_type, event.raw.bytes = media_type, data.encode()
        else:
            raise Invalid.field(
                Reason.FIELD_INVALID, f"{path}.data", f"is JSON, but datacontenttype says that it is {media_type[:100]}"
            )

    def _put_bytes(self, event: Event, media_type: str, data: bytes, path: str) -> None:
        if _is_json(media_type):
            self._put_data(event, media_type, read_json(data, Reason.MALFORMED_REQUEST), path)
            return
        if media_type in PROTOBUF:
            with suppress(Invalid):  # whose type has no schema is judged by whoever validates the event
                event.data.type_url = self._documents.schemas.lookup(event.type).type_url
                event.data.value = data
                return
        event.raw.content_type, event.raw.bytes = media_type, data

    def _event(self, attributes: Mapping[str, str], path: str) -> tuple[Event, str]:
        """Returns an event without its content, and the media type of that; empty if it is not said."""
        rest = dict(attributes)
        version = rest.pop("specversion", None)
        if version != "1.0":
            raise Invalid.field(
                Reason.FIELD_REQUIRED if version is None else Reason.FIELD_INVALID,
                f"{path}.specversion",
                "is missing; it must be 1.0"
                if version is None
                else f"must be 1.0; {version[:20]!r} is not spoken here",
            )
        for name in ("id", "source", "type"):
            if not rest.get(name):
                raise Invalid.field(Reason.FIELD_REQUIRED, f"{path}.{name}", "a CloudEvent has one")
        media_type = rest.pop("datacontenttype", "")
        event = Event()
        for name in _SAME.keys() & rest.keys():
            setattr(event, _SAME[name], rest.pop(name))
        if "time" in rest:
            event.time.CopyFrom(_time(rest.pop("time"), f"{path}.time"))
        everyone = rest.pop("everyone", None)
        if everyone is not None:
            _set_everyone(event, everyone, f"{path}.everyone")
        for name, value in rest.items():
            if not _NAME.fullmatch(name):
                raise Invalid.field(
                    Reason.FIELD_INVALID, f"{path}.{name[:100]}", "attributes are named by a-z and 0-9 alone"
                )
            event.attributes[name] = value
        return event, media_type


Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
_CONTENT: Final = frozenset(("data", "data_base64"))
_NAME: Final = re.compile(r"[a-z0-9]+")
_SAME: Final[Mapping[str, str]] = {
    "id": "id",
    "source": "source",
    "type": "type",
    "subject": "subject",
    "subscriber": "subscriber",
    "orderingkey": "ordering_key",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
"""Attributes of CloudEvents, and the fields of `Event` that take them as they are."""


def _set_everyone(event: Event, value: str, path: str) -> None:
    if value != "true":
        raise Invalid.field(Reason.FIELD_INVALID, path, "can only be true; leave it out and name a subscriber instead")
    if event.HasField("subscriber"):
        raise Invalid.field(Reason.FIELD_INVALID, path, "an event is for a subscriber or for everyone, not for both")
    event.everyone = True


def _time(text: str, path: str) -> Timestamp:
    time = Timestamp()
    try:
        time.FromJsonString(text)
    except ValueError as error:
        raise Invalid.field(Reason.FIELD_INVALID, path, f"is no RFC 3339 timestamp: {error}") from error
    return time


def _text(value: object, path: str) -> str:
    """Returns the canonical string of an attribute. Source: CloudEvents 1.0.2, "Type System"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise Invalid.field(Reason.FIELD_INVALID, path, "an attribute is a string, a boolean or an integer")


def _decoded(value: bytes, path: str) -> str:
    """Reads a header value. Source: HTTP Protocol Binding, 3.1.3.2."""
    try:
        text = unquote_to_bytes(_unquoted(value)).decode()
    except UnicodeDecodeError as error:
        raise Invalid.field(Reason.FIELD_INVALID, path, "its header is no percent-encoded UTF-8") from error
    return text


def _unquoted(value: bytes) -> bytes:
    # "any double-quoted … MUST first be unquoted": senders of earlier versions quote values that have spaces.
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        return re.sub(rb"\\(.)", rb"\1", value[1:-1])
    return value


def _is_json(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind == BINARY or kind.endswith("+json")


def _decoded_base64(encoded: object, path: str) -> bytes:
    if not isinstance(encoded, str):
        raise Invalid.field(Reason.FIELD_INVALID, path, "is a text in base64")
    try:
        return b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        raise Invalid.field(Reason.FIELD_INVALID, path, "is not base64") from None
