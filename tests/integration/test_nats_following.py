"""Following what others store, and starting, while servers make no consumers, or a replica does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certes_broker.domain.events import BEGINNING
from certes_broker.engines.nats import Access, Limits, NatsEngine, Pace, Place
from tests.contracts.engine_contract_members import lives
from tests.contracts.engine_harness import PLENTY, event
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsServer, running

PATIENCE = 60.0
DEFAULT_PACE = Pace()
DOCUMENTS = 120
"""Of settings, of which a replica that does not answer is asked for every sixteenth, for half a second."""
MUTE = """
    authorization {
      users: [{
        user: certes, password: certes
        permissions: {publish: {allow: ">", deny: ["$JS.API.CONSUMER.CREATE.>", "$JS.API.DIRECT.GET.>"]}}
      }]
    }
"""
"""What is not allowed is not answered either."""


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that answers neither who wants a consumer nor who asks a replica."""
    with running(tmp_path, settings=MUTE) as cluster:
        yield cluster.servers[0]


@asynccontextmanager
async def opened(server: NatsServer, pace: Pace = DEFAULT_PACE) -> AsyncIterator[NatsEngine]:
    place = Place(Access((server.url.replace("//", "//certes:certes@"),)))
    async with NatsEngine.open(place, ManualClock(), limits=Limits(pace=pace), shared=True) as engine:
        yield engine


async def test_what_another_stores_is_followed_where_no_consumer_is_to_be_had_and_no_replica_answers(
    mute: NatsServer,
) -> None:
    async with asyncio.timeout(PATIENCE), opened(mute) as one, opened(mute) as other:
        await lives(one, other)
        tail, changes = other.journal.tail(), other.settings.watch("")
        ids = [f"e{number}" for number in range(40)]
        for name in ids:
            await one.journal.append([event(name)])
        await one.settings.put("key", b"body")
        seen: list[str] = []
        while len(seen) < len(ids):
            seen += [entry.event.id for entry in await anext(tail)]
        assert seen == ids
        assert (await anext(changes)).body == b"body"
        page = await other.journal.read(BEGINNING, PLENTY, PLENTY)
        assert [entry.event.id for entry in page.entries] == ids
        assert (await other.journal.append([event(ids[-1])]))[0].duplicate


async def test_a_member_that_takes_longer_to_start_than_others_wait_for_it_is_not_taken_for_gone(
    mute: NatsServer,
) -> None:
    pace = Pace(renewal=0.1, current=0.5, ended=1.0)
    async with asyncio.timeout(PATIENCE), opened(mute, pace) as one:
        for number in range(DOCUMENTS):
            await one.settings.put(f"key{number}", b"body")
        began = asyncio.get_running_loop().time()
        async with opened(mute, pace) as other:
            assert asyncio.get_running_loop().time() - began > 2 * pace.ended, "it has to read for long"
            await lives(one, other)
            await other.journal.append([event("e")])
            assert other.members.own in one.members.living
