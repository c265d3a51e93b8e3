"""`POST /events`: CloudEvents in, structured, batched or binary. Validated as a whole, answered when durable."""

from __future__ import annotations

from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import CertesError, Invalid, Reason, Unimplemented
from certes_broker.gateway.http.cloudevents import BATCH, BINARY, HEADER_PREFIX, PROTOBUF, STRUCTURED, event_wires
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
from certes_broker.gateway.publishing import Publishing
from certes_broker.observability.arrivals import refusals
from certes_broker.schemas.json_jobs import is_heavy


class CloudEvents:
    """Takes CloudEvents. `max_bytes` bounds a body."""

    def __init__(self, broker: Broker, max_bytes: int) -> None:
        self._publishing = Publishing(broker.intake, broker.publisher, broker.names, broker.clock)
        self._refused = broker.arrivals.publishes_refused
        self._conversion = broker.conversion
        self._max_bytes = max_bytes

    async def take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one POST. Raises `CertesError`; violations call the events `events[0]`, `events[1]` and so on."""
        with refusals(self._refused):
            await self._take(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        kind = media_type(headers)
        refused = _refusal_of(kind, headers)
        if refused is not None:
            raise refused
        body = await read_body(receive, headers, self._max_bytes)
        attributes = tuple([pair for pair in scope["headers"] if pair[0].startswith(HEADER_PREFIX)])
        wires = (await self._conversion.do(event_wires, body, kind, attributes, heavy=is_heavy(body))).blobs
        receipts = await self._publishing.store(await self._publishing.read_events(wires))
        names = self._publishing.names.names(receipts.positions)
        results = [
            {"name": name, "id": receipt.id, "duplicate": receipt.duplicate}
            for name, receipt in zip(names, receipts, strict=True)
        ]
        await answer_json(send, 202, {"results": results})


def _refusal_of(kind: str, headers: Headers) -> CertesError | None:
    """Says why a request cannot be CloudEvents; None if it can."""
    if kind in (STRUCTURED, BATCH):
        return None
    if kind.startswith("application/cloudevents"):
        return Unimplemented(Reason.NOT_BUILT, f"CloudEvents as {kind!r} are not built yet; send {STRUCTURED}.")
    is_cloudevent = HEADER_PREFIX + b"specversion" in headers
    if is_cloudevent and (kind == BINARY or kind in PROTOBUF):
        return None
    return Invalid(
        Reason.CONTENT_TYPE_UNSUPPORTED,
        f"events come as {STRUCTURED}, as {BATCH}, or with ce- headers as {BINARY} or protobuf, not as {kind[:100]!r}"
        f"{'' if is_cloudevent else ' without them'}.",
    )
