"""Accepted is durable.

When `Publish` answers, or the HTTP ingress says 2xx, the event survives `kill -9` and power loss. A request is stored as a whole or not
at all: one bad event, and none is. If the answer is lost, some may be stored: publish again with the same ids.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import count

import grpc
import pytest

from certes.v1 import event_pb2
from certes.v1 import event_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance import github
from tests.acceptance.client import Client, connected, event, receive_all, refusal
from tests.acceptance.consumer import Consumer, check_order
from tests.acceptance.load import Backlog, Publisher, is_broken
from tests.promises.disks import PowerCutDisk

KILLS = 20
POWER_CUTS = 3
SEED = 20_240_229
MOMENTS = ("accepted", "delivered", "acknowledged")
EVENTS_BETWEEN_KILLS = 700
"""At most. A kill also comes after the first event, in the middle of what a restart delivers again."""
PUBLISHERS = 3
KEYS = 16
"""Of each publisher."""
BATCH = 20
"""Events of one request."""
BATCHES = 8
"""Requests that are answered before the broker is killed."""
BEFORE_THE_STOP = 3_000
"""Events that are accepted before the broker is told to stop."""


async def test_killed_at_twenty_moments_under_load_it_delivers_all_that_it_accepted_in_each_keys_order(
    broker: BrokerProcess, report: Callable[[str], None]
) -> None:
    report(await kill_under_load(broker, KILLS, broker.start))


@pytest.mark.mounts
async def test_where_the_power_goes_under_load_it_delivers_all_that_it_accepted_in_each_keys_order(
    broker_that_loses_power: BrokerProcess, power_cut_disk: PowerCutDisk, report: Callable[[str], None]
) -> None:
    def come_up() -> None:
        power_cut_disk.cut_power()
        broker_that_loses_power.start()

    report(await kill_under_load(broker_that_loses_power, POWER_CUTS, come_up))


async def kill_under_load(broker: BrokerProcess, kills: int, restart: Callable[[], object]) -> str:
    """Kills a broker at random moments under load, and checks that all is delivered; returns what happened."""
    chance = random.Random(SEED)
    killer = Killer(broker, chance)
    async with connected(broker) as publishing, connected(broker) as consuming:
        name = await consuming.create_stream("all")
        backlog = Backlog()
        # One key of each publisher is none: such events have no order, and are not to be lost either.
        publishers = [
            Publisher(
                publishing,
                [f"-p{number}", *(f"p{number}k{key}" for key in range(KEYS))],
                random.Random(number),
                killer.count,
                backlog,
            )
            for number in range(PUBLISHERS)
        ]
        consumer = Consumer(consuming, name, random.Random(SEED), killer.count, backlog)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run())
            writing = [tasks.create_task(publisher.run()) for publisher in publishers]
            for _ in range(kills):
                killer.arm()
                await killer.struck.wait()
                await asyncio.to_thread(restart)
            for publisher in publishers:
                publisher.stopping = True
            await asyncio.gather(*writing)
            accepted = set[str]().union(*(publisher.accepted for publisher in publishers))
            await consumer.has(accepted)
            reading.cancel()
    again = consumer.delivered.total() - len(consumer.delivered)
    assert consumer.delivered.keys() == accepted
    assert consumer.came_again == set(), "the broker had answered that these were settled"
    check_order(consumer)
    return (
        f"{len(accepted)} events accepted over {kills} kills, {len(consumer.delivered)} delivered, {again} of them again; "
        f"{sum(publisher.duplicates for publisher in publishers)} found stored when their answer was lost"
    )


async def test_what_the_ingress_said_2xx_for_survives_kill_9_byte_for_byte(broker: BrokerProcess) -> None:
    sent = {f"delivery-{number}": b'{ "zen":  "%d" }' % number for number in range(5)}
    names: dict[str, str] = {}
    async with connected(broker) as client, github.http() as http:
        app = await client.create_stream("app")
        for delivery_id, body in sent.items():
            headers = github.signed("ping", body, delivery_id=delivery_id)
            answer = await http.post(github.url(broker), content=body, headers=headers)
            assert answer.status_code == 202
            names[delivery_id] = answer.json()["name"]
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await receive_all(client, app, set(sent))
        for delivery_id, name in names.items():
            kept = await client.events.GetEvent(pb.GetEventRequest(name=name))
            assert kept.original.body == sent[delivery_id]


async def test_one_bad_event_refuses_its_whole_request_and_nothing_of_it_is_stored(broker: BrokerProcess) -> None:
    good, bad = [event("first"), event("last")], event("bad")
    bad.type = "community.certes.dev/github/1/no_such_event"
    async with connected(broker) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.publish([good[0], bad, good[1]])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [one.duplicate for one in await client.publish(good)] == [False, False]


async def test_a_request_that_was_cut_off_is_stored_whole_or_not_at_all_and_may_be_made_again(
    broker: BrokerProcess,
) -> None:
    answered: set[str] = set()
    unanswered: set[str] = set()

    async def publish_one_by_one(client: Client, publisher: str) -> None:
        for number in count():
            name = f"{publisher}.{number}"
            unanswered.add(name)
            try:
                await client.publish(batch(name))
            except grpc.aio.AioRpcError as error:
                if not is_broken(error):
                    raise
                return
            unanswered.discard(name)
            answered.add(name)
            if len(answered) == BATCHES:
                broker.kill9()

    async with connected(broker) as client:
        app = await client.create_stream("app")
        async with asyncio.TaskGroup() as tasks:
            for number in range(PUBLISHERS):
                tasks.create_task(publish_one_by_one(client, str(number)))
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        assert unanswered
        for name in (*answered, *unanswered):
            known = {one.duplicate for one in await client.publish(batch(name))}
            assert known == {True} if name in answered else len(known) == 1
        wanted = {one.id for name in answered | unanswered for one in batch(name)}
        came = await receive_all(client, app, wanted, at_once=500)
        assert sorted(came) == sorted(wanted), "each of them was stored once"


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
            single = tasks.create_task(publish_until_refused(broker))
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


class Killer:
    """Kills the broker when something has happened so often: within the step in which it happens."""

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self.struck = asyncio.Event()
        self.moments: list[str] = []
        self._broker = broker
        self._chance = chance
        self._armed = ""
        self._left = 0

    def arm(self) -> None:
        """Chooses the next moment."""
        self.struck.clear()
        self._armed = self._chance.choice(MOMENTS)
        self._left = self._chance.randint(1, EVENTS_BETWEEN_KILLS)
        self.moments.append(f"{self._armed}+{self._left}")

    def count(self, what: str) -> None:
        """Hears what happened."""
        if what == self._armed:
            self._left -= 1
            if self._left == 0:
                self._armed = ""
                self._broker.kill9()
                self.struck.set()


def batch(name: str) -> list[event_pb2.Event]:
    return [event(f"{name}.{number}") for number in range(BATCH)]


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


async def publish_until_refused(broker: BrokerProcess) -> set[str]:
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
