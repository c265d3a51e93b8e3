"""Three brokers on a cluster of three NATS servers: each of the six is killed or stands still, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import grpc
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, receive_all, retry_delay
from tests.acceptance.load import Offer, is_broken
from tests.acceptance.receiver import Receiver, receiving
from tests.acceptance.test_nats import World, settings, under_load
from tests.fakes.nats_servers import NatsCluster, running

RATE = 500.0
"""Events a second that are offered to the brokers, while not so many wait as may."""
PUBLISHERS = 8
"""Each has one request unanswered."""
WAITING = 500
RESUMED = 600
"""So many events must be delivered after something happened before all counts as resumed: more than may wait, so that some were
published after it."""
EVENTS_BETWEEN = 500
PATIENCE = 120.0
TAKEN_FOR_GONE = "taken this one for gone"
"""Logged by a broker that ends since the others have ended it."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with running(tmp_path_factory.mktemp("nats"), size=3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, cluster: NatsCluster) -> Iterator[list[BrokerProcess]]:
    """Three brokers. Their ports stay theirs while they are down."""
    directory = tmp_path_factory.mktemp("brokers")
    config = directory / "broker.toml"
    config.write_text(settings(*cluster.servers))
    with ExitStack() as stack:
        brokers: list[BrokerProcess] = []
        for number in range(3):
            brokers.append(stack.enter_context(BrokerProcess(directory / f"broker{number}", config=config)))
        yield brokers


@pytest.fixture
def brokers(company: list[BrokerProcess]) -> list[BrokerProcess]:
    """The three. A test may leave them in any state."""
    at_once([partial(broker.start, PATIENCE) for broker in company if not broker.is_running])
    return company


def at_once(actions: Sequence[Callable[[], object]]) -> None:
    with ThreadPoolExecutor() as threads:
        for action in [threads.submit(action) for action in actions]:
            action.result()


class Trouble:
    """Things that happen, how much is accepted between them, and how long deliveries take to resume."""

    def __init__(self, world: World, report: Callable[[str], None]) -> None:
        self._world = world
        self._report = report
        self._accepted = 0
        self._seconds = 0.0

    async def happens(self, what: str, action: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.nothing_happens()
            await asyncio.to_thread(action)
            began = time.monotonic()
            await self._world.more(RESUMED)
            self._report(f"{what}: {RESUMED} more events delivered after {time.monotonic() - began:.1f} s")

    async def nothing_happens(self) -> None:
        began, accepted = time.monotonic(), self._world.accepted
        await self._world.more(EVENTS_BETWEEN)
        self._seconds += time.monotonic() - began
        self._accepted += self._world.accepted - accepted

    def sum_up(self) -> None:
        rate = self._accepted / self._seconds
        self._report(f"{rate:.0f} events a second were accepted between the troubles, {RATE:.0f} offered")


async def test_what_one_broker_stores_the_others_use_at_once(brokers: list[BrokerProcess]) -> None:
    one, two, three = brokers
    async with connected(one) as first, connected(two) as second, connected(three) as third:
        name = await first.create_stream("at_once")
        await second.publish([event("o:1")])
        assert await receive_all(third, name, {"o:1"}) == ["o:1"]


async def test_consumers_at_several_brokers_share_one_subscription(brokers: list[BrokerProcess]) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(broker)) for broker in brokers]
        name = await clients[0].create_stream("shared")
        streams = [client.subscribe(name, max_outstanding=10) for client in clients]
        for stream in streams:
            assert (await stream.read()).HasField("opened")
        await clients[1].publish([event(f"-shared:{number}") for number in range(30)])
        async with asyncio.timeout(PATIENCE):
            came = [await ids_of(stream) for stream in streams]
        assert all(came)
        assert len({one for ids in came for one in ids}) == sum(map(len, came))


async def ids_of(stream: Frames) -> list[str]:
    """The ids of the events in the next batch of a stream."""
    while not (frame := await stream.read()).HasField("batch"):
        pass
    return [delivery.event.id for delivery in frame.batch.deliveries]


async def test_others_take_over_from_a_broker_that_stands_still_which_then_ends(
    brokers: list[BrokerProcess],
) -> None:
    first, second, _ = brokers
    async with connected(first) as client:
        name = await client.create_stream("standing_still")
        stream = client.subscribe(name)
        await stream.read()
        await client.publish([event("s:1"), event("s:2")])
        os.kill(first.pid, signal.SIGSTOP)
        try:
            async with connected(second) as other:
                assert sorted(set(await taken_over(other, name, {"s:1", "s:2"}))) == ["s:1", "s:2"]
        finally:
            os.kill(first.pid, signal.SIGCONT)
        # It finds that it was displaced, and ends by itself.
        assert await asyncio.to_thread(first.wait) != 0
    assert TAKEN_FOR_GONE in first.log


async def taken_over(client: Client, name: str, wanted: set[str]) -> list[str]:
    """What comes once the lane is no longer where it was; until then streams break off."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await receive_all(client, name, wanted)
            except grpc.aio.AioRpcError as error:
                if not is_broken(error):
                    raise
                # As the refusal says.
                await asyncio.sleep(retry_delay(error) or 0.1)


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
    before = taken_for_gone(brokers)
    async with receiving() as receiver:
        async with connected(brokers[0]) as client:
            await client.create_webhook("hook", receiver.url)
        load = under_load(*brokers, report=report, publishers=PUBLISHERS, backlog=Offer(WAITING, RATE))
        async with load as world:
            trouble = Trouble(world, report)
            await trouble_of_servers(trouble, cluster)
            await trouble.happens("the broker with the lane was killed", brokers[0].kill9)
            await asyncio.to_thread(brokers[0].start, PATIENCE)
            await trouble.happens("the broker with the publishers was killed", brokers[2].kill9)
            await asyncio.to_thread(brokers[2].start, PATIENCE)
            await trouble.happens("all brokers were stopped and started", partial(restart, brokers))
            await trouble.happens("all servers were killed and started", partial(kill_and_start, cluster))
            await trouble.nothing_happens()
            trouble.sum_up()
        await hooked(receiver, set(world.consumer.delivered))
        check_keys(receiver)
        again = len(receiver.taken) - len({one.event_id for one in receiver.taken})
        report(f"{again} webhooks came again")
    assert taken_for_gone(brokers) == before, "servers stood still, and no broker did"


async def trouble_of_servers(trouble: Trouble, cluster: NatsCluster) -> None:
    """One after the other of them is killed or stands still. The last has just gone on when this returns."""
    leader = await asyncio.to_thread(cluster.leader_of, "certes-lanes")
    await trouble.happens("the leader of the lanes was killed", leader.kill)
    await asyncio.to_thread(leader.restart)
    leader = await asyncio.to_thread(cluster.leader_of, "certes-journal")
    follower = next(server for server in cluster.servers if server is not leader)
    await trouble.happens("a follower was killed", follower.kill)
    await asyncio.to_thread(follower.restart)
    await trouble.happens("a server stood still", leader.freeze)
    await asyncio.to_thread(leader.thaw)


def taken_for_gone(brokers: Sequence[BrokerProcess]) -> list[int]:
    """How often each of them had to end since others had ended it."""
    return [broker.log.count(TAKEN_FOR_GONE) for broker in brokers]


def restart(brokers: Sequence[BrokerProcess]) -> None:
    at_once([broker.terminate for broker in brokers])
    at_once([partial(broker.start, PATIENCE) for broker in brokers])


def kill_and_start(cluster: NatsCluster) -> None:
    cluster.stop()
    cluster.start()
