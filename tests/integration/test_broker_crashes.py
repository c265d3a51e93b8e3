"""A broker that crashes at any of its writes, before it or with its answer lost, and is started again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from certes_broker.domain.errors import CertesError
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import StreamDelivery
from certes_broker.engines.nats import Access
from tests.fakes.broker_world import (
    URL,
    OpenEngine,
    Reader,
    World,
    nats_engine,
    one_memory_engine,
    ping,
    sqlite_engine,
)
from tests.fakes.nats_servers import NatsCluster, running
from tests.fakes.scripted_sender import Answers

STEPS = 40


class Load:
    """Somebody who publishes, reads and acknowledges, and remembers what he was answered."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._reader: Reader | None = None
        self._number = 0
        self._looked = 0
        self.accepted: set[str] = set()
        self.settled: set[str] = set()
        """What an answered acknowledgement was about."""
        self.given_up: set[str] = set()
        """What an acknowledgement without an answer was about: it may come again or not."""
        self.seen: set[str] = set()
        self.duplicates = 0

    async def step(self) -> None:
        """Does one thing. If the broker crashes meanwhile, starts the next one."""
        actions = [self._publish, self._publish, self._settle, self._settle, self._fail, self._reopen, self._wait]
        try:
            await self._chance.choice(actions)()
        except CertesError:
            assert self._world.engine.has_crashed
        if self._world.engine.has_crashed:
            await self._restart()

    async def finish(self) -> None:
        """Reads and acknowledges until nothing is left."""
        for _ in range(300):
            await self._settle()
            await self._world.advance(20)
            if self.accepted <= self.settled | self.given_up and not self._unsaid():
                return

    async def _restart(self) -> None:
        await self._world.quiet_or_dead()
        self._look()
        await self._world.restart()
        self._reader = None

    async def _publish(self) -> None:
        names = [f"e{self._number + index}" for index in range(self._chance.randint(1, 4))]
        self._number += len(names)
        await self._world.publish(*[ping(name, ordering_key=self._chance.choice(["", "", "k"])) for name in names])
        self.accepted |= set(names)

    async def _settle(self) -> None:
        reader = await self._reading()
        out = reader.out
        self._chance.shuffle(out)
        for one in out[: self._chance.randint(1, 4)]:
            self.given_up.add(one.id)
            await reader.ack(one.ordinal)
            if self._world.engine.has_crashed:
                # Nobody heard that answer.
                return
            self.given_up.discard(one.id)
            self.settled.add(one.id)

    async def _fail(self) -> None:
        reader = await self._reading()
        for one in reader.out[:1]:
            await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.RETRY, 5.0, ""))

    async def _reopen(self) -> None:
        if self._reader is not None:
            self._look()
            reader, self._reader = self._reader, None
            await reader.close()

    async def _wait(self) -> None:
        await self._world.advance(self._chance.choice([1, 5]))

    async def _reading(self) -> Reader:
        if self._reader is None:
            self._reader = await self._world.open(most=8)
            self._looked = 0
        await self._world.quiet_or_dead()
        self._look()
        return self._reader

    def _unsaid(self) -> list[object]:
        return [] if self._reader is None else list(self._reader.out)

    def _look(self) -> None:
        if self._reader is None:
            return
        for one in self._reader.got[self._looked :]:
            assert one.id not in self.settled, f"{one.id} was settled, and came again"
            self.duplicates += one.id in self.seen
            self.seen.add(one.id)
        self._looked = len(self._reader.got)


async def play(open_engine: OpenEngine, seed: int) -> None:
    chance = random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        world = World(open_engine, tasks)
        await world.start()
        try:
            await world.create(delivery=StreamDelivery(ack_deadline=100_000.0))
            world.sender.script(URL, *[Answers(chance.choice([200, 200, 500])) for _ in range(20)], Answers())
            await world.create_webhook()
            load = Load(world, chance)
            for _ in range(STEPS):
                if chance.random() < 0.2:
                    world.engine.crash_at(chance.randint(1, 6), done=chance.random() < 0.5)
                await load.step()
            if world.engine.has_crashed:
                await world.restart()
            world.engine.crash_at(0, done=False)
            await load.finish()
            assert load.accepted - load.settled - load.given_up == set()
            for _ in range(100):
                if not unsent(world, load.accepted):
                    break
                await world.advance(600)
            assert unsent(world, load.accepted) == []
        finally:
            await world.leave()


def unsent(world: World, accepted: set[str]) -> list[str]:
    """Which events the webhook's receiver has never seen."""
    sent = b"".join(request.body for request in world.sender.requests)
    return [name for name in accepted if f'"id":"{name}"'.encode() not in sent]


@pytest.mark.parametrize("seed", range(40))
async def test_nothing_accepted_is_lost_and_nothing_settled_comes_again_in_memory(seed: int) -> None:
    await play(one_memory_engine(), seed)


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_accepted_is_lost_and_nothing_settled_comes_again_in_sqlite(seed: int, tmp_path: Path) -> None:
    await play(sqlite_engine(tmp_path / "data"), seed)


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with running(tmp_path_factory.mktemp("nats")) as cluster:
        yield cluster


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_accepted_is_lost_and_nothing_settled_comes_again_in_nats(seed: int, nats: NatsCluster) -> None:
    await play(nats_engine(Access(nats.urls), f"seed{seed}"), seed)
