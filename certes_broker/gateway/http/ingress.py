"""`POST /events/{source}`: foreign webhooks in.

verify → convert → publish → 202. The order is the point: nothing is parsed before the signature over the raw bytes is
found genuine, and nothing is answered 2xx before the event is durable. A provider's retry carries the same delivery id
and is answered 202 again, as a duplicate of the first.

A body is parsed in the event loop: 8 KB take 10 µs, the limit of 1 MiB some milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import parse_qsl

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.v1.event_pb2 import Event
from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import AcceptedEvent, Original
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.sources import Source
from certes_broker.gateway.http.exchange import (
    JSON,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    headers_of,
    media_type,
    read_body,
)
from certes_broker.gateway.http.providers import PROVIDERS, ProviderFacts


class Ingress:
    """Takes the webhooks of all sources. `max_bytes` bounds a body."""

    def __init__(self, broker: Broker, max_bytes: int) -> None:
        self._broker = broker
        self._max_bytes = max_bytes

    async def take(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one POST to the source called `name`.

        Raises `NotFound` (SOURCE_NOT_FOUND), `Unauthenticated` (SIGNATURE_INVALID), `Invalid` (PAYLOAD_TOO_LARGE,
        PAYLOAD_MALFORMED, PAYLOAD_UNMAPPABLE, CONTENT_TYPE_UNSUPPORTED, FIELD_REQUIRED), and what publishing raises.
        """
        source = self._broker.sources.get(name)
        facts = PROVIDERS[source.provider]
        headers = headers_of(scope)
        read_payload = _PAYLOAD_READERS.get(media_type(headers))
        if read_payload is None:
            raise Invalid(
                Reason.CONTENT_TYPE_UNSUPPORTED,
                f"a webhook's body is application/json or a form, not {media_type(headers)[:100]!r}.",
            )
        body = await read_body(receive, headers, self._max_bytes)
        signature = headers.get(facts.signature_header)
        secrets = [secret.encode() for secret in source.secrets_at(self._broker.clock.now())]
        facts.verify(secrets, None if signature is None else signature.decode("latin-1"), body)
        event = self._event(source, facts, headers, read_payload(body))
        accepted = self._accept(
            event, Original((headers[b"content-type"]).decode("latin-1"), facts.kept(scope["headers"]), body)
        )
        (receipt,) = await self._broker.publisher.publish((accepted,))
        told = {"name": self._broker.names.name(receipt.position), "id": receipt.id, "duplicate": receipt.duplicate}
        await answer(send, 202, JSON, orjson.dumps(told))

    def _event(self, source: Source, facts: ProviderFacts, headers: Headers, payload: Mapping[str, object]) -> Event:
        event_name = _required(headers, facts.event_header)
        delivery_id = _required(headers, facts.id_header)
        event_type = facts.type_prefix + event_name
        try:
            schema = self._broker.registry.lookup(event_type)
        except Invalid as error:
            raise Invalid(
                Reason.PAYLOAD_UNMAPPABLE,
                f"no event type is known for {event_name[:100]!r} webhooks of {source.provider}.",
                metadata={"event": event_name[:100], "type": event_type[:200]},
                hint=f"Deselect them at the provider. {error.hint}".strip(),
            ) from error
        try:
            message = schema.from_json(payload)
        except Invalid as error:
            raise Invalid(
                Reason.PAYLOAD_UNMAPPABLE,
                f"the payload is none of {event_type}: {error.message}",
                metadata=error.metadata,
                violations=error.violations,
            ) from error
        event = Event(
            id=delivery_id,
            type=event_type,
            source=source.event_source,
            subject=facts.subject(payload),
            # Deterministic, so that a redelivery makes the same bytes and is seen as a duplicate.
            data=AnyMessage(type_url=schema.type_url, value=message.SerializeToString(deterministic=True)),
        )
        if isinstance(source.audience, SubscriberName):
            event.subscriber = source.audience.subscriber
        else:
            event.everyone = True
        return event

    def _accept(self, event: Event, original: Original) -> AcceptedEvent:
        broker = self._broker
        return broker.reader.read(event.SerializeToString(), broker.clock.now(), "event", original=original)


def _required(headers: Headers, name: bytes) -> str:
    value = headers.get(name, b"").decode("latin-1")
    if not value:
        raise Invalid.field(Reason.FIELD_REQUIRED, name.decode(), "the header is missing")
    return value


def _json_payload(body: bytes) -> Mapping[str, object]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(Reason.PAYLOAD_MALFORMED, f"the payload is no JSON: {error}") from error
    if not isinstance(payload, dict):
        raise Invalid(Reason.PAYLOAD_MALFORMED, "the payload is JSON, but no object.")
    return cast("dict[str, object]", payload)


def _form_payload(body: bytes) -> Mapping[str, object]:
    """Reads a form with the JSON document in its field `payload`, which GitHub sends where it is so configured."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Invalid(Reason.PAYLOAD_MALFORMED, f"the body is no form: {error}") from error
    payloads = [value for name, value in fields if name == "payload"]
    if len(payloads) != 1:
        raise Invalid(Reason.PAYLOAD_MALFORMED, "a form has the webhook in one field named 'payload'.")
    return _json_payload(payloads[0].encode())


_MOST_FIELDS: Final = 16
_PAYLOAD_READERS: Final = {"application/json": _json_payload, "application/x-www-form-urlencoded": _form_payload}
