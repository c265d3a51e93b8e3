"""Three brokers on a cluster of three NATS servers: each of the six is killed or stands still, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import grpc
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, receive_all, retry_delay
from tests.acceptance.conftest import StartBroker
from tests.acceptance.load import is_broken
from tests.acceptance.receiver import Receiver, receiving
from tests.acceptance.test_nats import World, settings, under_load
from tests.fakes.nats_servers import NatsCluster, running

EVENTS_BETWEEN = 200
RESUMED = 600
"""So many events must be delivered after something happened before all counts as resumed: more than may wait, so that some were
published after it."""
PATIENCE = 120.0
TAKEN_FOR_GONE = "taken this one for gone"
"""Logged by a broker that ends since the others have ended it."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path / "nats", size=3) as cluster:
        yield cluster


@pytest.fixture
def brokers(start_broker: StartBroker, cluster: NatsCluster) -> list[BrokerProcess]:
    return [start_broker(settings(*cluster.servers), f"broker{number}") for number in range(3)]


class Trouble:
    """Things that happen, and how long deliveries take to resume."""

    def __init__(self, world: World, report: Callable[[str], None]) -> None:
        self._world = world
        self._report = report

    async def happens(self, what: str, action: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._world.more(EVENTS_BETWEEN)
            await asyncio.to_thread(action)
            began = time.monotonic()
            await self._world.more(RESUMED)
            self._report(f"{what}: {RESUMED} more events delivered after {time.monotonic() - began:.1f} s")


async def hooked(receiver: Receiver, accepted: set[str]) -> None:
    await receiver.until(lambda: accepted <= {one.event_id for one in receiver.taken})


def check_keys(receiver: Receiver) -> None:
    """The first requests of each key came in the order of its events."""
    reached: dict[str, int] = {}
    for one in receiver.taken:
        key, _, number = one.event_id.rpartition(":")
        if not key.startswith("-"):
            assert int(number) <= reached.get(key, 0) + 1, f"{key} skipped from {reached.get(key, 0)} to {number}"
            reached[key] = max(reached.get(key, 0), int(number))
    assert reached


async def test_whatever_of_it_is_killed_nothing_is_lost_and_keys_stay_in_order(
    brokers: list[BrokerProcess], cluster: NatsCluster, report: Callable[[str], None]
) -> None:
    async with receiving() as receiver:
        async with connected(brokers[0]) as client:
            await client.create_webhook("hook", receiver.url)
        async with under_load(*brokers, report=report) as world:
            trouble = Trouble(world, report)
            leader = await asyncio.to_thread(cluster.leader_of, "certes-lanes")
            await trouble.happens("the leader of the lanes was killed", leader.kill)
            await asyncio.to_thread(leader.restart)
            leader = await asyncio.to_thread(cluster.leader_of, "certes-journal")
            follower = next(server for server in cluster.servers if server is not leader)
            await trouble.happens("a follower was killed", follower.kill)
            await asyncio.to_thread(follower.restart)
            await trouble.happens("a server stood still", leader.freeze)
            await asyncio.to_thread(leader.thaw)
            await trouble.happens("the broker with the lane was killed", brokers[0].kill9)
            await asyncio.to_thread(brokers[0].start)
            await trouble.happens("the broker with the publishers was killed", brokers[2].kill9)
            await asyncio.to_thread(brokers[2].start)
            await trouble.happens("all brokers were stopped and started", partial(restart, brokers))
            await world.more(EVENTS_BETWEEN)
        await hooked(receiver, set(world.consumer.delivered))
        check_keys(receiver)
        again = len(receiver.taken) - len({one.event_id for one in receiver.taken})
        report(f"{again} webhooks came again")
    assert not any(TAKEN_FOR_GONE in broker.log for broker in brokers), "servers stood still, and no broker did"


def restart(brokers: Sequence[BrokerProcess]) -> None:
    with ThreadPoolExecutor(len(brokers)) as threads:
        list(threads.map(BrokerProcess.terminate, brokers))
        list(threads.map(BrokerProcess.start, brokers))


async def test_others_take_over_from_a_broker_that_stands_still_which_then_ends(
    brokers: list[BrokerProcess],
) -> None:
    first, second, _ = brokers
    async with connected(first) as client:
        name = await client.create_stream("app")
        stream = client.subscribe(name)
        await stream.read()
        await client.publish([event("k:1"), event("k:2")])
        os.kill(first.pid, signal.SIGSTOP)
        try:
            async with connected(second) as other:
                assert sorted(set(await taken_over(other, name))) == ["k:1", "k:2"]
        finally:
            os.kill(first.pid, signal.SIGCONT)
        # It finds that it was displaced, and ends by itself.
        assert await asyncio.to_thread(first.wait) != 0
    assert TAKEN_FOR_GONE in first.log


async def taken_over(client: Client, name: str) -> list[str]:
    """What comes once the lane is no longer where it was; until then streams break off."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await receive_all(client, name, {"k:1", "k:2"})
            except grpc.aio.AioRpcError as error:
                if not is_broken(error):
                    raise
                # As the refusal says.
                await asyncio.sleep(retry_delay(error) or 0.1)


async def test_what_one_broker_stores_the_others_use_at_once(brokers: list[BrokerProcess]) -> None:
    one, two, three = brokers
    async with connected(one) as first, connected(two) as second, connected(three) as third:
        name = await first.create_stream("app")
        await second.publish([event("k:1")])
        assert await receive_all(third, name, {"k:1"}) == ["k:1"]


async def test_consumers_at_several_brokers_share_one_subscription(brokers: list[BrokerProcess]) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(broker)) for broker in brokers]
        name = await clients[0].create_stream("app")
        streams = [client.subscribe(name, max_outstanding=10) for client in clients]
        for stream in streams:
            assert (await stream.read()).HasField("opened")
        await clients[1].publish([event(f"-:{number}") for number in range(30)])
        async with asyncio.timeout(PATIENCE):
            came = [await ids_of(stream) for stream in streams]
        assert all(came)
        assert len({one for ids in came for one in ids}) == sum(map(len, came))


async def ids_of(stream: Frames) -> list[str]:
    """The ids of the events in the next batch of a stream."""
    while not (frame := await stream.read()).HasField("batch"):
        pass
    return [delivery.event.id for delivery in frame.batch.deliveries]
