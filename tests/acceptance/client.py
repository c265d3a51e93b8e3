"""A client of the broker's public gRPC contract, as an application would have one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from certes.community.github.v1 import ping_event_pb2
from certes.v1 import attempt_pb2, dead_letter_pb2, event_pb2
from certes.v1 import delivery_service_pb2 as deliveries_pb
from certes.v1 import delivery_service_pb2_grpc as deliveries_rpc
from certes.v1 import event_service_pb2 as pb
from certes.v1 import event_service_pb2_grpc as events_rpc
from certes.v1 import schema_service_pb2_grpc as schemas_rpc
from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from certes.v1 import subscription_service_pb2_grpc as subscriptions_rpc
from scripts.broker_process import BrokerProcess

SUBSCRIBER = "subscribers/default"
PING = "community.certes.dev/github/1/ping"
ALL_OF_GITHUB = "community.certes.dev/github/1/*"

Frames = Any
"""An open Subscribe call."""

_OPTIONS = (
    # Brokers are killed under it; by default gRPC would wait a second or more before it tries again.
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    # Channels to one address would share one connection, and be one client where a test means two.
    ("grpc.use_local_subchannel_pool", 1),
)


def subscription_name(subscription_id: str) -> str:
    return f"{SUBSCRIBER}/subscriptions/{subscription_id}"


def event(
    event_id: str, *, key: str = "", text: str = "", source: str = "acceptance", subscriber: str = ""
) -> event_pb2.Event:
    """An event for a subscriber, or else for everyone, whose text is in its data."""
    made = event_pb2.Event(id=event_id, type=PING, source=source, everyone=True, ordering_key=key)
    if subscriber:
        made.subscriber = subscriber
    made.data.Pack(ping_event_pb2.PingEvent(zen=text or event_id))
    return made


def ordinals(first: int, last: int) -> pb.OrdinalRange:
    return pb.OrdinalRange(first=first, last=last)


class Client:
    """The services of one broker."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.events = events_rpc.EventServiceStub(channel)
        self.deliveries = deliveries_rpc.DeliveryServiceStub(channel)
        self.schemas = schemas_rpc.SchemaServiceStub(channel)
        self.subscriptions = subscriptions_rpc.SubscriptionServiceStub(channel)

    async def create_stream(
        self, subscription_id: str, pattern: str = ALL_OF_GITHUB, *, parent: str = SUBSCRIBER, **fields: Any
    ) -> str:
        """Makes a durable subscription with stream delivery and returns its name."""
        return await self._create(subscription_id, pattern, parent, stream=resources.StreamDelivery(), **fields)

    async def create_webhook(self, subscription_id: str, url: str, **fields: Any) -> str:
        """Makes a webhook subscription of `parent` to everything, or to the `pattern` that is given.

        `fields` are the subscription's, `format`, `max_in_flight`, `timeout` and `require_consent` the webhook's.
        """
        pattern, parent = fields.pop("pattern", ALL_OF_GITHUB), fields.pop("parent", SUBSCRIBER)
        webhook = resources.Webhook(
            url=url,
            format=fields.pop("format", resources.Webhook.FORMAT_UNSPECIFIED),
            max_in_flight=fields.pop("max_in_flight", None),
            timeout=fields.pop("timeout", None),
            require_consent=fields.pop("require_consent", False),
        )
        return await self._create(subscription_id, pattern, parent, webhook=webhook, **fields)

    async def _create(self, subscription_id: str, pattern: str, parent: str, **fields: Any) -> str:
        wanted = resources.Subscription(selectors=[resources.Selector(pattern=pattern)], **fields)
        request = subscriptions_pb.CreateSubscriptionRequest(
            parent=parent, subscription_id=subscription_id, subscription=wanted
        )
        return (await self.subscriptions.CreateSubscription(request)).subscription.name

    async def settled(self, name: str) -> None:
        """Returns when all is durable that has become of the deliveries of a subscription, which has no dead letters."""
        # Who replays all dead letters where there are none is answered then, and nothing else is done.
        replay = deliveries_pb.ReplayDeadLettersRequest(parent=name, filter=dead_letter_pb2.DeadLetterFilter())
        assert not (await self.deliveries.ReplayDeadLetters(replay)).replayed_count

    async def attempts(self, name: str, count: int, *, event_name: str = "") -> list[attempt_pb2.Attempt]:
        """Waits until so many attempts at a webhook are recorded, of one event or of all; returns them, oldest first."""
        request = deliveries_pb.ListAttemptsRequest(parent=name, event=event_name)
        async with asyncio.timeout(120):
            while len(found := (await self.deliveries.ListAttempts(request)).attempts) < count:
                """They are being written."""
        return list(reversed(found))

    async def pause(self, name: str) -> None:
        await self.subscriptions.PauseSubscription(subscriptions_pb.PauseSubscriptionRequest(name=name))

    async def resume(self, name: str) -> None:
        await self.subscriptions.ResumeSubscription(subscriptions_pb.ResumeSubscriptionRequest(name=name))

    async def until_state(self, name: str, state: resources.Subscription.State.ValueType, timeout: float = 60) -> None:
        """Asks for a subscription until it is in a state."""
        request = subscriptions_pb.GetSubscriptionRequest(name=name)
        async with asyncio.timeout(timeout):
            while (await self.subscriptions.GetSubscription(request)).subscription.state != state:
                pass

    async def signing_secrets(self, name: str) -> list[str]:
        request = subscriptions_pb.GetSigningSecretsRequest(name=name)
        return [one.secret for one in (await self.subscriptions.GetSigningSecrets(request)).secrets]

    async def publish(self, events: Iterable[event_pb2.Event]) -> list[pb.PublishResult]:
        """Publishes in one request."""
        return list((await self.events.Publish(pb.PublishRequest(events=events))).results)

    def subscribe(self, name: str, *, max_outstanding: int | None = None) -> Frames:
        """Opens a stream; waits for the broker where it is not there."""
        request = pb.SubscribeRequest(subscription=name, max_outstanding=max_outstanding)
        return self.events.Subscribe(request, wait_for_ready=True)

    async def acknowledge(self, stream: str, *ranges: pb.OrdinalRange) -> None:
        await self.events.Acknowledge(pb.AcknowledgeRequest(stream=stream, acked=ranges))


