"""Told to stop, the broker ends what is under way, answers for it, and keeps all of it."""

from __future__ import annotations

import asyncio
import random

import grpc

from certes.v1 import event_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, closing_reason, connected, event, refusal
from tests.acceptance.consumer import Consumer
from tests.acceptance.load import Backlog, Publisher, is_broken
from tests.acceptance.receiver import receiving

BEFORE_THE_STOP = 3_000
"""Events that are accepted before the broker is told to stop."""


class Meter:
    """Says when so many events have been accepted."""

    def __init__(self, accepted: int) -> None:
        self.reached = asyncio.Event()
        self._left = accepted

    def count(self, what: str) -> None:
        if what == "accepted":
            self._left -= 1
            if self._left == 0:
                self.reached.set()


async def test_stopped_under_load_it_answers_only_for_what_it_keeps_and_ends_every_stream_with_a_reason(
    broker: BrokerProcess,
) -> None:
    meter, backlog = Meter(BEFORE_THE_STOP), Backlog(limit=2 * BEFORE_THE_STOP)
    async with connected(broker) as client:
        name = await client.create_stream("all")
        publishers = [
            Publisher(client, [f"p{number}k{key}" for key in range(40)], random.Random(number), meter.count, backlog)
            for number in range(2)
        ]
        consumer = Consumer(client, name, random.Random(0), meter.count, backlog)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run_once())
            writing = [tasks.create_task(publisher.run_once()) for publisher in publishers]
            quiet = tasks.create_task(wait_on_a_stream(client))
            single = tasks.create_task(publish_one_by_one(broker))
            await meter.reached.wait()
            code = await asyncio.to_thread(broker.terminate)
            await asyncio.gather(reading, quiet, *writing)
        assert code == 0
        assert consumer.sessions[0].closing == "REASON_DRAINING"
        assert quiet.result() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        answered = single.result().union(*(publisher.accepted for publisher in publishers))
        assert len(answered) >= BEFORE_THE_STOP
        await asyncio.to_thread(broker.start)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run())
            await consumer.has(answered)
            reading.cancel()
    assert consumer.came_again == set(), "the broker had answered that these were settled"


async def wait_on_a_stream(client: Client) -> tuple[grpc.StatusCode, str]:
    """Keeps a PublishStream open, and returns by which code and reason it was ended."""
    call = client.events.PublishStream()
    await call.write(pb.PublishStreamRequest(events=[event("quiet:1")]))
    try:
        answer = await call.read()
        assert isinstance(answer, pb.PublishStreamResponse)
        assert answer.HasField("accepted")
        await call.read()
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("the stream ended without a status")


async def publish_one_by_one(broker: BrokerProcess) -> set[str]:
    """Publishes single events until the broker refuses; returns the ids that it answered for."""
    answered: set[str] = set()
    async with connected(broker) as client:
        while True:
            one = f"single:{len(answered) + 1}"
            try:
                await client.publish([event(one)])
            except grpc.aio.AioRpcError as error:
                if is_broken(error):
                    return answered
                raise
            answered.add(one)


async def test_a_webhook_under_way_is_waited_for_and_not_sent_again(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        receiver.status = None
        await client.create_webhook("slow", receiver.url)
        call = client.subscribe(await client.create_stream("witness", pattern="community.certes.dev/github/1/push"))
        assert (await call.read()).HasField("opened")
        await client.publish([event("one")])
        await receiver.until(lambda: len(receiver.requests) == 1)
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(asyncio.to_thread(broker.terminate))
            assert closing_reason(await call.read()) == "REASON_DRAINING"
            receiver.status = 204
            receiver.answer_all()
            assert await stopping == 0
        await asyncio.to_thread(broker.start)
        await client.publish([event("two")])
        await receiver.until(lambda: len(receiver.taken) >= 1)
    assert [request.event_id for request in receiver.requests] == ["one", "two"]
