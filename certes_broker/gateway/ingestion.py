"""Foreign webhooks into events: verify → (challenge) → map → convert → publish.

Theory of operation
-------------------
The order is the point: nothing is parsed before its sender is proven by the raw bytes, and whoever gets a receipt has a
durable event. What differs between providers is data (`domain/sources.py`, `provider.toml`); everything here is the same
for all. What the source and its provider say together is worked out once for each source, as its `WayIn`.

Rules
-----
* The same webhook always makes the same event, byte for byte: a provider that tries again makes a duplicate.
* What is kept with an event are the body as it came and the headers that matter, and of a payload that was refused, all
  headers; a credential is in neither.
* A payload that was refused and comes a second time takes the same way as the first time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from certes.v1.event_pb2 import Event
from certes_broker.broker.broker import Broker
from certes_broker.broker.conversion import JsonPayload
from certes_broker.broker.intake import LONG
from certes_broker.broker.publisher import Receipt
from certes_broker.domain.errors import AlreadyExists, FieldViolation, Internal, Invalid, PermissionDenied, Reason
from certes_broker.domain.events import AcceptedEvent, Micros, Original
from certes_broker.domain.mapped_webhook import MappedWebhook, Webhook, map_webhook, place_name
from certes_broker.domain.names import SubscriberName, parse_id
from certes_broker.domain.signature_schemes import NoScheme, SignatureScheme, credential_header, signature_headers
from certes_broker.domain.signatures import verify
from certes_broker.domain.sources import CUSTOM, Everyone, PayloadSubscriber, Provider, Source
from certes_broker.domain.webhook_headers import (
    HeaderPairs,
    WebhookHeaders,
    is_credential,
    is_of_connection,
    kept_with_event,
    kept_with_rejected,
)
from certes_broker.domain.webhook_mapping import WebhookMapping
from certes_broker.schemas.event_content import CONTENT_TYPE_BYTES
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.forms import FORM, INLINE_BYTES, form_payload
from certes_broker.schemas.system_events import SeenIn


class Arrival(NamedTuple):
    """A request as it arrived at a source. `content_type` and header values are Latin-1 text, header names lower-case."""

    content_type: str
    headers: WebhookHeaders
    body: bytes


@dataclass(frozen=True, slots=True)
class ChallengeAnswer:
    """What to answer to a challenge, which is no event."""

    text: str


class WayIn:
    """What a source and its provider say together of how a webhook comes in."""

    def __init__(
        self, source: Source, provider: Provider | None, scheme: SignatureScheme, mapping: WebhookMapping
    ) -> None:
        self.source: Final = source
        self.provider: Final = provider
        self.challenge: Final = provider.challenge if provider else None
        self.scheme: Final = scheme
        self.mapping: Final = mapping
        self.types: Final[Mapping[str, str]] = dict(mapping.types)
        self.paths: Final = (*mapping.paths, *(self.challenge.paths if self.challenge else ()))
        """What has to be known of the body."""
        self._kept: dict[str, bool] = {}
        """Whether a header is kept, by name; bounded, because anything can be sent."""

    def kept(self, pairs: HeaderPairs) -> tuple[tuple[str, str], ...]:
        """Returns the headers to keep with an event: what the provider says, or else what the mapping reads."""
        known = self._kept
        return kept_with_event(
            [pair for pair in pairs if (known[pair[0]] if pair[0] in known else self._keeps(pair[0]))]
        )

    def _keeps(self, name: str) -> bool:
        kept = self._is_wanted(name) and not is_credential(name, credential_header(self.scheme))
        if len(self._kept) < _REMEMBERED_HEADERS:
            self._kept[name] = kept
        return kept

    def _is_wanted(self, name: str) -> bool:
        if self.provider is None:
            return name in self.mapping.headers and not is_of_connection(name)
        return name in self.provider.kept_headers or name.startswith(self.provider.kept_prefixes)


class Ingestion:
    """Takes in the webhooks of all sources.

    `loopback` says whether the gateway that they come in by listens on loopback alone.
    """

    def __init__(self, broker: Broker, providers: Mapping[str, Provider], *, loopback: bool = True) -> None:
        self._broker = broker
        self._providers = providers
        self._loopback = loopback
        self._ways: dict[str, WayIn] = {}

    def prove(self, source: Source, arrival: Arrival, time: Micros) -> bool:
        """Proves that a secret of the source that verifies now was known to the sender, at `time` if that is signed too.

        Returns whether it is proven: a source without signatures takes what nothing proves the sender of.

        Raises `Unauthenticated` (SIGNATURE_INVALID), and `PermissionDenied` (INSECURE_LISTENER) for a source without
        signatures where other machines could reach it.
        """
        scheme = self._way(source).scheme
        if isinstance(scheme, NoScheme) and not self._loopback:
            raise PermissionDenied(
                Reason.INSECURE_LISTENER,
                f"the source {source.name!r} takes what nobody signed, and other machines can reach this gateway.",
                hint="Give the source a signature scheme, or let the gateway listen on loopback.",
            )
        secrets = source.secrets_at(self._broker.clock.now())
        verify(scheme, secrets, arrival.headers, arrival.body, time / 1_000_000)
        return not isinstance(scheme, NoScheme)

    async def ingest(self, source: Source, arrival: Arrival) -> Receipt | ChallengeAnswer:
        """Publishes what has arrived from a proven sender, or says what to answer to its challenge.

        Raises `Invalid` (CONTENT_TYPE_UNSUPPORTED, PAYLOAD_MALFORMED, PAYLOAD_UNMAPPABLE, FIELD_REQUIRED, FIELD_INVALID),
        and what publishing raises.
        """
        way = self._way(source)
        text = await self._json(way, arrival)
        payload = await self._broker.conversion.read(text, way.paths)
        values = dict(zip(way.paths, payload.values, strict=True))
        if way.challenge is not None:
            answer = way.challenge.answer_to(values)
            if answer is not None:
                return ChallengeAnswer(answer)
        mapped = map_webhook(way.mapping, way.types, Webhook(arrival.headers, arrival.body, values))
        schema = self._schema(way, mapped)
        event = _event(way, mapped)
        if isinstance(schema, str):
            # The namespace is open, and the type has no schema: what came is the content.
            event.raw.content_type, event.raw.bytes = _RAW, text
        else:
            data = await self._data(payload, schema, event)
            event.data.type_url, event.data.value = schema.type_url, data
        original = Original(arrival.content_type, way.kept(arrival.headers.pairs), arrival.body)
        return await self._publish(way, await self._accepted(event, original))

    async def take_again(self, source: Source, payload: Original, *, verified: bool, received: Micros) -> Receipt:
        """Takes in a payload that was refused when it was `received`, as if it came now.

        Where `verified` is false its signature must be genuine by the secrets of now, at the time when it was received.

        Raises what `prove` and `ingest` raise, and `Invalid` (PAYLOAD_UNMAPPABLE) for a challenge, which is no event.
        """
        arrival = Arrival(payload.content_type, WebhookHeaders(payload.headers), payload.body)
        if not verified:
            self.prove(source, arrival, received)
        outcome = await self.ingest(source, arrival)
        if isinstance(outcome, ChallengeAnswer):
            raise Invalid(
                Reason.PAYLOAD_UNMAPPABLE, "the payload is a challenge of the provider, which awaits an answer no more."
            )
        return outcome

    def without_credentials(self, source: Source, arrival: Arrival) -> Original:
        """Returns a payload that was refused as it may be kept: without credentials, its headers bounded."""
        way = self._way(source)
        needed = (*signature_headers(way.scheme), *way.mapping.headers)
        headers = kept_with_rejected(arrival.headers.pairs, needed, credential_header(way.scheme))
        return Original(arrival.content_type, headers, arrival.body)

    def _way(self, source: Source) -> WayIn:
        way = self._ways.get(source.name)
        if way is None or way.source is not source:
            if len(self._ways) >= _REMEMBERED:
                self._ways.clear()
            way = self._ways[source.name] = self._make_way(source)
        return way

    def _make_way(self, source: Source) -> WayIn:
        provider = self._providers.get(source.provider)
        signature = source.signature or (provider.signature if provider else None)
        mapping = source.mapping or (provider.mapping if provider else None)
        if signature is None or mapping is None:
            raise Internal(
                Reason.INTERNAL,
                f"the source {source.name!r} is of the provider {source.provider!r}, which this broker does not know.",
                hint="It was made by a newer broker, or a mapping or signature scheme of its own is missing.",
            )
        return WayIn(source, provider, signature, mapping)

    async def _json(self, way: WayIn, arrival: Arrival) -> bytes:
        """Returns the JSON text that a webhook holds."""
        kind = _media_type(arrival)
        if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
            return arrival.body
        # Any web page can send a form without asking first, so forms are taken where somebody signed them.
        if kind == FORM and not isinstance(way.scheme, NoScheme):
            body = arrival.body
            (text,) = (await self._broker.conversion.do(form_payload, body, heavy=len(body) > INLINE_BYTES)).blobs
            return text
        raise Invalid(
            Reason.CONTENT_TYPE_UNSUPPORTED,
            f"a webhook's body is application/json or a form, not {kind[:100]!r}.",
            hint="A form is not taken from a source without signatures." if kind == FORM else "",
        )

    async def _data(self, payload: JsonPayload, schema: EventSchema, event: Event) -> bytes:
        try:
            data = await payload.data(schema)
        except Invalid as error:
            raise Invalid(
                Reason.PAYLOAD_UNMAPPABLE,
                f"the payload is none of {event.type}: {error.message}",
                metadata=error.metadata,
                violations=error.violations,
                hint=error.hint,
            ) from error
        if data.new_keys:
            subscriber = None if event.everyone else event.subscriber
            self._broker.drift.found(schema, data.new_keys, SeenIn(event.source, event.id, subscriber))
        return data.value

    async def _accepted(self, event: Event, original: Original) -> AcceptedEvent:
        wire, now = event.SerializeToString(), self._broker.clock.now()
        if len(wire) < LONG:
            return self._broker.reader.accept(event, wire, now, original=original)
        return await self._broker.intake.read(wire, now, original=original)

    async def _publish(self, way: WayIn, event: AcceptedEvent) -> Receipt:
        try:
            (receipt,) = await self._broker.publisher.publish((event,))
        except AlreadyExists:
            if way.provider is None or not way.provider.retries_differ:
                raise
            # It may be kept no more, if it was trimmed or erased; it was taken all the same, and is not taken again.
            first = await self._broker.kept_events.position_of_id(event.source, event.id)
            if first is None:
                raise
            return Receipt(first, event.id, duplicate=True)
        return receipt

    def _schema(self, way: WayIn, mapped: MappedWebhook) -> EventSchema | str:
        """Returns the schema of a webhook's event type; its text where the namespace is open."""
        try:
            return self._broker.reader.schema(mapped.type)
        except Invalid as error:
            whose = way.source.provider if way.source.provider != CUSTOM else way.source.name
            raise Invalid(
                Reason.PAYLOAD_UNMAPPABLE,
                f"no event type is known for {mapped.event[:100]!r} webhooks of {whose}.",
                metadata={"event": mapped.event[:100], "type": mapped.type[:200]},
                hint=f"Deselect them at the provider. {error.hint}".strip(),
            ) from error