@asynccontextmanager
async def connected(*brokers: BrokerProcess) -> AsyncIterator[Client]:
    """A client of a broker, or of several: then of the first that can be reached."""
    async with grpc.aio.insecure_channel(_target(brokers), options=_OPTIONS) as channel:
        yield Client(channel)


def _target(brokers: Sequence[BrokerProcess]) -> str:
    return brokers[0].grpc if len(brokers) == 1 else "ipv4:" + ",".join(broker.grpc for broker in brokers)


async def receive_all(client: Client, name: str, wanted: set[str], *, at_once: int = 4) -> list[str]:
    """Takes and acknowledges deliveries until all that is wanted has come; returns the ids of all that came, in order."""
    stream = client.subscribe(name, max_outstanding=at_once)
    opened = await stream.read()
    came: list[str] = []
    async with asyncio.timeout(60):
        while not wanted.issubset(came):
            frame = await stream.read()
            if frame.HasField("batch"):
                came += [delivery.event.id for delivery in frame.batch.deliveries]
                first = frame.batch.first_ordinal
                await client.acknowledge(opened.opened.stream, ordinals(first, first + len(frame.batch.deliveries) - 1))
    stream.cancel()
    return came


async def read_events(frames: Frames, count: int) -> list[event_pb2.Event]:
    """Reads so many deliveries from a stream that was opened."""
    found: list[event_pb2.Event] = []
    async with asyncio.timeout(50):
        while len(found) < count:
            frame: pb.SubscribeResponse = await frames.read()
            found.extend(delivery.event for delivery in frame.batch.deliveries)
    return found


def closing_reason(frame: pb.SubscribeResponse) -> str:
    """Why a closing frame says the stream ends."""
    return pb.SubscribeResponse.Reason.Name(frame.closing.reason)


def refusal(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """The code of an error and the reason in its details."""
    info = ErrorInfo()
    return error.code(), info.reason if _unpack(error, info) else ""


def error_metadata(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """What the details of an error say beside its reason."""
    info = ErrorInfo()
    return dict(info.metadata) if _unpack(error, info) else {}


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """The seconds to wait that an error names."""
    info = RetryInfo()
    return info.retry_delay.ToTimedelta().total_seconds() if _unpack(error, info) else None


def _unpack(error: grpc.aio.AioRpcError, into: ErrorInfo | RetryInfo) -> bool:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # an AioRpcError has what it asks a call for
    return status is not None and any(detail.Unpack(into) for detail in status.details)
