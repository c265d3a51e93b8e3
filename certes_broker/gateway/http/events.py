"""`POST /events`: CloudEvents in, structured, batched or binary. Validated as a whole, answered when durable."""

from __future__ import annotations

from typing import Final

import orjson

from certes.v1.event_pb2 import Event
from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import CertesError, Invalid, Reason, Unimplemented
from certes_broker.gateway.http.cloudevents import HEADER_PREFIX, CloudEventReader
from certes_broker.gateway.http.exchange import (
    Headers,
    Receive,
    Scope,
    Send,
    answer_json,
    headers_of,
    media_type,
    read_body,
)
from certes_broker.gateway.limits import MAXIMUM_EVENTS
from certes_broker.gateway.publishing import Publishing
from certes_broker.schemas.json_events import EventDocuments


class CloudEvents:
    """Takes CloudEvents. `max_bytes` bounds a body."""

    def __init__(self, broker: Broker, documents: EventDocuments, max_bytes: int) -> None:
        self._publishing = Publishing(broker.reader, broker.publisher, broker.names, broker.clock)
        self._reader = CloudEventReader(documents)
        self._max_bytes = max_bytes

    async def take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one POST. Raises `CertesError`; violations call the events `events[0]`, `events[1]` and so on."""
        headers = headers_of(scope)
        kind = media_type(headers)
        refused = _refusal_of(kind, headers)
        if refused is not None:
            raise refused
        document = _json(await read_body(receive, headers, self._max_bytes))
        if kind == _STRUCTURED:
            events = [self._reader.structured(document, "events[0]")]
        elif kind == _BATCH:
            events = self._batch(document)
        else:
            events = [self._reader.binary(scope["headers"], document, "events[0]")]
        # Deterministic, for the order of attributes: an event that is sent again must make the same bytes.
        wires = [event.SerializeToString(deterministic=True) for event in events]
        receipts = await self._publishing.store(await self._publishing.read_events(wires))
        names = self._publishing.names.names([receipt.position for receipt in receipts])
        results = [
            {"name": name, "id": receipt.id, "duplicate": receipt.duplicate}
            for name, receipt in zip(names, receipts, strict=True)
        ]
        await answer_json(send, 202, {"results": results})

    def _batch(self, document: object) -> list[Event]:
        if not isinstance(document, list):
            raise Invalid(Reason.MALFORMED_REQUEST, "a batch of CloudEvents is a JSON array.")
        return [
            self._reader.structured(item, f"events[{index}]")
            # One too many is enough to be refused for it.
            for index, item in enumerate(document[: MAXIMUM_EVENTS + 1])
        ]


_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_BINARY: Final = "application/json"


def _refusal_of(kind: str, headers: Headers) -> CertesError | None:
    """Says why a request cannot be CloudEvents; None if it can."""
    if kind in (_STRUCTURED, _BATCH):
        return None
    if kind.startswith("application/cloudevents"):
        return Unimplemented(Reason.NOT_BUILT, f"CloudEvents as {kind!r} are not built yet; send {_STRUCTURED}.")
    is_cloudevent = HEADER_PREFIX + b"specversion" in headers
    if kind == _BINARY and is_cloudevent:
        return None
    if is_cloudevent and kind in ("application/protobuf", "application/x-protobuf", "application/octet-stream"):
        return Unimplemented(Reason.NOT_BUILT, f"data as {kind!r} is not built yet; send {_BINARY}.")
    return Invalid(
        Reason.CONTENT_TYPE_UNSUPPORTED,
        f"events come as {_STRUCTURED}, as {_BATCH}, or as {_BINARY} with ce- headers, not as {kind[:100]!r}"
        f"{'' if is_cloudevent else ' without them'}.",
    )


def _json(body: bytes) -> object:
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(Reason.MALFORMED_REQUEST, f"the body is no JSON: {error}") from error
    return document
