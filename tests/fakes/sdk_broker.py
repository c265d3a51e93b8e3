"""A broker that does what a test says: a real gRPC server with scripted services."""

# ruff: noqa: N802 - methods are called as the rpcs are
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_status import rpc_status

from certes.v1 import event_service_pb2 as pb
from certes.v1 import event_service_pb2_grpc as events_rpc
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from certes.v1 import subscription_service_pb2_grpc as subscriptions_rpc
from certes.v1.delivery_pb2 import Delivery
from certes.v1.event_pb2 import Event
from certes.v1.problem_pb2 import Problem
from certes_sdk.discovery import Found

PUSH = "community.certes.dev/github/1/push"
DOMAIN = "events.example.com"

Judge = Callable[[pb.PublishStreamRequest], pb.PublishStreamResponse]


class Refusal(Exception):
    """What a scripted service answers in place of an answer."""

    def __init__(self, code: str, reason: str = "", *, retry_after: float | None = None, **metadata: str) -> None:
        super().__init__(reason or code)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.metadata = metadata

    def status(self) -> Any:
        status = Status(code=Code.Value(self.code), message=f"refused: {self.reason}")
        if self.reason:
            status.details.add().Pack(ErrorInfo(reason=self.reason, domain="certes.dev", metadata=self.metadata))
        if self.retry_after is not None:
            delay = RetryInfo()
            delay.retry_delay.FromNanoseconds(round(self.retry_after * 1e9))
            status.details.add().Pack(delay)
        return rpc_status.to_status(status)

    def problem(self) -> Problem:
        problem = Problem(code=Code.Value(self.code), reason=self.reason, message=f"refused: {self.reason}")
        problem.metadata.update(self.metadata)
        if self.retry_after is not None:
            problem.retry_delay.FromNanoseconds(round(self.retry_after * 1e9))
        return problem


def accept(request: pb.PublishStreamRequest) -> pb.PublishStreamResponse:
    answer = pb.PublishStreamResponse()
    answer.accepted.count = len(request.events)
    if request.return_results:
        for event in request.events:
            answer.accepted.results.add(name=f"events/{event.id}", id=event.id)
    return answer


def reject(refusal: Refusal) -> pb.PublishStreamResponse:
    return pb.PublishStreamResponse(rejected=refusal.problem())


class FakeStream:
    """One call of `Subscribe`: the test sends its frames."""

    def __init__(self, request: pb.SubscribeRequest, number: int) -> None:
        self.request = request
        self.name = f"{request.subscription}/streams/{number}"
        self.ended = asyncio.Event()
        self._frames: asyncio.Queue[pb.SubscribeResponse | Refusal | None] = asyncio.Queue()
        self._next = 1

    def open(self) -> None:
        self.send(pb.SubscribeResponse(opened=pb.SubscribeResponse.Opened(stream=self.name)))

    def deliver(self, *events: Event) -> list[int]:
        """Sends a batch, and returns its ordinals."""
        deliveries = [Delivery(name=f"events/{event.id}", attempt=1, event=event) for event in events]
        first, self._next = self._next, self._next + len(events)
        self.send(pb.SubscribeResponse(batch=pb.SubscribeResponse.Batch(first_ordinal=first, deliveries=deliveries)))
        return list(range(first, self._next))

    def send(self, frame: pb.SubscribeResponse) -> None:
        self._frames.put_nowait(frame)

    def end(self, refusal: Refusal | None = None) -> None:
        self._frames.put_nowait(refusal)

    async def frames(self) -> AsyncIterator[pb.SubscribeResponse]:
        try:
            while isinstance(frame := await self._frames.get(), pb.SubscribeResponse):
                yield frame
            if frame is not None:
                raise frame
        finally:
            self.ended.set()


