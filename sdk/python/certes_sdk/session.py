"""A client in one event loop: its connection, its tasks, and what they do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import Message

from certes.v1.event_service_pb2 import PublishResponse
from certes.v1.subscription_pb2 import Selector, StreamDelivery, Subscription, Webhook
from certes.v1.subscription_service_pb2 import UpdateSubscriptionRequest, UpdateSubscriptionResponse
from certes_sdk.background import Background
from certes_sdk.clock import Clock
from certes_sdk.coalescing import Entry, Receipt
from certes_sdk.connection import Connection, Finder, is_passing
from certes_sdk.errors import CertesError
from certes_sdk.handlers import Handlers
from certes_sdk.handling import Handling
from certes_sdk.message_types import KnownMessages
from certes_sdk.outgoing import Head, Outgoing, encode, head_of, publish_request
from certes_sdk.publishing import PATIENCE, Publisher, closed, timed_out
from certes_sdk.settings import Settings
from certes_sdk.signing_keys import SigningKeys
from certes_sdk.subscription_stream import SubscriptionStream
from certes_sdk.webhooks import Answer, Headers, Webhooks, refusal

ENSURING_PATIENCE: Final = 30.0
DRAINING: Final = 30.0
"""Seconds that `close` waits for what is under way."""

_CALL_TIMEOUT: Final = 20.0

_log: Final = logging.getLogger("certes")


class Session:
    """One client in one event loop. It asks nobody for anything until it is used."""

    def __init__(self, settings: Settings, handlers: Handlers, clock: Clock, finder: Finder | None = None) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._settings = settings
        self._handlers = handlers
        self._clock = clock
        self._connection = Connection(settings, clock, finder)
        self._types = KnownMessages(lambda: self._connection.domain)
        self._heads: dict[type[Message], Head] = {}
        self._background = Background(self._end)
        self._handling = Handling(handlers, settings.concurrency, self._background)
        self._publisher = Publisher(self._connection, clock)
        self._publishing = False
        self._line = asyncio.Lock()
        self._streams: dict[str, SubscriptionStream] = {}
        self._ensured: dict[str, None] = {}
        self._running = False
        self._stopped = asyncio.Event()
        self._fate: CertesError | None = None
        self._closing = False
        self._calls_over = False
        """Whether nobody may publish any more. Until they have ended, handlers may."""
        self._keys = SigningKeys(settings.keys, self._webhook_subscriptions, self._connection, clock)
        self._webhooks = Webhooks(self._keys, self._handling, self._types, clock)

    def begin(self, event: Outgoing) -> Entry | None:
        """Begins to publish an event, whose outcome is its `answer`; None where something has to be waited for first: `publish`.

        Raises `CertesError`.
        """
        head = self._heads.get(type(event.message))
        if head is None or self._line.locked() or self._calls_over:
            return None
        entry = encode(head, event)
        return entry if self._publisher.begin(entry) else None

    @property
    def trouble(self) -> CertesError | None:
        """What stood in the way of publishing the last time."""
        return self._publisher.trouble

    def give_up(self, entry: Entry) -> None:
        """Notes that nobody waits any more for what was begun."""
        self._publisher.give_up(entry)

    async def publish(self, event: Outgoing) -> Receipt:
        """Publishes an event, and returns when it is durable. Raises `CertesError`."""
        self._check_calls()
        # Those who wait here stand in line, so that the order is that of the calls.
        async with self._line:
            head = self._heads.get(type(event.message)) or await self._head(type(event.message))
        # The client may have been closed meanwhile.
        self._check_calls()
        entry = encode(head, event)
        if not self._publishing:
            self._publishing = True
            self._background.add(self._publisher.run, "publisher")
        if not self._publisher.begin(entry):
            await self._publisher.begin_later(entry)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            self._publisher.give_up(entry)
            raise

    async def publish_all(self, events: Iterable[Outgoing]) -> list[Receipt]:
        """Publishes events by one request of their own: all of them, or none. Raises `CertesError`."""
        self._check_calls()
        entries: list[Entry] = []
        for event in events:
            head = self._heads.get(type(event.message)) or await self._head(type(event.message))
            entries.append(encode(head, event))
        if not entries:
            return []
        request = publish_request(entries)
        try:
            answer = await self._connection.patiently(
                lambda: self._connection.call("EventService/Publish", request, PublishResponse, PATIENCE), PATIENCE
            )
        except CertesError as error:
            if is_passing(error):
                raise timed_out(f"A request of {len(entries)} events", error) from None
            raise
        return [Receipt(result.id, result.duplicate, result.name) for result in answer.results]

    async def ensure(self, selectors: list[Selector], name: str | None, condition: str) -> None:
        """Makes the selectors of one subscription equal to the list. Raises `CertesError`."""
        self._check_open()
        settings = self._settings
        subscription = Subscription(
            name=settings.subscription(name), selectors=selectors, filter=condition, generation=settings.generation
        )
        paths = ["selectors", "filter"] + (["generation"] if settings.generation is not None else [])
        if settings.callback_url is None:
            subscription.stream.CopyFrom(StreamDelivery())
            paths.append("stream")
        else:
            subscription.webhook.CopyFrom(Webhook(url=settings.callback_url))
            paths.append("webhook.url")
        request = UpdateSubscriptionRequest(subscription=subscription, allow_missing=True)
        request.update_mask.paths.extend(paths)
        method = "SubscriptionService/UpdateSubscription"
        await self._connection.patiently(
            lambda: self._connection.call(method, request, UpdateSubscriptionResponse, _CALL_TIMEOUT),
            ENSURING_PATIENCE,
        )
        self._ensured[subscription.name] = None
        self.feed()

    async def take_webhook(self, method: str, headers: Headers, body: bytes) -> Answer:
        """Takes a webhook, returns when it was handled, and says what to answer; or answers the question for consent, by OPTIONS."""
        try:
            self._check_open()
        except CertesError as error:
            return refusal(error)
        if method == "OPTIONS":
            return await self._webhooks.consent(headers, body)
        return await self._webhooks.take(headers, body)

    async def run(self) -> None:
        """Returns when the session is closed or stopped. Meanwhile handlers are fed by streams, or by webhooks, whose keys it fetches.

        Raises `CertesError` where a stream has ended for good: where its subscription was deleted.
        """
        self._check_open()
        self._running = True
        if self._settings.callback_url is None:
            self.feed()
            if not self._ensured:
                self._open_stream(self._settings.subscription())
        else:
            await self._prepare_webhooks()
        await self._stopped.wait()
        if self._fate is not None:
            raise self._fate

    def feed(self) -> None:
        """Opens the streams that can be opened: of what was ensured, once there are handlers."""
        if self._settings.callback_url is None and not self._closing and (self._running or not self._handlers.is_empty):
            for subscription in self._ensured:
                self._open_stream(subscription)

    def stop(self) -> None:
        """Lets `run` return."""
        self._stopped.set()

    async def close(self) -> None:
        """Ends everything in order: nothing more is taken, what is under way is waited for, what was settled is told."""
        if self._closing:
            await self._background.ended()
            return
        self._closing = True
        self._stopped.set()
        for stream in self._streams.values():
            stream.stop_taking()
        try:
            async with asyncio.timeout(DRAINING):
                await self._handling.drain()
                self._calls_over = True
                if self._publishing:
                    await self._publisher.close()
                for stream in self._streams.values():
                    await stream.flush()
        except TimeoutError:
            _log.warning("The client was closed before all that was under way had ended.")
        finally:
            await self._background.end()

    def _check_open(self) -> None:
        if self._closing or self._background.has_ended:
            raise closed()

    def _check_calls(self) -> None:
        if self._calls_over or self._background.has_ended:
            raise closed()

    async def _head(self, message: type[Message]) -> Head:
        """Encodes what all events of a message have in common, once."""
        source = self._settings.required_source()
        if not self._types.binding(message).domain and not self._connection.domain:
            await self._connection.patiently(self._connection.channel, PATIENCE)
        event_type, type_url = self._types.named(message)
        head = self._heads[message] = head_of(event_type, source, type_url)
        return head

    def _open_stream(self, subscription: str) -> None:
        if subscription in self._streams:
            return
        if self._fate is not None:
            # It was ensured again.
            self._fate = None
            self._stopped.clear()
        stream = self._streams[subscription] = SubscriptionStream(
            subscription, self._settings.max_outstanding, self._connection, self._handling, self._types, self._clock
        )
        self._background.add(lambda: self._follow(stream), f"stream of {subscription}")

    async def _follow(self, stream: SubscriptionStream) -> None:
        end = await stream.run()
        if end is None:
            return
        del self._streams[stream.subscription]
        self._fate = end
        self._stopped.set()

    async def _prepare_webhooks(self) -> None:
        try:
            await self._keys.current()
        except CertesError as error:
            _log.warning("Webhooks cannot be verified yet: %s", error)

    def _webhook_subscriptions(self) -> Iterable[str]:
        """Names the subscriptions whose secrets verify webhooks."""
        if self._ensured:
            return self._ensured
        return [self._settings.subscription()] if self._settings.app is not None else []

    async def _end(self) -> None:
        self._stopped.set()
        self._closing = self._calls_over = True
        self._publisher.abandon()
        self._handling.close()
        await self._connection.close()
