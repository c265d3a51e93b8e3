"""What contract tests of gRPC do and expect again and again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_pb2, event_service_pb2, subscription_pb2, subscription_service_pb2
from certes.v1.event_service_pb2_grpc import EventServiceStub
from certes.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tests.fakes.loop_thread_broker import LoopThreadBroker

PUSH = "community.certes.dev/github/1/push"
TIMEOUT = 20.0
"""Seconds until a call that never answers fails its test."""


class Refusal:
    """A refused call: its code, and what its status carries."""

    def __init__(self, error: Any) -> None:
        status = rpc_status.from_call(error)
        assert status is not None, f"{error.code()} without a rich status: {error.details()}"
        self.code = error.code()
        self.message = status.message
        self.info, bad, self.retry = ErrorInfo(), BadRequest(), RetryInfo()
        for detail in status.details:
            for kind in (self.info, bad, self.retry):
                if detail.Is(kind.DESCRIPTOR):
                    detail.Unpack(kind)
        assert self.info.domain == "certes.dev"
        self.reason = self.info.reason
        self.metadata = dict(self.info.metadata)
        self.fields = [violation.field for violation in bad.field_violations]


def refused(call: Callable[[], Any]) -> Refusal:
    """Makes a call and returns how it was refused. A stream is read to its end."""
    with pytest.raises(grpc.RpcError) as raised:
        answer = call()
        if isinstance(answer, Iterator):
            list(answer)
    return Refusal(raised.value)


def event(**fields: Any) -> event_pb2.Event:
    """A well-formed event for everyone, but for the fields given; None leaves one out."""
    data = AnyMessage()
    data.Pack(PushEvent(ref="refs/heads/main"))
    everyone = None if "subscriber" in fields or "everyone" in fields else True
    given = {"type": PUSH, "source": "//test", "data": data, "everyone": everyone, **fields}
    return event_pb2.Event(**{name: value for name, value in given.items() if value is not None})


class OpenStream:
    """One open `Subscribe` stream."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames
        self.name: str = self.next().opened.stream

    def next(self) -> event_service_pb2.SubscribeResponse:
        return next(self._frames)

    def take(self, count: int) -> dict[int, str]:
        """Reads until `count` deliveries have come; returns the ids of their events by ordinal."""
        taken: dict[int, str] = {}
        while len(taken) < count:
            batch = self.next().batch
            taken |= {batch.first_ordinal + i: each.event.id for i, each in enumerate(batch.deliveries)}
        return taken

    def cancel(self) -> None:
        self._frames.cancel()


class Caller:
    """Calls both services for one subscriber."""

    def __init__(
        self,
        events: EventServiceStub,
        subscriptions: SubscriptionServiceStub,
        server: LoopThreadBroker,
        subscriber: str,
    ) -> None:
        self.events = events
        self.subscriptions = subscriptions
        self.server = server
        self.subscriber = subscriber
        self.parent = f"subscribers/{subscriber}"
        self._streams = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()

    def name(self, subscription_id: str) -> str:
        return f"{self.parent}/subscriptions/{subscription_id}"

    def event(self, **fields: Any) -> event_pb2.Event:
        """A well-formed event for this subscriber."""
        return event(**{"subscriber": self.subscriber, "id": str(uuid.uuid4()), **fields})

    def publish(self, *events: event_pb2.Event) -> Sequence[event_service_pb2.PublishResult]:
        return self.events.Publish(event_service_pb2.PublishRequest(events=events), timeout=TIMEOUT).results

    def publish_stream(self, requests: Iterable[event_service_pb2.PublishStreamRequest]) -> Any:
        """Opens a publish stream; returns an iterator over its answers."""
        return self.events.PublishStream(iter(requests), timeout=TIMEOUT)

    def create(self, subscription_id: str = "app", **fields: Any) -> subscription_pb2.Subscription:
        """Creates a subscription; a stream one to pushes, but for the fields given."""
        fields.setdefault("selectors", [{"pattern": PUSH}])
        if "webhook" not in fields:
            fields.setdefault("stream", {})
        request = {"parent": self.parent, "subscription_id": subscription_id, "subscription": fields}
        return self.subscriptions.CreateSubscription(**call(request, "CreateSubscriptionRequest")).subscription

    def open(self, subscription_id: str = "app", **fields: Any) -> OpenStream:
        request = event_service_pb2.SubscribeRequest(subscription=self.name(subscription_id), **fields)
        stream = OpenStream(self.events.Subscribe(request, timeout=TIMEOUT))
        self._streams.callback(stream.cancel)
        return stream

    def acknowledge(self, stream: str, **fields: Any) -> event_service_pb2.AcknowledgeResponse:
        request = event_service_pb2.AcknowledgeRequest(stream=stream, **fields)
        return self.events.Acknowledge(request, timeout=TIMEOUT)


def call(request: dict[str, Any], kind: str) -> dict[str, Any]:
    """The arguments of a call of SubscriptionService."""
    return {"request": getattr(subscription_service_pb2, kind)(**request), "timeout": TIMEOUT}