_REMEMBERED: Final = 4096
_REMEMBERED_HEADERS: Final = 64
_RAW: Final = "application/json"


def _event(way: WayIn, mapped: MappedWebhook) -> Event:
    """Makes the event of a webhook, but for its data."""
    event = Event(id=mapped.id, type=mapped.type, source=way.source.event_source, subject=mapped.subject)
    if mapped.time is not None:
        event.time.seconds, micros = divmod(mapped.time, 1_000_000)
        event.time.nanos = micros * 1_000
    match way.source.audience:
        case SubscriberName(subscriber):
            event.subscriber = subscriber
        case Everyone():
            event.everyone = True
        case PayloadSubscriber():
            event.subscriber = _subscriber(way.mapping, mapped.subscriber)
    return event


def _subscriber(mapping: WebhookMapping, named: str | None) -> str:
    """Returns the subscriber whom a webhook names. Raises `Invalid` (PAYLOAD_UNMAPPABLE) if that can be no subscriber's id."""
    where = place_name(mapping.subscriber) if mapping.subscriber else "the mapping"
    problem, description = "names no subscriber, whom the source's audience asks for", "names no subscriber"
    if named is not None:
        try:
            return parse_id(named)
        except Invalid as error:
            problem = description = f"holds no id of a subscriber: it {error.metadata['problem']}"
    raise Invalid(
        Reason.PAYLOAD_UNMAPPABLE,
        f"the payload cannot be mapped: {where} {problem}.",
        metadata={"field": where},
        violations=(FieldViolation(where, description),),
        hint="Give the source a fixed audience, or let the provider send only what is for somebody.",
    )


def _media_type(arrival: Arrival) -> str:
    """Returns what kind of body a webhook declares, in lower case, without parameters."""
    declared = arrival.content_type
    if arrival.headers.is_repeated("content-type"):
        raise Invalid(Reason.CONTENT_TYPE_UNSUPPORTED, "content-type came more than once.")
    if len(declared) > CONTENT_TYPE_BYTES:
        problem = f"content-type has {len(declared)} bytes; {CONTENT_TYPE_BYTES} are allowed."
        raise Invalid(Reason.CONTENT_TYPE_UNSUPPORTED, problem)
    return declared.partition(";")[0].strip().lower()
