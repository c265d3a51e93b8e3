"""The demo's subscribers: what has arrived at one, and one that is fed by a gRPC stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import grpc

from certes.v1 import event_service_pb2 as pb
from certes.v1 import event_service_pb2_grpc as rpc


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came: its id, its type, and when."""

    id: str
    type: str
    at: float


class Inbox:
    """All that has arrived at one subscriber, in order."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self._changed = asyncio.Condition()

    async def add(self, event_id: str, event_type: str) -> None:
        """Notes an arrival, now."""
        async with self._changed:
            self.arrivals.append(Arrival(event_id, event_type, perf_counter()))
            self._changed.notify_all()

    @property
    def counts(self) -> Counter[str]:
        """How often each event has arrived."""
        return Counter(arrival.id for arrival in self.arrivals)

    def first(self, event_id: str) -> Arrival | None:
        """Returns how an event came first."""
        return next((arrival for arrival in self.arrivals if arrival.id == event_id), None)

    async def has(self, event_ids: Iterable[str], *, times: int = 1, within: float = 10.0) -> bool:
        """Waits until each of these has arrived so often; returns whether that was within so many seconds."""
        wanted = set(event_ids)
        return await self._until(lambda: all(self.counts[one] >= times for one in wanted), within)

    async def _until(self, holds: Callable[[], bool], within: float) -> bool:
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            return False
        return True


class StreamSubscriber:
    """Reads a durable subscription and acknowledges what it reads. When its stream breaks it opens another.

    While `acknowledges` is false it reads and leaves it at that, as one does that is slow with its work.
    """

    def __init__(self, channel: grpc.aio.Channel, subscription: str) -> None:
        self.subscription = subscription
        self.inbox = Inbox()
        self.acknowledges = True
        self.acknowledged: Counter[str] = Counter()
        """How often the broker has confirmed that an event is settled."""
        self.connected = asyncio.Event()
        """Set while a stream is open."""
        self.disconnected = asyncio.Event()
        """Set while none is open and all that came on the last one has been read."""
        self.closing = ""
        """Why the broker closed the last stream, in its words; empty where the stream just broke."""
        self._service = rpc.EventServiceStub(channel)

    async def run(self) -> None:
        """Reads until the broker says that it shuts down."""
        while self.closing != "REASON_DRAINING":
            call = self._service.Subscribe(pb.SubscribeRequest(subscription=self.subscription), wait_for_ready=True)
            try:
                await self._read(call)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            finally:
                call.cancel()
                self.connected.clear()
                self.disconnected.set()

    async def _read(self, call: grpc.aio.UnaryStreamCall[pb.SubscribeRequest, pb.SubscribeResponse]) -> None:
        stream, self.closing = "", ""
        async for frame in call:
            match frame.WhichOneof("frame"):
                case "opened":
                    stream = frame.opened.stream
                    self.disconnected.clear()
                    self.connected.set()
                case "batch":
                    await self._take(stream, frame.batch)
                case "closing":
                    self.closing = pb.SubscribeResponse.Reason.Name(frame.closing.reason)

    async def _take(self, stream: str, batch: pb.SubscribeResponse.Batch) -> None:
        events = [delivery.event for delivery in batch.deliveries]
        for event in events:
            await self.inbox.add(event.id, event.type)
        if self.acknowledges:
            last = batch.first_ordinal + len(events) - 1
            done = pb.OrdinalRange(first=batch.first_ordinal, last=last)
            try:
                await self._service.Acknowledge(pb.AcknowledgeRequest(stream=stream, acked=[done]))
            except grpc.aio.AioRpcError as error:
                # The stream has ended meanwhile (STREAM_ENDED): its deliveries come again on the next one.
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
            else:
                self.acknowledged.update(event.id for event in events)