class FakeBroker(
    events_rpc.EventServiceServicer,
    subscriptions_rpc.SubscriptionServiceServicer,
):
    """The services, and what was asked of them."""

    def __init__(self) -> None:
        self.judge: Judge = accept
        self.published: asyncio.Queue[pb.PublishStreamRequest] = asyncio.Queue()
        self.publish_streams = 0
        self.unary: list[pb.PublishRequest] = []
        self.all_duplicates = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.break_publishing: Refusal | None = None
        self.streams: asyncio.Queue[FakeStream] = asyncio.Queue()
        self.opened = 0
        self.acknowledged: asyncio.Queue[pb.AcknowledgeRequest] = asyncio.Queue()
        self.may_acknowledge = asyncio.Event()
        self.may_acknowledge.set()
        self.refusals: list[Refusal] = []
        """What `Acknowledge`, `UpdateSubscription`, `GetSigningSecrets` and `Publish` answer first."""
        self.updates: list[subscriptions_pb.UpdateSubscriptionRequest] = []
        self.secrets: list[str] = []
        self.secrets_asked = 0
        self.ack_deadline = 30
        self.metadata: dict[str, Any] = {}
        self._server = aio.server()
        self.port = 0

    async def start(self) -> None:
        events_rpc.add_EventServiceServicer_to_server(self, self._server)
        subscriptions_rpc.add_SubscriptionServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def restart(self) -> None:
        """Ends every connection, and comes back at the same address."""
        await self._server.stop(None)
        self._server = aio.server(options=[("grpc.so_reuseport", 1)])
        await self.start()

    def find(self) -> Found:
        return Found(f"127.0.0.1:{self.port}", tls=False, domain=DOMAIN)

    async def PublishStream(self, requests: Any, context: Any) -> AsyncIterator[pb.PublishStreamResponse]:
        self.publish_streams += 1
        self.metadata = dict(context.invocation_metadata())
        try:
            async for request in requests:
                self.published.put_nowait(request)
                await self.may_answer.wait()
                if self.break_publishing is not None:
                    refusal, self.break_publishing = self.break_publishing, None
                    raise refusal
                yield self.judge(request)
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishResponse:
        await self._refuse(context)
        self.unary.append(request)
        return pb.PublishResponse(
            results=[
                pb.PublishResult(name=f"events/{event.id}", id=event.id, duplicate=self.all_duplicates)
                for event in request.events
            ]
        )

    async def Subscribe(self, request: pb.SubscribeRequest, context: Any) -> AsyncIterator[pb.SubscribeResponse]:
        self.opened += 1
        stream = FakeStream(request, self.opened)
        self.streams.put_nowait(stream)
        try:
            async for frame in stream.frames():
                yield frame
        except Refusal as refusal:
            await context.abort_with_status(refusal.status())

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: Any) -> pb.AcknowledgeResponse:
        self.acknowledged.put_nowait(request)
        await self.may_acknowledge.wait()
        await self._refuse(context)
        return pb.AcknowledgeResponse()

    async def UpdateSubscription(
        self, request: subscriptions_pb.UpdateSubscriptionRequest, context: Any
    ) -> subscriptions_pb.UpdateSubscriptionResponse:
        self.updates.append(request)
        await self._refuse(context)
        return subscriptions_pb.UpdateSubscriptionResponse(subscription=request.subscription)

    async def GetSubscription(
        self, request: subscriptions_pb.GetSubscriptionRequest, context: Any
    ) -> subscriptions_pb.GetSubscriptionResponse:
        answer = subscriptions_pb.GetSubscriptionResponse()
        answer.subscription.name = request.name
        answer.subscription.ack_deadline.seconds = self.ack_deadline
        return answer

    async def GetSigningSecrets(
        self, request: subscriptions_pb.GetSigningSecretsRequest, context: Any
    ) -> subscriptions_pb.GetSigningSecretsResponse:
        self.secrets_asked += 1
        await self._refuse(context)
        secrets = [subscriptions_pb.SigningSecret(secret=secret) for secret in self.secrets]
        return subscriptions_pb.GetSigningSecretsResponse(secrets=secrets)

    async def _refuse(self, context: Any) -> None:
        if self.refusals:
            await context.abort_with_status(self.refusals.pop(0).status())


def ordinals_of(request: pb.AcknowledgeRequest) -> list[int]:
    """Returns the ordinals that an `Acknowledge` says are done."""
    return [ordinal for span in request.acked for ordinal in range(span.first, span.last + 1)]
