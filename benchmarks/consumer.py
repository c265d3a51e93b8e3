"""A consumer of its own process: streams of one or more subscriptions, acknowledged as they come.

    python -m benchmarks.consumer '{"address": "127.0.0.1:9601", "subscriptions": ["subscribers/default/subscriptions/a"]}'

On each stream one `Acknowledge` is under way; the next takes whatever has arrived meanwhile. With `gather`, seconds, an
acknowledgement waits so long for more.

Commands: `{"until": N}` answers when N deliveries were acknowledged on each stream, counted from its start.
`{"note_latencies": true}` begins to note how old events are when they arrive, by their ids; `until` hands them over.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from grpc import aio

from benchmarks.conversation import Commands, converse, say
from benchmarks.wire import SERVICE, time_of
from certes.v1 import event_service_pb2 as pb


class Consumer:
    """One stream."""

    def __init__(self, channel: Any, subscription: str, settings: dict[str, Any]) -> None:
        request = pb.SubscribeRequest(subscription=subscription, max_outstanding=settings["max_outstanding"])
        subscribe = channel.unary_stream(
            f"{SERVICE}/Subscribe",
            request_serializer=pb.SubscribeRequest.SerializeToString,
            response_deserializer=pb.SubscribeResponse.FromString,
        )
        self._frames = subscribe(request)
        self._acknowledge = channel.unary_unary(
            f"{SERVICE}/Acknowledge", request_serializer=pb.AcknowledgeRequest.SerializeToString
        )
        self._gather: float = settings.get("gather", 0.0)
        self._stream = ""
        self._arrived = asyncio.Event()
        self._progress = asyncio.Event()
        self._last = 0
        self.frames = 0
        self.acknowledgements = 0
        self.acknowledged = 0
        self.redelivered = 0
        self.latencies: list[int] | None = None

    async def open(self) -> None:
        """Returns when the stream is open."""
        frame = await anext(aiter(self._frames))
        self._stream = frame.opened.stream

    async def take(self) -> None:
        """Takes deliveries for ever."""
        async for frame in self._frames:
            if frame.WhichOneof("frame") != "batch":
                continue
            now = time.monotonic_ns()
            deliveries = frame.batch.deliveries
            self.frames += 1
            # What a handler would be given; its own work is not the broker's price.
            for delivery in deliveries:
                event = delivery.event
                if delivery.attempt > 1:
                    self.redelivered += 1
                if self.latencies is not None:
                    self.latencies.append(now - time_of(event.id))
            self._last = frame.batch.first_ordinal + len(deliveries) - 1
            self._arrived.set()
        raise RuntimeError("The broker has ended the stream.")

    async def acknowledge(self) -> None:
        """Acknowledges for ever what was taken."""
        while True:
            await self._arrived.wait()
            if self._gather:
                await asyncio.sleep(self._gather)
            self._arrived.clear()
            span = pb.OrdinalRange(first=self.acknowledged + 1, last=self._last)
            if span.last < span.first:
                continue
            await self._acknowledge(pb.AcknowledgeRequest(stream=self._stream, acked=[span]))
            self.acknowledgements += 1
            self.acknowledged = span.last
            self._progress.set()

    async def until(self, count: int) -> None:
        """Returns when so many were acknowledged."""
        while self.acknowledged < count:
            self._progress.clear()
            await self._progress.wait()


async def _main(settings: dict[str, Any], commands: Commands) -> None:
    async with aio.insecure_channel(settings["address"]) as channel, asyncio.TaskGroup() as tasks:
        consumers = [Consumer(channel, name, settings) for name in settings["subscriptions"]]
        for consumer in consumers:
            await consumer.open()
            tasks.create_task(consumer.take())
            tasks.create_task(consumer.acknowledge())
        say(ready=True)
        async for command in commands:
            if command.get("note_latencies"):
                for consumer in consumers:
                    consumer.latencies = []
                continue
            for consumer in consumers:
                await consumer.until(command["until"])
            say(
                at=time.monotonic_ns(),
                acknowledged=sum(consumer.acknowledged for consumer in consumers),
                redelivered=sum(consumer.redelivered for consumer in consumers),
                frames=sum(consumer.frames for consumer in consumers),
                acknowledgements=sum(consumer.acknowledgements for consumer in consumers),
                latencies=[latency for consumer in consumers for latency in consumer.latencies or ()],
            )


if __name__ == "__main__":
    converse(_main)
