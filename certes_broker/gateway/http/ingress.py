"""`POST /events/{source}`: foreign webhooks in.

What arrives is taken in by `gateway/ingestion.py`; here are the request and its answer. 202 says that the event is durable,
and that of a provider's retry, which carries the same delivery id, that it is a duplicate of the first. 200 answers a
provider's challenge.

A source that keeps what it refuses hands such a payload over to be kept when it answers, and the answer does not wait for
it: whoever sends must not find out how busy storage is. As anybody can send what is refused, no more than so many payloads
are being kept at once, and what comes beyond them is answered the same and lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson

from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import CertesError, Invalid, Reason
from certes_broker.domain.sources import Source
from certes_broker.domain.webhook_headers import WebhookHeaders
from certes_broker.gateway.errors import http_status
from certes_broker.gateway.http.exchange import (
    JSON,
    Receive,
    Scope,
    Send,
    answer,
    answer_refusal,
    read_body,
)
from certes_broker.gateway.ingestion import Arrival, ChallengeAnswer, Ingestion
from certes_broker.observability.arrivals import refusals

MAXIMUM_KEPT_AT_ONCE: Final = 256
MAXIMUM_BYTES_KEPT_AT_ONCE: Final = 16 << 20
"""What may wait for storage: as much as comes while it takes its time once."""


class Ingress:
    """Takes the webhooks of all sources. `max_bytes` bounds a body."""

    def __init__(self, broker: Broker, ingestion: Ingestion, max_bytes: int) -> None:
        self._broker = broker
        self._ingestion = ingestion
        self._max_bytes = max_bytes
        self._keeping = 0
        self._keeping_bytes = 0

    async def take(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one POST to the source called `name`, and counts what becomes of it.

        Raises `NotFound` (SOURCE_NOT_FOUND), `ClientGone`, `Invalid` for a body that cannot be read (PAYLOAD_TOO_LARGE,
        PAYLOAD_MALFORMED, CONTENT_TYPE_UNSUPPORTED), and what `Ingestion` raises where the payload is not to be kept.
        """
        with refusals(self._broker.arrivals.webhooks_rejected):
            await self._take(name, scope, receive, send)

    async def _take(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._broker.sources.get(name)
        raw: Sequence[tuple[bytes, bytes]] = scope["headers"]
        _check_encoding(raw)
        body = await read_body(receive, dict(raw), self._max_bytes)
        # Again, for the body may have taken its time: what was deleted, or a secret that was withdrawn, is so at once.
        source = self._broker.sources.get(name)
        headers = WebhookHeaders(
            [(key.decode("latin-1"), value.decode("latin-1")) for key, value in raw if key not in _TRANSFER]
        )
        arrival = Arrival(headers.get("content-type") or "", headers, body)
        verified = False
        try:
            verified = self._ingestion.prove(source, arrival, self._broker.clock.now())
            outcome = await self._ingestion.ingest(source, arrival)
        except CertesError as error:
            if not self._is_to_be_kept(source, error):
                raise
            self._broker.arrivals.webhooks_rejected[error.reason.value] += 1
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(source, error, arrival, verified=verified))
                await answer_refusal(send, error)
            return
        if isinstance(outcome, ChallengeAnswer):
            await answer(send, 200, _TEXT, outcome.text.encode(errors="replace"), _AS_DECLARED)
            return
        self._broker.arrivals.took_webhook(source.name)
        told = {"name": self._broker.names.name(outcome.position), "id": outcome.id, "duplicate": outcome.duplicate}
        await answer(send, 202, JSON, orjson.dumps(told))

    def _is_to_be_kept(self, source: Source, error: CertesError) -> bool:
        """Says whether a refused payload is kept: one that would be refused again the same, and is not simply too large."""
        status = http_status(error)
        return source.keep_rejected and 400 <= status < 500 and status not in _NOT_KEPT

    async def _keep(self, source: Source, error: CertesError, arrival: Arrival, *, verified: bool) -> None:
        if self._broker.sources.find(source.name) is None:
            return  # It was deleted meanwhile, with all that it had refused.
        size = len(arrival.body)
        if self._keeping >= MAXIMUM_KEPT_AT_ONCE or self._keeping_bytes + size > MAXIMUM_BYTES_KEPT_AT_ONCE:
            self._broker.rejected.lose(source.name, error, "too many at once")
            return
        self._keeping += 1
        self._keeping_bytes += size
        try:
            payload = self._ingestion.without_credentials(source, arrival)
            await self._broker.rejected.keep(source.name, error, payload, verified=verified)
        finally:
            self._keeping -= 1
            self._keeping_bytes -= size


_TRANSFER: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers that say how the body was carried, which is over once it was read."""
_TEXT: Final = b"text/plain; charset=utf-8"
_AS_DECLARED: Final = ((b"x-content-type-options", b"nosniff"),)
_NOT_KEPT: Final = frozenset({404, 413, 429})


def _check_encoding(headers: Sequence[tuple[bytes, bytes]]) -> None:
    if sum(name == b"content-encoding" for name, _ in headers) > 1:
        raise Invalid(Reason.CONTENT_TYPE_UNSUPPORTED, "content-encoding came more than once.")
