"""Several engines on one prefix lose nothing, whatever the servers do, and agree on what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import BEGINNING, Entry
from certes_broker.engines.nats import Access, Pace
from certes_broker.engines.nats.connection import connected
from certes_broker.engines.nats.publishing import ROLLUP, Message, Publisher
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Engine
from tests.contracts.engine_contract_members import A, B, lives
from tests.contracts.engine_harness import PLENTY, event
from tests.fakes.nats_servers import NatsCluster, NatsServer, running
from tests.integration.test_nats_faults import Load, all_through_trouble, opened

PATIENCE = 90.0


# The client does not close a connection to a frozen server that it gave up making.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[NatsServer]:
    with running(tmp_path) as cluster:
        yield cluster.servers[0]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path, size=3) as cluster:
        yield cluster


class Team:
    """Two engines under load, each with what came by its tail."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = engines
        self.loads = [Load(engine, name, lane) for engine, name, lane in zip(engines, "ab", (A, B), strict=True)]
        self._tails = [engine.journal.tail() for engine in engines]
        self._came: list[list[Entry]] = [[], []]
        self._news = asyncio.Condition()

    async def through_trouble(self, trouble: Awaitable[None]) -> None:
        """Runs the loads before, during and after some trouble, and returns when all that was accepted has come by."""
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            following = [
                tasks.create_task(self._follow(tail, came)) for tail, came in zip(self._tails, self._came, strict=True)
            ]
            await all_through_trouble(self.loads, trouble)
            wanted = max(position for load in self.loads for position in load.accepted.values())
            async with self._news:
                await self._news.wait_for(lambda: all(came[-1].position >= wanted for came in self._came))
            for task in following:
                task.cancel()

    async def _follow(self, tail: AsyncIterator[Sequence[Entry]], came: list[Entry]) -> None:
        async for entries in tail:
            came += entries
            async with self._news:
                self._news.notify_all()

    async def assert_agreed(self) -> None:
        """Each engine has all that either accepted, once, and its tail had it in the order of the journal."""
        refused = set[str]().union(*(load.refused for load in self.loads))
        accepted = {one: position for load in self.loads for one, position in load.accepted.items()}
        for engine, came in zip(self.engines, self._came, strict=True):
            entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
            found = {entry.event.id: entry.position for entry in entries}
            assert len(found) == len(entries)
            assert accepted.items() <= found.items()
            assert found.keys() <= accepted.keys() | refused
            positions = [entry.position for entry in came]
            assert positions == [entry.position for entry in entries][: len(positions)]
            for load in self.loads:
                (cursor,) = await engine.cursors.load([load.lane])
                assert cursor is not None
                assert cursor.state.floor >= load.settled > BEGINNING


@asynccontextmanager
async def team(*servers: NatsServer) -> AsyncIterator[Team]:
    async with opened(*servers, shared=True) as one, opened(*servers, shared=True) as two:
        await lives(one, two)
        yield Team((one, two))


async def test_two_engines_lose_nothing_when_the_leader_of_their_servers_is_killed(three: NatsCluster) -> None:
    async with team(*three.servers) as both:

        async def kill() -> None:
            leader = await asyncio.to_thread(three.leader_of, "certes-journal")
            leader.kill()
            await asyncio.to_thread(three.leader_of, "certes-journal")
            await asyncio.to_thread(leader.restart)

        await both.through_trouble(kill())
        await both.assert_agreed()
        one, two = both.engines
        assert one.members.living == two.members.living == {one.members.own, two.members.own}


async def test_two_engines_lose_nothing_when_their_only_server_is_killed(one: NatsServer) -> None:
    async with team(one) as both:

        async def kill() -> None:
            one.kill()
            await asyncio.to_thread(one.restart)

        await both.through_trouble(kill())
        await both.assert_agreed()


async def test_members_that_cannot_reach_the_servers_are_not_current_and_end_nobody(one: NatsServer) -> None:
    quick = Pace(renewal=0.1, current=0.5, ended=1.0)
    async with opened(one, pace=quick, shared=True) as engine, opened(one, pace=quick, shared=True) as other:
        both = {engine.members.own, other.members.own}
        one.freeze()
        try:
            appends = (member.journal.append([event("meanwhile")]) for member in (engine, other))
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
            assert not engine.members.is_current()
            assert not other.members.is_current()
        finally:
            one.thaw()
        async with asyncio.timeout(50):
            while not (engine.members.is_current() and other.members.is_current()):
                await engine.journal.append([event("after")])
        await other.journal.append([event("later")])
        assert engine.members.living == other.members.living == both


async def test_of_members_that_are_silent_one_without_a_connection_is_taken_for_gone_sooner(one: NatsServer) -> None:
    names = Names("certes")
    async with opened(one):
        """The streams are made."""
    async with connected(Access((one.url,))) as connection, asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        await connection.client.subscribe(names.notices("connected"))
        for member in ("connected", "killed"):
            await Publisher(connection).store(Message(names.member(member), b'{"host":"h","pid":1}', ROLLUP))

        async def wait_for_both() -> None:
            async with opened(one, pace=Pace(renewal=0.1, ended=3_600.0, unconnected=0.5), shared=True):
                raise AssertionError("one of them is connected, and may stand still for an hour")

        waiting = tasks.create_task(wait_for_both())
        reader = Reader(connection, names.lanes)
        while await reader.last(names.member("killed")) is not None:
            """It is known to be silent for an hour only when that has passed."""
        assert await reader.last(names.member("connected")) is not None
        waiting.cancel()


async def test_engines_that_open_a_new_prefix_at_once_share_it(one: NatsServer) -> None:
    async def append() -> bool:
        async with opened(one, shared=True) as engine:
            return (await engine.journal.append([event("a")]))[0].duplicate

    # They know each other's ids only where they have the same secret.
    async with asyncio.timeout(PATIENCE):
        assert sorted(await asyncio.gather(append(), append(), append())) == [False, True, True]
