"""The engine on NATS keeps the port's promises, on a single server and on a cluster of three."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from certes_broker.engines.nats import Access, Limits, NatsEngine, Place
from tests.contracts.engine_contract import EngineContract
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsCluster, running

_numbers = itertools.count(1)


class NatsHarness:
    """Opens engines under a prefix of their own, whose streams go when the test ends."""

    def __init__(self, cluster: NatsCluster) -> None:
        self.clock = ManualClock()
        self.place = Place(Access(cluster.urls), prefix=f"test{next(_numbers)}")

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[NatsEngine]:
        limits = Limits(tail_entries=tail_entries, watch_changes=watch_changes, append_calls=append_calls)
        async with NatsEngine.open(self.place, self.clock, dedupe_window=WINDOW, limits=limits) as engine:
            yield engine


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
    def harness(self, one_server: NatsCluster) -> NatsHarness:
        return NatsHarness(one_server)


class TestNatsEngineOnACluster(EngineContract):
    @pytest.fixture
    def harness(self, three_servers: NatsCluster) -> NatsHarness:
        return NatsHarness(three_servers)
