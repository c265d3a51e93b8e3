"""The engine on NATS keeps the port's promises, on a single server and on a cluster of three."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from certes_broker.engines.nats import Access, Limits, NatsEngine, Pace, Place
from certes_broker.engines.nats.connection import Refusal, connected
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Engine
from tests.contracts.engine_contract import EngineContract, SharedEngineContract
from tests.contracts.engine_contract_members import PATIENCE
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsCluster, running

_numbers = itertools.count(1)


class _Prefix:
    """A prefix of one test's own."""

    def __init__(self, cluster: NatsCluster) -> None:
        self.clock = ManualClock()
        self.place = Place(Access(cluster.urls), prefix=f"test{next(_numbers)}")

    async def clear(self) -> None:
        """Takes the streams of the prefix away: a cluster bears only so many."""
        async with connected(self.place.access) as connection:
            for stream in streams_of(self):
                with suppress(Refusal):  # It is gone already, where an answer was late and it was asked again.
                    await connection.try_api(f"STREAM.DELETE.{stream}")


class NatsHarness(_Prefix):
    """Opens engines under a prefix of their own, whose streams go when the test ends."""

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[NatsEngine]:
        limits = Limits(tail_entries=tail_entries, watch_changes=watch_changes, append_calls=append_calls)
        async with NatsEngine.open(self.place, self.clock, dedupe_window=WINDOW, limits=limits) as engine:
            yield engine


class SharedNatsHarness(_Prefix):
    """Opens engines under one prefix, who are quicker to take each other for gone than they should be elsewhere."""

    @asynccontextmanager
    async def open(self, *, stands_still: bool = False) -> AsyncIterator[NatsEngine]:
        pace = Pace(renewal=3_600.0 if stands_still else 0.1, current=0.5, ended=1.0 if stands_still else 2.0)
        async with NatsEngine.open(self.place, self.clock, limits=Limits(pace=pace), shared=True) as engine:
            yield engine

    async def ended(self, member: Engine, seen_by: Engine) -> None:
        async with asyncio.timeout(PATIENCE):
            async for living in seen_by.members.watch():
                if member.members.own not in living:
                    return


def streams_of(harness: _Prefix) -> tuple[str, ...]:
    names = Names(harness.place.prefix)
    return (names.journal, names.lanes, names.attempts, names.rejected, names.settings)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with running(tmp_path_factory.mktemp("nats")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with running(tmp_path_factory.mktemp("nats"), size=3) as cluster:
        yield cluster


class TestNatsEngineOnOneServer(EngineContract):
    @pytest.fixture
    async def harness(self, one_server: NatsCluster) -> AsyncIterator[NatsHarness]:
        harness = NatsHarness(one_server)
        yield harness
        await harness.clear()


class TestSharedNatsEngineOnOneServer(SharedEngineContract):
    @pytest.fixture
    async def harness(self, one_server: NatsCluster) -> AsyncIterator[SharedNatsHarness]:
        harness = SharedNatsHarness(one_server)
        yield harness
        await harness.clear()


class TestSharedNatsEngineOnACluster(SharedEngineContract):
    @pytest.fixture
    async def harness(self, three_servers: NatsCluster) -> AsyncIterator[SharedNatsHarness]:
        harness = SharedNatsHarness(three_servers)
        yield harness
        await harness.clear()


class TestNatsEngineOnACluster(EngineContract):
    @pytest.fixture
    async def harness(self, three_servers: NatsCluster) -> AsyncIterator[NatsHarness]:
        harness = NatsHarness(three_servers)
        yield harness
        await harness.clear()

    async def test_every_stream_has_three_replicas(self, harness: NatsHarness) -> None:
        async with harness.open(), connected(harness.place.access) as connection:
            for stream in streams_of(harness):
                assert (await connection.api(f"STREAM.INFO.{stream}"))["config"]["num_replicas"] == 3
