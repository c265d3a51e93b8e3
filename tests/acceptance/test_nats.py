"""The broker with the engine on NATS: it is killed, its server is killed, the leader of its cluster is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import connected
from tests.acceptance.conftest import StartBroker
from tests.acceptance.consumer import Consumer, check_order
from tests.acceptance.github import CONFIG
from tests.acceptance.keyed import EVENTS, KEYS, events_of, refused_keys, taken_by_key
from tests.acceptance.load import Backlog, Publisher
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import SOON_AND_OFTEN
from tests.fakes.nats_servers import NatsCluster, NatsServer, running

PUBLISHERS = 2
EVENTS_BETWEEN_KILLS = 400


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(tmp_path / "nats") as cluster:
        yield cluster.servers[0]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path / "nats", size=3) as cluster:
        yield cluster


def settings(*servers: NatsServer) -> str:
    monitoring = ", ".join(f'"{server.monitoring}"' for server in servers)
    engine = "nats://" + ",".join(server.url.removeprefix("nats://") for server in servers)
    return f'engine = "{engine}"\n{CONFIG}\n[nats]\nmonitoring = [{monitoring}]\n'


class World:
    """Publishers and a consumer of one broker, and a wait for how much they have got done."""

    def __init__(self, publishers: list[Publisher], consumer: Consumer) -> None:
        self.publishers = publishers
        self.consumer = consumer
        self.accepted = 0
        """How many events the brokers have answered for."""
        self._counted = 0
        self._news = asyncio.Event()

    def count(self, what: str) -> None:
        if what == "accepted":
            self.accepted += 1
        elif what == "delivered":
            self._counted += 1
            self._news.set()

    async def more(self, events: int) -> None:
        """Waits until so many more have been delivered."""
        wanted = self._counted + events
        while self._counted < wanted:
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def under_load(
    *brokers: BrokerProcess, report: Callable[[str], None], publishers: int = PUBLISHERS, backlog: Backlog | None = None
) -> AsyncIterator[World]:
    """Runs publishers and a consumer while the block runs; then nothing must be missing, and every key in order.

    The consumer asks the first broker that it reaches, publishers the last. `backlog` is how much may be on its way.
    """
    backlog = backlog or Backlog(500)
    async with connected(*reversed(brokers)) as publishing, connected(*brokers) as consuming:
        name = await consuming.create_stream("all")
        world = World([], Consumer(consuming, name, random.Random(0), backlog=backlog))
        world.consumer.count = world.count
        world.publishers += [
            Publisher(
                publishing,
                [f"-p{number}", *(f"p{number}k{key}" for key in range(8))],
                random.Random(number),
                world.count,
                backlog,
                most_unanswered=1,
            )
            for number in range(publishers)
        ]
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(world.consumer.run())
            writing = [tasks.create_task(publisher.run()) for publisher in world.publishers]
            yield world
            for publisher in world.publishers:
                publisher.stopping = True
            await asyncio.gather(*writing)
            accepted = set[str]().union(*(publisher.accepted for publisher in world.publishers))
            await world.consumer.has(accepted)
            reading.cancel()
    consumer = world.consumer
    again = consumer.delivered.total() - len(consumer.delivered)
    found = sum(publisher.duplicates for publisher in world.publishers)
    report(f"{len(accepted)} events accepted, {again} delivered again, {found} found stored when their answer was lost")
    assert consumer.delivered.keys() == accepted
    assert consumer.came_again == set(), "the broker had answered that these were settled"
    check_order(consumer)


async def test_killed_again_and_again_it_delivers_all_that_it_accepted_in_each_keys_order(
    start_broker: StartBroker, server: NatsServer, report: Callable[[str], None]
) -> None:
    broker = start_broker(settings(server))
    async with under_load(broker, report=report) as world:
        for _ in range(3):
            await world.more(EVENTS_BETWEEN_KILLS)
            broker.kill9()
            await asyncio.to_thread(broker.start)
        await world.more(EVENTS_BETWEEN_KILLS)


async def test_its_server_may_be_killed_and_started_again_while_it_runs(
    start_broker: StartBroker, server: NatsServer, report: Callable[[str], None]
) -> None:
    broker = start_broker(settings(server))
    async with under_load(broker, report=report) as world:
        for _ in range(3):
            await world.more(EVENTS_BETWEEN_KILLS)
            server.kill()
            await asyncio.to_thread(server.restart)
        await world.more(EVENTS_BETWEEN_KILLS)


async def test_a_cluster_goes_on_when_its_leader_is_killed(
    start_broker: StartBroker, cluster: NatsCluster, report: Callable[[str], None]
) -> None:
    broker = start_broker(settings(*cluster.servers))
    async with under_load(broker, report=report) as world:
        await world.more(EVENTS_BETWEEN_KILLS)
        for stream in ("certes-journal", "certes-lanes"):
            leader = await asyncio.to_thread(cluster.leader_of, stream)
            leader.kill()
            await world.more(EVENTS_BETWEEN_KILLS)
            await asyncio.to_thread(leader.restart)
        await world.more(EVENTS_BETWEEN_KILLS)
    assert "guarantee_weaker" not in broker.log


async def test_what_waits_for_its_retry_survives_a_crash_and_still_goes_first(
    start_broker: StartBroker, server: NatsServer
) -> None:
    broker = start_broker(settings(server))
    async with connected(broker) as client, receiving() as receiver:
        await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status = 503
        await client.publish(events_of(1, EVENTS))
        await receiver.until(lambda: len(refused_keys(receiver)) == KEYS and min(refused_keys(receiver).values()) >= 2)
        await receiver.down()
        broker.kill9()
        await asyncio.to_thread(broker.start)
        receiver.status = 204
        await receiver.up()
        await receiver.until(lambda: len({one.event_id for one in receiver.taken}) == EVENTS * KEYS)
    assert taken_by_key(receiver) == {f"k{key}": list(range(1, EVENTS + 1)) for key in range(KEYS)}
