"""Posting: makes the signed request of one attempt and sends it, and asks for the consent that some need first.

Sources of the headers: Standard Webhooks, https://www.standardwebhooks.com, and for `webhook-request-…` CloudEvents, "HTTP 1.1 Web
Hooks for Event Delivery".
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from certes_broker.broker.conversion import Conversion
from certes_broker.broker.items import Item
from certes_broker.broker.names import PREFIX
from certes_broker.domain.consent import Granted, Withheld, read_consent
from certes_broker.domain.errors import CertesError, Exhausted, Reason, Unavailable
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.retry import parse_retry_after
from certes_broker.domain.signing import Signer, parse_signer, sign
from certes_broker.domain.subscriptions import WEBHOOK_CONNECT_TIMEOUT, Format, StoredSecret, WebhookDelivery
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Journal
from certes_broker.ports.sender import Method, Sender, SendFailure, SendRequest, SendResult
from certes_broker.schemas.outgoing import Rendered, original_body

USER_AGENT: Final = "Certes"
_PARSED: Final = 10_000
_ORIGIN: Final = "webhook-request-origin"
_RATE: Final = "webhook-request-rate"
_MINUTE: Final = 60.0


class Asked(NamedTuple):
    """What came of a question for consent that was asked at `time`.

    `answer` is None if it was a fault of the broker's that there is none, which `error` says for a person. `wait` is what the
    receiver's `Retry-After` asked for, in seconds.
    """

    time: Micros
    answer: Withheld | Granted | None
    wait: float | None = None
    error: str = ""


class Poster:
    """Renders, signs and sends."""

    def __init__(self, sender: Sender, conversion: Conversion, journal: Journal, clock: Clock, domain: str) -> None:
        self._sender = sender
        self._conversion = conversion
        self._rendering: dict[tuple[Position, Format], asyncio.Future[Rendered]] = {}
        self._journal = journal
        self._clock = clock
        self._domain = domain
        self._parsed: dict[str, Signer] = {}

    async def rendered(self, item: Item, form: Format) -> Rendered:
        """Returns the body of a delivery.

        Raises `Invalid` if the event cannot be rendered, and `Unavailable` or `Exhausted` if that cannot be done now: if its
        original cannot be read, or if it is large and there is no worker for it.
        """
        return item.body(form) or await self._rendered(item, form)

    async def post(self, item: Item, delivery: WebhookDelivery, rendered: Rendered) -> SendResult:
        """Sends one delivery, which was rendered for it, and returns what came of it."""
        return await self._send(delivery, f"msg_{item.name[len(PREFIX) :]}", rendered)

    async def test(self, delivery: WebhookDelivery, message_id: str) -> SendResult:
        """Sends one request that says it is a test."""
        document = {
            "specversion": "1.0",
            "id": message_id,
            "source": f"//{self._domain}",
            "type": f"{self._domain}/_/1/_test",
            "datacontenttype": "application/json",
            "data": {"message": "This is a test of your webhook subscription."},
        }
        body = json.dumps(document).encode()
        return await self._send(delivery, message_id, Rendered("application/cloudevents+json; charset=utf-8", (), body))

    async def ask(self, delivery: WebhookDelivery) -> Asked:
        """Asks a receiver for its consent, by a request that is signed as a delivery is."""
        asked_at = self._clock.now()
        message_id = f"msg_consent_{secrets.token_hex(12)}"
        headers = {"user-agent": USER_AGENT, **self._headers(delivery, message_id, b""), _ORIGIN: self._domain}
        if delivery.rate_limit is not None:
            headers[_RATE] = str(max(1, int(delivery.rate_limit.per_second * _MINUTE)))
        result = await self._sender.send(
            SendRequest(delivery.url, headers, b"", delivery.timeout, WEBHOOK_CONNECT_TIMEOUT, method=Method.OPTIONS)
        )
        now = self._clock.now()
        if result.failure is SendFailure.OURS:
            return Asked(asked_at, None, error=result.error)
        wait = result.headers.get("retry-after")
        return Asked(
            asked_at,
            read_consent(result.status, result.headers, result.error, self._domain, now),
            None if wait is None else parse_retry_after(wait, now / 1_000_000),
        )

    async def _rendered(self, item: Item, form: Format) -> Rendered:
        """Renders an event once for all who wait for it."""
        key = (item.entry.position, form)
        rendering = self._rendering.get(key)
        if rendering is not None:
            return await asyncio.shield(rendering)
        if not item.may_grow:
            raise Exhausted(
                Reason.BUFFER_FULL,
                "bodies of webhooks that are under way use up the memory for deliveries (limits.delivery_bytes).",
                retry_after=1.0,
            )
        rendering = self._rendering[key] = asyncio.get_running_loop().create_future()
        try:
            rendered = await self._render(item, form)
            item.keep(form, rendered)
            rendering.set_result(rendered)
        except BaseException as error:
            # If it is cancelled, the others may try again.
            unfinished = Unavailable(Reason.WORKER_UNAVAILABLE, "the body was not rendered to its end.")
            rendering.set_exception(error if isinstance(error, CertesError) else unfinished)
            rendering.exception()  # there may be nobody who asks
            raise
        finally:
            del self._rendering[key]
        return rendered

    async def _render(self, item: Item, form: Format) -> Rendered:
        if form is Format.ORIGINAL:
            original = await self._journal.original(item.entry.position)
            if original is not None:
                return original_body(item.entry.event.body, original)
        return await self._conversion.webhook_body(item.entry.event.body, form)

    async def _send(self, delivery: WebhookDelivery, message_id: str, rendered: Rendered) -> SendResult:
        headers = {
            "user-agent": USER_AGENT,
            # A foreign webhook that is handed on says itself who sent it.
            **dict(rendered.headers),
            **self._headers(delivery, message_id, rendered.body),
            "content-type": rendered.content_type,
        }
        if isinstance(delivery.consent, Granted):
            # "the sender MUST use the WebHook-Request-Origin request header for each delivery request, with the value matching that
            # of this header"
            headers[_ORIGIN] = delivery.consent.origin
        return await self._sender.send(
            SendRequest(delivery.url, headers, rendered.body, delivery.timeout, WEBHOOK_CONNECT_TIMEOUT)
        )

    def _headers(self, delivery: WebhookDelivery, message_id: str, body: bytes) -> dict[str, str]:
        """Returns what each request to a receiver has: its owner's own headers, and the signature."""
        now = self._clock.now()
        timestamp = now // 1_000_000
        signers = [self._signer(stored) for stored in signing_now(delivery.secrets, now)]
        return {
            **{header.name: header.value for header in delivery.headers},
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(signers, message_id, timestamp, body),
        }

    def _signer(self, stored: StoredSecret) -> Signer:
        parsed = self._parsed.get(stored.secret)
        if parsed is None:
            if len(self._parsed) >= _PARSED:
                self._parsed.clear()
            parsed = self._parsed[stored.secret] = parse_signer(stored.secret)
        return parsed


def signing_now(secrets: Sequence[StoredSecret], now: Micros) -> Sequence[StoredSecret]:
    """Returns the secrets that have not stopped signing, newest first."""
    return [secret for secret in secrets if secret.expire_time is None or secret.expire_time > now]
