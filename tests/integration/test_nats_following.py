"""Following what others store, while servers make no consumers, or a replica does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from certes_broker.domain.events import BEGINNING
from certes_broker.engines.nats import Access, NatsEngine, Place
from tests.contracts.engine_contract_members import lives
from tests.contracts.engine_harness import PLENTY, event
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsServer, running

PATIENCE = 60.0
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


async def test_what_another_stores_is_followed_where_no_consumer_is_to_be_had_and_no_replica_answers(
    mute: NatsServer,
) -> None:
    place = Place(Access((mute.url.replace("//", "//certes:certes@"),)))
    clock = ManualClock()
    async with (
        NatsEngine.open(place, clock, shared=True) as one,
        NatsEngine.open(place, clock, shared=True) as other,
        asyncio.timeout(PATIENCE),
    ):
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
