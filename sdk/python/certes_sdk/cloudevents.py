"""CloudEvents 1.0 over HTTP, in JSON: structured and binary (https://github.com/cloudevents/spec, 1.0.2)."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from certes.v1.delivery_pb2 import Delivery
from certes.v1.event_pb2 import Event
from certes_sdk.errors import CertesError, invalid
from certes_sdk.raw_event import MessageTypes, RawEvent
from certes_sdk.uris import parse_event_type

_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_JSON: Final = "application/json"
_PREFIX: Final = "ce-"
_REQUIRED: Final = ("id", "source", "type")
_DATA: Final = frozenset({"specversion", "datacontenttype", "dataschema", "data", "data_base64"})
_OWN: Final = frozenset(
    {*_REQUIRED, "time", "subject", "subscriber", "everyone", "orderingkey", "traceparent", "tracestate"}
)
_STRAY_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def read_event(headers: Mapping[str, str], body: bytes, types: MessageTypes) -> RawEvent:
    """Reads a webhook as an event. Names of `headers` are lower-case. Raises `PAYLOAD_MALFORMED`."""
    media_type = headers.get("content-type", "")
    kind = media_type.partition(";")[0].strip().lower()
    if kind == _STRUCTURED:
        document = _json(body)
        if not isinstance(document, dict):
            raise _malformed("a structured CloudEvent is a JSON object")
        return _structured(document, types)
    if kind == _BATCH:
        raise _malformed("a webhook has one event, and this is a batch")
    if f"{_PREFIX}specversion" not in headers:
        raise _malformed("it is no CloudEvent, neither structured nor binary")
    attributes: dict[str, object] = {
        name.removeprefix(_PREFIX): _decoded(name, value) for name, value in headers.items() if name.startswith(_PREFIX)
    }
    for name in ("traceparent", "tracestate"):
        if name in headers:
            attributes.setdefault(name, headers[name])
    event = _event(attributes)
    if _is_json(kind):
        data = _json(body)
        if isinstance(data, dict) and isinstance(data.get("specversion"), str):
            # The signature is of the body alone: what was signed as a structured event is not taken under other headers.
            raise _malformed("its body is a structured CloudEvent, and its headers say another one")
        return RawEvent(Delivery(), event, types, data)
    return _with_bytes(event, media_type, body, types)


def _structured(document: dict[str, object], types: MessageTypes) -> RawEvent:
    event = _event(document)
    content_type = _text(document, "datacontenttype") or _JSON
    data, encoded = document.get("data"), _text(document, "data_base64")
    if encoded is not None:
        if data is not None:
            raise _malformed("it has both data and data_base64")
        try:
            return _with_bytes(event, content_type, b64decode(encoded, validate=True), types)
        except (Base64Error, ValueError):
            raise _malformed("data_base64 is no base64") from None
    if _is_json(content_type.partition(";")[0].strip().lower()):
        return RawEvent(Delivery(), event, types, data)
    if not isinstance(data, str):
        raise _malformed(f"data of {content_type} is a text")
    return _with_bytes(event, content_type, data.encode(), types)


def _event(attributes: Mapping[str, object]) -> Event:
    """Makes an event of context attributes, without its content."""
    if _text(attributes, "specversion") != "1.0":
        raise _malformed("its specversion is not 1.0")
    for name in _REQUIRED:
        if not _text(attributes, name):
            raise _malformed(f"it has no {name}")
    try:
        event_type = parse_event_type(_text(attributes, "type") or "")
    except CertesError as error:
        raise _malformed(f"its type is no event URI: {error.message}") from None
    event = Event(
        id=_text(attributes, "id") or "",
        type=event_type,
        source=_text(attributes, "source") or "",
        subject=_text(attributes, "subject") or "",
        ordering_key=_text(attributes, "orderingkey") or "",
        traceparent=_text(attributes, "traceparent") or "",
        tracestate=_text(attributes, "tracestate") or "",
        attributes={
            name: text
            for name, value in attributes.items()
            if name not in _OWN and name not in _DATA and (text := _attribute(name, value)) is not None
        },
    )
    if (time := _text(attributes, "time")) is not None:
        try:
            event.time.FromJsonString(time)
        except ValueError:
            raise _malformed("its time is none of RFC 3339") from None
    if (subscriber := _text(attributes, "subscriber")) is not None:
        event.subscriber = subscriber
    elif attributes.get("everyone") in (True, "true"):
        event.everyone = True
    return event


def _with_bytes(event: Event, content_type: str, content: bytes, types: MessageTypes) -> RawEvent:
    event.raw.content_type = content_type
    event.raw.bytes = content
    return RawEvent(Delivery(), event, types)


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(f"its {name} is no text")
    return value


def _attribute(name: str, value: object) -> str | None:
    """Returns a further attribute as text; numbers and booleans of JSON become one."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case _:
            raise _malformed(f"its attribute {name} is neither text, integer nor boolean")


def _decoded(name: str, value: str) -> str:
    """Decodes the value of a `ce-` header (HTTP Protocol Binding, 3.1.3.2): bytes that are percent-encoded UTF-8."""
    try:
        encoded = value.encode("latin-1")
        if b"%" not in encoded:
            return encoded.decode()
        if _STRAY_PERCENT.search(encoded):
            raise _malformed(f"{name} has a percent sign that encodes nothing")
        return unquote_to_bytes(encoded).decode()
    except UnicodeError:
        raise _malformed(f"{name} is no UTF-8") from None


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        # UTF-8 alone: "JSON text exchanged between systems ... MUST be encoded using UTF-8" (RFC 8259, 8.1).
        raise _malformed("its body is no JSON") from None


def _is_json(kind: str) -> bool:
    return kind == _JSON or kind.endswith("+json")


def _malformed(why: str) -> CertesError:
    return invalid("PAYLOAD_MALFORMED", f"The webhook is signed, and is no event: {why}.")
